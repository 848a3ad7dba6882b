"""Every fault at once, and each alone: whatever breaks, no frame at any output shows the beacon of the raw picture."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from privseg.streaming.config import GatewayConfig
from privseg.streaming.gateway import run_gateway
from privseg.streaming.report import CameraReport
from privseg.testing.camera import beacon_pixels, is_slate, scene, write_video
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault

SECONDS = 60.0
SIZE = (96, 72)
CAMERAS, FRAMES = 8, 2600  # 20,800 frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [scene(number, *SIZE) for number in range(100)]
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", images, rate=50)


def configured(**cameras: dict[str, Any]) -> GatewayConfig:
    common = {"method": "blank", "purpose": "a test", "retention_hours": 1}
    return GatewayConfig.model_validate({
        "metrics": {"port": 0}, "policy": {"unsure_share": 1},
        "live": {"port": 0} if any(camera.pop("live", False) for camera in cameras.values()) else None,
        "cameras": {name: common | camera for name, camera in cameras.items()},
    })  # fmt: skip


def looked_at(path: Path) -> tuple[int, int]:
    """How many pictures a file holds and how many of them are slates; none may show the beacon."""
    pictures = slates = 0
    with av.open(str(path)) as container:
        try:
            for picture in container.decode(video=0):
                image = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
                assert beacon_pixels(image) == 0, f"{path.name}, picture {pictures}"
                pictures += 1
                slates += is_slate(image)
        except av.InvalidDataError:  # the picture that a full disk had no room for
            pass
    return pictures, slates


def mixed_faults(camera: int) -> Callable[[int], SegmenterFault | None]:
    """Two honest answers, then a fault, each in turn; every camera begins with another."""
    faults = list(SegmenterFault)
    return lambda number: faults[(number // 3 + camera * 2) % len(faults)] if number % 3 == 2 else None


def test_eight_cameras_with_every_fault_of_a_model_leak_nothing_in_twenty_thousand_frames(
    tmp_path: Path, clip: Path
) -> None:
    """Slow, gone, dying, overloaded, crashing, wrong shapes and types, NaN, empty, stale; two cores, both schedules."""
    config = configured(**{
        f"camera{number}": {
            "source": str(clip), "loop": True, "realtime": False, "max_frames": FRAMES,
            "schedule": ("every-frame", "adaptive")[number % 2],
            "recording": {"folder": str(tmp_path), "segment_minutes": 0.5},
        }
        for number in range(CAMERAS)
    })  # fmt: skip
    numbers = itertools.count()
    reports = run_gateway(
        config, open_segmenter=lambda _: FaultySegmenter(mixed_faults(next(numbers)), deadline_seconds=0.001)
    )
    assert [report.fault for report in reports.values()] == [None] * CAMERAS
    assert all(report.outputs["recording"].frames == FRAMES for report in reports.values())
    counted = [looked_at(path) for path in tmp_path.glob("*.mp4")]
    assert sum(pictures for pictures, _ in counted) == CAMERAS * FRAMES >= 20_000
    blanked = sum(report.frames_blanked for report in reports.values())
    assert 0 < blanked < CAMERAS * FRAMES
    assert sum(slates for _, slates in counted) == blanked


def test_before_the_first_mask_and_without_any_model_there_are_slates_only(tmp_path: Path, clip: Path) -> None:
    def starts_late(number: int) -> SegmenterFault | None:
        return SegmenterFault.GONE if number < 60 else None

    places = [tmp_path / name for name in ("late", "never")]
    config = configured(
        late={"source": str(clip), "realtime": False, "output": str(places[0] / "out.mp4")},
        never={"source": str(clip), "realtime": False, "output": str(places[1] / "out.mp4"), "schedule": "adaptive"},
    )
    segmenters = {"late": starts_late, "never": lambda _number: SegmenterFault.GONE}
    for name, place in zip(segmenters, places, strict=True):
        alone = config.model_copy(update={"cameras": {name: config.cameras[name]}})
        run_gateway(alone, open_segmenter=lambda _, name=name: FaultySegmenter(segmenters[name]))  # type: ignore[misc]
        pictures, slates = looked_at(place / "out.mp4")
        assert (pictures, slates) == (100, {"late": 60, "never": 100}[name])


def test_garbage_in_a_recording_and_a_change_of_size_show_nobody(tmp_path: Path, clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    rng = np.random.default_rng(5)
    for place in rng.integers(len(data) // 4, len(data) * 3 // 4, 200):  # not the header, nor the index at the end
        data[place] ^= 0xFF
    broken = tmp_path / "broken.avi"
    broken.write_bytes(bytes(data))
    config = configured(door={"source": str(broken), "realtime": False, "recording": {"folder": str(tmp_path / "out")}})
    report = run_gateway(config, open_segmenter=lambda _: FaultySegmenter())["door"]
    assert report.corrupt_packets > 0
    assert sum(looked_at(path)[0] for path in (tmp_path / "out").glob("*.mp4")) == report.frames_out > 20


def test_a_full_disk_and_a_dead_media_server_leave_the_live_page_and_each_other_alone(
    tmp_path: Path, clip: Path, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(2**21))
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"rtsp://u:s3cret@127.0.0.1:{server.getsockname()[1]}/x"
    config = configured(
        door={
            "source": str(clip), "loop": True, "live": True,
            "recording": {"folder": str(small_disk)}, "push": [{"url": dead}],
        }
    )  # fmt: skip
    with Running(config) as (url, lines, reports), httpx.Client(base_url=url, timeout=SECONDS) as client:
        eventually(lambda: any("no space left" in line for line in lines))
        eventually(lambda: any("door: push 1" in line for line in lines))
        assert state(client) == "live"
        filler.unlink()
        eventually(lambda: any("recording: takes frames again" in line for line in lines))
        assert state(client) == "live"
        assert not any("s3cret" in line for line in lines)
    door = reports["door"]
    assert door.outputs["recording"].frames > 0
    assert door.outputs["push 1"].frames == 0
    assert door.outputs["push 1"].frames_lost > 0
    assert "cannot be reached" in (door.fault or "") or "takes the stream no more" in (door.fault or "")
    assert door.frames_out > door.outputs["recording"].frames
    assert sum(looked_at(path)[0] for path in small_disk.glob("*.mp4")) == door.outputs["recording"].frames


def state(client: httpx.Client) -> str:
    return str(client.get("/api/cameras").json()["cameras"][0]["state"])


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Running:
    """A gateway between entering and leaving: its page, its lines, and, once left, its reports."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._stop = threading.Event()
        self._lines = list[str]()
        self._reports = dict[str, CameraReport]()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._reports.update(
            run_gateway(
                self._config, self._stop, open_segmenter=lambda _: FaultySegmenter(), say=self._lines.append
            )
        )  # fmt: skip

    def __enter__(self) -> tuple[str, list[str], dict[str, CameraReport]]:
        self._thread.start()
        eventually(lambda: bool(self._lines))
        return self._lines[0].removeprefix("live page on "), self._lines, self._reports

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS)


