"""A real Triton that encrypts, and one that also asks who calls."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.local_triton import LocalTriton
from privseg.streaming.channel import Tls
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import directory_finder
from privseg.testing.triton import make_person_model

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, as files."""

    key: Path
    certificate: Path


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, folder.name)])
        self.root = self.sign("root", self._key, self._name).certificate

    def issue(self, name: str) -> Pair:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        return self.sign(name, ec.generate_private_key(ec.SECP256R1()), subject)

    def sign(self, name: str, key: ec.EllipticCurvePrivateKey, subject: x509.Name) -> Pair:
        now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(1)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        signed = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=name == "root", path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )  # fmt: skip
        pair = Pair(self._folder / f"{name}.key", self._folder / f"{name}.pem")
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        pair.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return pair


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours") / "authority")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("strangers") / "authority")


@pytest.fixture(scope="module", params=["", "-mutual"])
def mutual(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def url(mutual: bool, ours: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("triton")
    make_person_model(folder / "repository" / MODEL_NAME / "1")
    pair = ours.issue("server")
    arguments = (
        f"--grpc-use-ssl{'-mutual' if mutual else ''}=true",
        f"--grpc-server-cert={pair.certificate}",
        f"--grpc-server-key={pair.key}",
        f"--grpc-root-cert={ours.root}",
    )
    server = LocalTriton(folder / "repository", folder / "state", extra_arguments=arguments)
    try:
        yield server.start().grpc_url
    finally:
        server.kill()


def ask(segmenter: TritonSegmenter) -> None:
    segmenter.check_ready()
    for number, level in enumerate((40, 90)):
        segmenter.submit(number, np.full((1, 64, 96, 3), level, np.uint8))
        assert (segmenter.result(number).probability == level).all()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_whom_it_knows_is_answered(url: str, mutual: bool, ours: Authority, stream: bool, shared: bool) -> None:
    me = ours.issue("gateway")
    tls = Tls(ours.root, me.key, me.certificate) if mutual else Tls(ours.root)
    for address in (url, url.replace("127.0.0.1", "dns:///localhost")):
        memory = directory_finder("auto" if shared else "off", address)
        with TritonSegmenter(address, deadline_seconds=60, tls=tls, stream=stream, shared_memory=memory) as segmenter:
            ask(segmenter)
            assert (segmenter.shared_answers > 0) == shared


def test_whom_it_does_not_know_is_refused_in_one_clear_line(
    url: str, mutual: bool, ours: Authority, strangers: Authority
) -> None:
    stranger = strangers.issue("gateway")
    wrong = [None, Tls(strangers.root)]
    if mutual:
        wrong += [Tls(ours.root), Tls(ours.root, stranger.key, stranger.certificate)]
    for tls in wrong:
        with TritonSegmenter(url, deadline_seconds=10, tls=tls) as segmenter:
            with pytest.raises(ServerUnavailableError) as caught:
                segmenter.check_ready()
            assert "\n" not in str(caught.value)
            assert url in str(caught.value)
            assert "root_certificates" in str(caught.value)
            segmenter.submit(0, np.full((1, 64, 96, 3), 9, np.uint8))
            with pytest.raises(NoAnswer) as withheld:
                segmenter.result(0)
            assert withheld.value.reason in {Withheld.SERVER_GONE, Withheld.LATE}
