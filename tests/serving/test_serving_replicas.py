"""Several servers behind one name: each is addressed directly, none is forgotten. Two real Tritons, one repository."""

from __future__ import annotations

import functools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.errors import GateFailedError, ServerUnavailableError, UsageError
from privseg.serving import repository as repository_module
from privseg.serving.admin import Endpoint
from privseg.serving.exam import Exam
from privseg.serving.history import read_history
from privseg.serving.local_triton import LocalTriton
from privseg.serving.replicas import resolve
from privseg.serving.repository import current, list_versions, roll_back
from privseg.serving.repository import publish as publish_and_try
from privseg.serving.verification import verify_live
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

NAME = "dns:///triton-headless:8001"
PICTURE = np.random.default_rng(1).integers(1, 255, (1, 64, 96, 3), dtype=np.uint8)
publish = functools.partial(publish_and_try, skip_smoke_load="not what is tested")


class Names:
    """What the headless service's name resolves to; only the name service is not real here."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self._real = socket.getaddrinfo

    def getaddrinfo(self, host: str, port: int, *rest: Any, **named: Any) -> Any:
        if (host, port) != ("triton-headless", 8001):
            return self._real(host, port, *rest, **named)
        if not self.urls:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        pairs = [url.rpartition(":") for url in self.urls]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, int(port))) for host, _, port in pairs]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("replicas"), kind=None) as served:
        yield served


@pytest.fixture(scope="module")
def second(first: ServedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    served = ServedModel(first.repository, tmp_path_factory.mktemp("second"))
    yield served
    served.kill()


@pytest.fixture
def names(first: ServedModel, second: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """Both are named, and both serve ``bright``."""
    names = Names()
    names.urls = [first.grpc_url, second.grpc_url]
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    publish(first.repository, model(tmp_path, "bright"), endpoints=[NAME], skip_smoke_load="tried elsewhere")
    return names


def model(folder: Path, kind: Kind) -> Path:
    make_person_model(folder / kind, kind=kind)
    return folder / kind


def assert_serves(url: str, kind: str, version: int | None) -> None:
    with Endpoint(url) as endpoint:
        person, answered_by = endpoint.infer(PICTURE)
    assert answered_by == version
    np.testing.assert_array_equal(person, PICTURE[..., 0] if kind == "bright" else 255 - PICTURE[..., 0])


def test_a_name_gives_every_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("10.0.0.2", 8001), ("10.0.0.1", 8001), ("10.0.0.1", 8001), ("fd00::7", 8001, 0, 0)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", address) for address in found])
    addresses = ["10.0.0.1:8001", "10.0.0.2:8001", "[fd00::7]:8001"]
    assert resolve(["door:9001", "dns:///triton:8001", "10.0.0.2:8001"]) == ["door:9001", *addresses]


@pytest.mark.parametrize("endpoint", ["dns:///triton", "dns:///:8001", "dns:///triton:grpc", "dns:///triton:²"])
def test_a_name_without_a_port_is_a_mistake(endpoint: str) -> None:
    with pytest.raises(UsageError, match=r"write dns:///triton-headless:8001"):
        resolve([endpoint])


def test_a_name_that_cannot_be_one_resolves_to_nothing() -> None:
    with pytest.raises(ServerUnavailableError, match="resolves to no address"):
        resolve([f"dns:///{'a' * 64}.example:8001"])


def test_this_machine_has_an_address() -> None:
    assert "127.0.0.1:8001" in resolve(["dns:///localhost:8001"])


def test_a_publication_and_a_roll_back_reach_every_replica(first: ServedModel, names: Names, tmp_path: Path) -> None:
    before = current(first.repository)
    published = publish(
        first.repository, model(tmp_path, "inverse"), endpoints=[NAME], skip_smoke_load="tried elsewhere"
    )
    assert published.replicas == tuple(sorted(names.urls))
    for url in names.urls:
        assert_serves(url, "inverse", published.version)
    assert [finding.error for finding in verify_live(first.repository, [NAME])] == [None, None]
    assert roll_back(first.repository, endpoints=[NAME]) == before
    for url in names.urls:
        assert_serves(url, "bright", before)


def test_a_replica_that_dies_meanwhile_takes_the_version_back_on_the_others(
    first: ServedModel, second: ServedModel, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_versions(first.repository)
    activate = repository_module.activate

    def activate_then_kill_the_other(server: Endpoint, version: int, exam: Exam) -> None:
        activate(server, version, exam)
        if server.url == first.grpc_url:
            second.kill()

    names.urls.sort(key=lambda url: url != first.grpc_url)
    monkeypatch.setattr(repository_module, "activate", activate_then_kill_the_other)
    endpoints = names.urls
    try:
        with pytest.raises(ServerUnavailableError, match=f"version {before[-1]} serves again, but not confirmed on"):
            publish(
                first.repository, model(tmp_path, "inverse"), endpoints=endpoints, skip_smoke_load="tried elsewhere"
            )
    finally:
        second.restart()
    assert list_versions(first.repository) == before
    for url in endpoints:
        assert_serves(url, "bright", before[-1])


def test_a_replica_that_refuses_keeps_the_old_version_on_all(first: ServedModel, names: Names, tmp_path: Path) -> None:
    """Its disk is another one: it never sees the new version, and goes on with what it has."""
    before = list_versions(first.repository)
    stale = tmp_path / "stale"
    publish(stale, tmp_path / "bright", endpoints=[], skip_smoke_load="tried elsewhere")
    with LocalTriton(stale, tmp_path / "state") as other:
        running = other.status()
        assert running is not None
        endpoints = [*names.urls, running.grpc_url]
        with pytest.raises(GateFailedError, match=rf"{running.grpc_url}: version \d+ was taken back"):
            publish(
                first.repository, model(tmp_path, "inverse"), endpoints=endpoints, skip_smoke_load="tried elsewhere"
            )
        assert_serves(running.grpc_url, "bright", 1)
    assert list_versions(first.repository) == before
    for url in names.urls:
        assert_serves(url, "bright", before[-1])
    event = read_history(first.repository)[-1]
    assert event["event"] == "taken_back"
    assert running.grpc_url in event["reason"]


def test_replicas_that_come_and_go_meanwhile_are_noticed(
    first: ServedModel, second: ServedModel, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate, away = repository_module.activate, "127.0.0.1:9"

    def change_and_activate(server: Endpoint, version: int, exam: Exam) -> None:
        names.urls = [first.grpc_url, second.grpc_url]
        activate(server, version, exam)

    names.urls = [first.grpc_url, away]
    monkeypatch.setattr(repository_module, "activate", change_and_activate)
    monkeypatch.setattr(Endpoint, "require_live", lambda _: None)  # it was there a moment ago
    published = publish(
        first.repository, model(tmp_path, "inverse"), endpoints=[NAME], skip_smoke_load="tried elsewhere"
    )
    assert str(published.changes) == f"{second.grpc_url} came meanwhile; {away} went meanwhile"
    for url in names.urls:
        assert_serves(url, "inverse", published.version)
    event = read_history(first.repository)[-1]
    assert (event["came"], event["gone"]) == ([second.grpc_url], [away])


def test_a_name_that_leads_nowhere_changes_nothing(first: ServedModel, names: Names, tmp_path: Path) -> None:
    before = list_versions(first.repository)
    names.urls = []
    with pytest.raises(ServerUnavailableError, match="resolves to no address"):
        publish(first.repository, model(tmp_path, "inverse"), endpoints=[NAME], skip_smoke_load="tried elsewhere")
    assert list_versions(first.repository) == before