GATEWAY = """
    import sys
    from pathlib import Path
    from privseg.streaming import crew, gateway
    from privseg.streaming.config import load_config
    from privseg.testing.segmenter import FaultySegmenter

    gateway.configured_backend = lambda _config: FaultySegmenter()
    path = Path(sys.argv[1])
    gateway.run_until_stopped(load_config(path), path=path)
"""


@pytest.fixture
def started(tmp_path: Path, clip: Path) -> Iterator[Callable[[], tuple[subprocess.Popen[str], Path]]]:
    """Starts a gateway in a process of its own; with it the folder of its recordings."""
    processes = []
    folder, path = tmp_path / "recordings", tmp_path / "cameras.yaml"

    def start() -> tuple[subprocess.Popen[str], Path]:
        path.write_text(
            f"metrics: {{port: 0}}\npolicy: {{unsure_share: 1}}\ncameras:\n  door: {{source: {clip}, loop: true, "
            f"method: blank, purpose: a test, retention_hours: 1, recording: {{folder: {folder}}}}}\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(GATEWAY), str(path)], stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process, folder

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def told(process: subprocess.Popen[str], wanted: str) -> str:
    """The next line on stderr that holds a text."""
    assert process.stderr is not None
    for line in process.stderr:
        if wanted in line:
            return line
    raise AssertionError(f"ended without saying {wanted!r}")


def test_killed_and_terminated_gateways_leave_recordings_that_show_nobody(
    started: Callable[[], tuple[subprocess.Popen[str], Path]],
) -> None:
    process, folder = started()
    told(process, "frames out")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(SECONDS)
    assert [path.name.endswith(".partial.mp4") for path in folder.glob("*.mp4")] == [True]
    process, folder = started()
    told(process, "was left unfinished")
    told(process, "frames out")
    process.terminate()
    assert process.wait(SECONDS) == 0
    kept = list(folder.glob("*.mp4"))
    assert len(kept) == 2
    assert not any(".partial" in path.name for path in kept)
    for path in kept:
        pictures, slates = looked_at(path)
        assert pictures > 20
        assert slates < pictures
