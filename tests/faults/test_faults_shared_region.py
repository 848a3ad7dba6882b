"""Whose a piece of shared memory is, who removes it, and where it lies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import PREFIX, SharedRegion, directory_finder, stale_regions
from privseg.testing.region_server import RegionServer, serve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shm").mkdir()
    return tmp_path / "shm"


@pytest.fixture
def server(folder: Path) -> RegionServer:
    return RegionServer(folder)


@pytest.fixture
def url(server: RegionServer) -> Iterator[str]:
    with ThreadPoolExecutor(8) as pool:
        service, address = serve(server, pool)
        try:
            yield address
        finally:
            service.stop(None).wait()


def connected(url: str, folder: Path) -> TritonSegmenter:
    return TritonSegmenter(url, shared_memory=lambda: folder, deadline_seconds=30)


def ask(segmenter: TritonSegmenter, level: int) -> None:
    segmenter.submit(level, np.full((1, 64, 96, 3), level, np.uint8))
    assert (segmenter.result(level).probability == level).all()


def test_a_dead_owners_region_is_removed_a_living_ones_is_not(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from privseg.streaming.shared_region import SharedRegion;"
        f"region = SharedRegion(Path({str(folder)!r}), 10); print(region.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        name = owner.stdout.readline().strip()
        found: list[str] = []
        mine = SharedRegion(folder, 10)
        (folder / "privseg_of_triton").write_text("not ours")
        stale_regions(folder, found.append)
        assert found == []
        owner.kill()
        owner.wait()
        stale_regions(folder, found.append)
    assert found == [name]
    assert {path.name for path in folder.iterdir()} == {mine.name, "privseg_of_triton"}
    mine.remove()


def test_the_next_client_removes_what_a_killed_one_left(server: RegionServer, url: str, folder: Path) -> None:
    left = folder / f"{PREFIX}1-dead"
    left.write_bytes(bytes(100))
    server.regions = {left.name: b"", f"{PREFIX}1-without-file": b"", "somebody": b""}
    with connected(url, folder) as living:
        ask(living, 1)
        assert not left.exists()
        with connected(url, folder) as segmenter:
            ask(segmenter, 1)
        ask(living, 2)
        assert len(server.regions) == 2
    assert set(server.regions) == {"somebody"}


def test_a_client_with_a_folder_of_its_own_touches_nobodys_registration(
    server: RegionServer, url: str, tmp_path: Path
) -> None:
    server.regions = {f"{PREFIX}1-of-a-neighbour": b""}
    with connected(url, tmp_path) as segmenter:
        ask(segmenter, 1)
    assert list(server.regions) == [f"{PREFIX}1-of-a-neighbour"]


@pytest.mark.parametrize(
    ("setting", "url", "expected"),
    [
        ("off", "127.0.0.1:1", None), ("auto", "triton:8001", None), ("auto", "unix:/run/triton", None),
        (Path("/dev/shm"), "triton:8001", Path("/dev/shm")),
    ],
)  # fmt: skip
def test_where_the_memory_is(setting: str | Path, url: str, expected: Path | None) -> None:
    finder = directory_finder(setting, url)
    assert (finder and finder()) == expected


def test_the_memory_of_whoever_listens(url: str) -> None:
    for address in (url, f"dns:///{url}", url.replace("127.0.0.1", "localhost")):
        finder = directory_finder("auto", address)
        assert finder is not None
        assert finder() == Path(f"/proc/{os.getpid()}/root/dev/shm")
    nobody = directory_finder("auto", "127.0.0.1:1")
    assert nobody is not None
    assert nobody() is None
