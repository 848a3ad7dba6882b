"""Servers that others run: encrypted, asking who calls, and wanting a key before anything is loaded."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from privseg import pipeline, publishing
from privseg.cli import app
from privseg.errors import ServerUnavailableError, UsageError
from privseg.params import PARAMS_FILE, read_params_file
from privseg.serving.access import Access
from privseg.serving.admin import Endpoint
from privseg.serving.local_triton import LocalTriton
from privseg.serving.replicas import resolve
from privseg.serving.versions import list_versions
from privseg.testing.authority import Authority
from privseg.testing.triton import make_person_model
from privseg.triton_channel import Tls

NAME, KEY = "triton-headless", "only-the-publisher-knows"


def test_the_environment_says_how_servers_are_spoken_to() -> None:
    assert Access.from_environment({}) == Access()
    assert Access.from_environment({"PRIVSEG_TRITON_TLS": "0", "PRIVSEG_TRITON_INSECURE": "true"}).insecure
    given = {
        "PRIVSEG_TRITON_TLS": "1",
        "PRIVSEG_TRITON_ADMIN_KEY": KEY,
        "PRIVSEG_TRITON_ROOT_CERTIFICATES": "ca.pem",
        "PRIVSEG_TRITON_PRIVATE_KEY": "key.pem",
        "PRIVSEG_TRITON_CERTIFICATE_CHAIN": "me.pem",
    }
    access = Access.from_environment(given)
    assert access == Access(KEY, Tls(Path("ca.pem"), Path("key.pem"), Path("me.pem")))
    assert KEY not in repr(access)


@pytest.mark.parametrize(
    "given",
    [
        {"PRIVSEG_TRITON_TLS": "yes please"},
        {"PRIVSEG_TRITON_ROOT_CERTIFICATES": "ca.pem"},
        {"PRIVSEG_TRITON_ADMIN_KEY": "clé"},
        {"PRIVSEG_TRITON_ADMIN_KEY": "two\nlines"},
        {"PRIVSEG_TRITON_TLS": "1", "PRIVSEG_TRITON_PRIVATE_KEY": "key.pem"},
        {"PRIVSEG_TRITON_TLS": "1", "PRIVSEG_TRITON_CERTIFICATE_CHAIN": "me.pem"},
    ],
)
def test_what_would_not_be_used_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="PRIVSEG_TRITON_"):
        Access.from_environment(given)


def test_the_admin_key_goes_to_another_machine_encrypted_or_not_at_all() -> None:
    with pytest.raises(UsageError, match="in clear") as caught:
        Endpoint("192.0.2.7:8001", Access(KEY))
    assert KEY not in str(caught.value)
    Endpoint("127.0.0.1:8001", Access(KEY)).close()
    Endpoint("192.0.2.7:8001", Access(KEY, insecure=True)).close()
    Endpoint("192.0.2.7:8001", Access(KEY, tls=Tls())).close()


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Authority, Path]]:
    """A Triton behind a name, whose certificate bears that name only; it asks who calls, and for the admin key."""
    authority = Authority(tmp_path / "authority", NAME, local=False)
    pair, repository = authority.issue("server"), tmp_path / "repository"
    arguments = (
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={pair.certificate}",
        f"--grpc-server-key={pair.key}",
        f"--grpc-root-cert={authority.root}",
        f"--grpc-restricted-protocol=model-repository:admin-key={KEY}",
    )
    server = LocalTriton(repository, tmp_path / "state", extra_arguments=arguments)
    running = server.start()
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **named: Any) -> Any:
        if host != NAME:
            return resolve(host, *rest, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", running.grpc_port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(repository))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", f"dns:///{NAME}:8001")
    try:
        yield authority, tmp_path
    finally:
        server.kill()


def introduce(authority: Authority, monkeypatch: pytest.MonkeyPatch, **other: str) -> None:
    me = authority.issue("publisher")
    values = {
        "TLS": "1",
        "ROOT_CERTIFICATES": str(authority.root),
        "PRIVATE_KEY": str(me.key),
        "CERTIFICATE_CHAIN": str(me.certificate),
        "ADMIN_KEY": KEY,
    }
    for name, value in (values | other).items():
        monkeypatch.setenv(f"PRIVSEG_TRITON_{name}", value)


def test_whom_the_servers_know_publishes_verifies_audits_and_rolls_back(
    sealed: tuple[Authority, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, home = sealed
    introduce(authority, monkeypatch)
    for kind in ("inverse", "bright"):
        make_person_model(home / kind, kind=kind)  # type: ignore[arg-type]
        publishing.promote(home, home / kind, skip_smoke_load="not what is tested")
    assert list_versions(home / "repository") == [1, 2]
    verified = CliRunner().invoke(app, ["model", "verify", "--live", "--json", "--home", str(home)])
    assert verified.exit_code == 0, verified.output
    assert [found["fault"] for found in json.loads(verified.stdout)] == [None, None, None]
    (home / "workspace").mkdir()
    lenient = {"clips": 1, "frames": 2, "min_person_recall": 0, "max_leak_frame_ratio": 1, "max_background_covered": 1}
    rules = read_params_file(PARAMS_FILE) | {"audit": lenient}
    (home / "workspace" / "params.yaml").write_text(yaml.safe_dump(rules))
    found = pipeline.audit(str(home))
    assert (found["replicas"], found["withheld"], found["breaches"]) == (1, 0, [])
    assert publishing.roll_back(home, reason="tried") == 1
    written = [file.read_text(errors="replace") for file in (home / "repository").rglob("*") if file.is_file()]
    assert not any(KEY in text for text in written)


def test_a_server_with_a_certificate_of_another_name_gets_nothing(
    sealed: tuple[Authority, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, home = sealed
    introduce(authority, monkeypatch)
    make_person_model(home / "bright")
    (url,) = resolve([f"dns:///{NAME}:8001"])
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", url)  # its certificate bears the name, not the number
    with pytest.raises(ServerUnavailableError, match=r"PRIVSEG_TRITON_TLS"):
        publishing.promote(home, home / "bright", skip_smoke_load="not what is tested")
    assert list_versions(home / "repository") == []


def test_whom_they_do_not_know_is_refused_in_one_clear_line(
    sealed: tuple[Authority, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, home = sealed
    make_person_model(home / "bright")
    stranger = Authority(home / "stranger").issue("publisher")
    wrong = [
        {"TLS": "0", "ROOT_CERTIFICATES": "", "PRIVATE_KEY": "", "CERTIFICATE_CHAIN": ""},
        {"PRIVATE_KEY": str(stranger.key), "CERTIFICATE_CHAIN": str(stranger.certificate)},
        {"ADMIN_KEY": "a guess"},
    ]
    for other in wrong:
        introduce(authority, monkeypatch, **other)
        with pytest.raises(ServerUnavailableError, match=r"admin key|PRIVSEG_TRITON_TLS") as caught:
            publishing.promote(home, home / "bright", skip_smoke_load="not what is tested")
        assert "\n" not in str(caught.value)
        assert KEY not in str(caught.value)
        assert list_versions(home / "repository") == []
