"""What a server that starts finds in its repository: nothing unchecked is served."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from privseg.serving import versions as versions_module
from privseg.serving.admin import Endpoint
from privseg.serving.local_triton import LocalTriton
from privseg.serving.repository import list_versions, publish
from privseg.serving.versions import Store
from privseg.testing.triton import ServedModel, make_person_model, running_triton

PICTURE = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)


def assert_serves_the_first(triton: ServedModel) -> None:
    with Endpoint(triton.grpc_url) as endpoint:
        person, version = endpoint.infer(PICTURE)
    assert version == 1
    np.testing.assert_array_equal(person, np.maximum(PICTURE[..., 0], 1))


def test_publishing_to_the_disk_alone_serves_the_next_start(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    make_person_model(tmp_path / "inverse", kind="inverse")
    assert publish(repository, tmp_path / "inverse", endpoints=[], skip_smoke_load="tried elsewhere").version == 1
    with LocalTriton(repository, tmp_path / "state") as server:
        running = server.status()
        assert running is not None
        assert running.versions == (1,)
        with Endpoint(running.grpc_url) as endpoint:
            np.testing.assert_array_equal(endpoint.infer(PICTURE)[0], np.maximum(255 - PICTURE[..., 0], 1))


def test_a_server_that_starts_again_does_not_serve_what_a_killed_publisher_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_triton(tmp_path) as triton:
        triton.kill()
        store = Store(triton.repository)
        with store.locked():
            unchecked = store.add(make_person_model(tmp_path / "unchecked", kind="inverse"))
        triton.restart()
        assert_serves_the_first(triton)
        assert f"version {unchecked} of an interrupted publication was taken back" in capsys.readouterr().err
        assert [entry.name for entry in (triton.repository / ".rejected").iterdir()] == ["2-interrupted"]
        assert not (triton.repository / ".pending").exists()
        assert list_versions(triton.repository) == [1]


def test_a_start_waits_for_the_publisher_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version between its rename and its golden frame, and a publisher that goes on to take it back."""
    with running_triton(tmp_path) as triton:
        triton.kill()
        waits, store = threading.Event(), Store(triton.repository)
        with contextlib.ExitStack() as publisher:
            publisher.enter_context(store.locked())
            unchecked = store.add(make_person_model(tmp_path / "unchecked", kind="inverse"))
            try_lock = versions_module._try_lock

            def try_lock_and_tell(descriptor: int) -> bool:
                got = try_lock(descriptor)
                if not got:
                    waits.set()
                return got

            monkeypatch.setattr(versions_module, "_try_lock", try_lock_and_tell)
            with ThreadPoolExecutor(1) as pool:
                restarted = pool.submit(triton.restart)
                assert waits.wait(30)
                store.reject(unchecked, "gatefailed")
                publisher.close()
                restarted.result(60)
                assert_serves_the_first(triton)
