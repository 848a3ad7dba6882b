"""Raw frames leave the machine encrypted, or not at all."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError
from tritonclient.grpc import service_pb2, service_pb2_grpc

from privseg.errors import ServerUnavailableError, UsageError
from privseg.streaming.channel import Tls
from privseg.streaming.config import TritonConfig
from privseg.streaming.segmenter_triton import TritonSegmenter

HERE = [
    "127.0.0.1:8001", "127.9.9.9", "localhost:8001", "LOCALHOST", "[::1]:8001", "::1", "dns:///localhost:8001",
    "dns:localhost", "ipv4:127.0.0.1:8001,127.0.0.2:8001", "ipv6:[::1]:8001", "unix:/run/triton.sock",
]  # fmt: skip
ELSEWHERE = [
    "10.0.0.5:8001", "triton:8001", "dns:///triton:8001", "[fe80::1]:8001", "0.0.0.0:8001", "127.0.0.1.example.org:1",
    "ipv4:127.0.0.1:8001,10.0.0.5:8001", "dns://10.0.0.5/localhost:8001", "localhost.example.org", "xds:///localhost",
]  # fmt: skip


@pytest.mark.parametrize("url", HERE)
def test_this_machine_is_spoken_to_in_clear(url: str) -> None:
    TritonSegmenter(url).close()
    assert TritonConfig(url=url).tls is None


@pytest.mark.parametrize("url", ELSEWHERE)
def test_another_machine_is_not(url: str) -> None:
    with pytest.raises(UsageError, match="in clear"):
        TritonSegmenter(url)
    with pytest.raises(UsageError, match=r"triton\.insecure"):
        TritonConfig(url=url)
    TritonSegmenter(url, insecure=True).close()
    TritonSegmenter(url, tls=Tls()).close()
    assert TritonConfig(url=url, ssl=True).tls == Tls()
    assert TritonConfig(url=url, insecure=True).tls is None


@pytest.mark.parametrize("fields", [{"root_certificates": "ca.pem"}, {"ssl": True, "private_key": "key.pem"}])
def test_files_that_would_not_be_used_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TritonConfig.model_validate(fields)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.pem"):
        TritonSegmenter("10.0.0.5:8001", tls=Tls(tmp_path / "none.pem"))


class Ready(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def ModelReady(self, _request: object, _context: object) -> object:
        return service_pb2.ModelReadyResponse(ready=True)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and the certificate it signed itself, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "triton")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return tmp_path / "key.pem", tmp_path / "cert.pem"


@pytest.fixture
def encrypted(certificate: tuple[Path, Path]) -> Iterator[str]:
    """Where a server answers that also asks who calls."""
    key, chain = (file.read_bytes() for file in certificate)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Ready(), server)
        credentials = grpc.ssl_server_credentials([(key, chain)], chain, require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def test_an_encrypted_server_answers_whom_it_knows(encrypted: str, certificate: tuple[Path, Path]) -> None:
    key, chain = certificate
    with TritonSegmenter(encrypted, tls=Tls(chain, key, chain)) as segmenter:
        segmenter.check_ready()
    for stranger in (Tls(chain), Tls(), None):
        with TritonSegmenter(encrypted, tls=stranger) as segmenter, pytest.raises(ServerUnavailableError):
            segmenter.check_ready()
