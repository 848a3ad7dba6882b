"""Another configuration while the gateway runs: cameras that it leaves as they are go on, nonsense does nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from privseg.errors import UsageError
from privseg.streaming.config import GatewayConfig, load_config
from privseg.streaming.gateway import run_gateway
from privseg.streaming.log import LogFormat, printer
from privseg.streaming.report import CameraReport
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import beacon_pixels, read_video, scene, write_video
from privseg.testing.segmenter import FaultySegmenter

SECONDS = 30.0


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [scene(number, 96, 72) for number in range(50)]
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", images, rate=50)


def configured(cameras: dict[str, dict[str, Any]], **options: Any) -> GatewayConfig:
    return GatewayConfig.model_validate({"metrics": {"port": 0}, "cameras": cameras} | options)


def camera(clip: Path, folder: Path, **options: Any) -> dict[str, Any]:
    said = {"source": str(clip), "loop": True, "method": "blank", "purpose": "a test", "retention_hours": 1}
    return said | {"recording": {"folder": str(folder)}} | options


class Running:
    """A gateway at work, and what it says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.news = SimpleQueue[GatewayConfig]()
        self.opened = 0
        self.telemetry = Telemetry()
        self.reports: dict[str, CameraReport] = {}

    def count(self, camera: str, outcome: str = "protected") -> float:
        labels = {"camera": camera, "outcome": outcome}
        return self.telemetry.registry.get_sample_value("privseg_frames_total", labels) or 0

    def change(self, config: GatewayConfig, said: str) -> None:
        before = len(self.lines)
        self.news.put(config)
        eventually(lambda: any(said in line for line in self.lines[before:]))


@contextmanager
def running(config: GatewayConfig) -> Iterator[Running]:
    state, stop = Running(), threading.Event()

    def open_segmenter(_config: GatewayConfig) -> FaultySegmenter:
        state.opened += 1
        return FaultySegmenter()

    def run() -> None:
        state.reports = run_gateway(
            config, stop, telemetry=state.telemetry, open_segmenter=open_segmenter, say=state.lines.append,
            reload=lambda: None if state.news.empty() else state.news.get(),
        )  # fmt: skip

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield state
    finally:
        stop.set()
        thread.join(SECONDS)


def test_cameras_come_go_and_change_and_the_others_go_on(tmp_path: Path, clip: Path) -> None:
    cameras = {name: camera(clip, tmp_path / name) for name in ("stays", "goes", "changes")}
    with running(configured(cameras)) as gateway:
        eventually(lambda: all(gateway.count(name) > 5 for name in cameras))
        after = {
            "stays": cameras["stays"],
            "changes": cameras["changes"] | {"method": "silhouette"},
            "comes": camera(clip, tmp_path / "comes"),
        }
        counted = gateway.count("stays")
        gateway.change(configured(after), "2 cameras begun, 1 left as they were")
        eventually(lambda: gateway.opened == 5)
        eventually(lambda: gateway.count("comes") > 5 and gateway.count("stays") > counted + 5)
        assert gateway.count("goes") == 0, "a camera that is gone is shown no more"
        method = {"camera": "changes", "method": "silhouette", "privacy_class": "irreversible"}
        assert gateway.telemetry.registry.get_sample_value("privseg_method_info", method) == 1
    assert list(gateway.reports) == ["stays", "changes", "comes"]
    assert gateway.reports["stays"].frames_out > counted
    recordings = list(tmp_path.glob("*/*.mp4"))
    assert len(recordings) == 5
    assert not any(beacon_pixels(image) for path in recordings for image in read_video(path))


def test_a_configuration_that_cannot_work_changes_nothing(tmp_path: Path, clip: Path) -> None:
    config = configured({"door": camera(clip, tmp_path / "door")})
    with running(config) as gateway:
        eventually(lambda: gateway.count("door") > 5)
        wrong = configured({"door": camera(clip, tmp_path / "door", method="no such")})
        gateway.change(wrong, "the configuration stays as it is: method no such")
        counted = gateway.count("door")
        eventually(lambda: gateway.count("door") > counted + 5)
    assert gateway.opened == 1


def test_what_all_cameras_share_starts_all_anew_and_ports_stay(tmp_path: Path, clip: Path) -> None:
    cameras = {name: camera(clip, tmp_path / name) for name in ("one", "two")}
    with running(configured(cameras)) as gateway:
        eventually(lambda: all(gateway.count(name) > 5 for name in cameras))
        gateway.change(configured(cameras, policy={"hold_frames": 4}, metrics={"port": 1}), "2 cameras begun, 0 left")
        assert any("metrics and live stay as they are" in line for line in gateway.lines)
        eventually(lambda: gateway.opened == 4)


def test_a_hang_up_has_the_file_read_again(tmp_path: Path, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from privseg.streaming import gateway

    path = tmp_path / "cameras.yaml"
    text = (
        "metrics: {port: 0}\ncameras:\n  door: {source: CLIP, loop: true, method: METHOD, purpose: a test, "
        "retention_hours: 1, recording: {folder: FOLDER}}\n"
    ).replace("FOLDER", str(tmp_path / "out")).replace("CLIP", str(clip))  # fmt: skip
    path.write_text(text.replace("METHOD", "blank"))
    opened = list[int]()

    class Counts(FaultySegmenter):
        def __init__(self, _config: GatewayConfig) -> None:
            super().__init__()
            opened.append(1)

        def result(self, sequence: int) -> Any:
            if len(opened) == 1 and sequence == 5:
                path.write_text(text.replace("METHOD", "[nonsense"))
                os.kill(os.getpid(), signal.SIGHUP)
            if len(opened) == 1 and sequence == 50:
                path.write_text(text.replace("METHOD", "silhouette"))
                os.kill(os.getpid(), signal.SIGHUP)
            if len(opened) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().result(sequence)

    original = gateway.configured_backend
    gateway.configured_backend = Counts  # type: ignore[assignment]
    try:
        reports = gateway.run_until_stopped(load_config(path), path=path, log=LogFormat.JSON)
    finally:
        gateway.configured_backend = original
    assert reports["door"]["method"] == "silhouette"
    said = capfd.readouterr().err
    assert "the configuration stays as it is" in said
    assert '"camera": "door"' in said
    assert "1 cameras begun" in said


def test_lines_for_programs_hold_time_camera_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    import json
    import sys

    printer(LogFormat.JSON, sys.stderr)("door: lost for 3 s: no data")
    printer(LogFormat.TEXT, sys.stderr)("live page on http://127.0.0.1:1")
    first, second = capsys.readouterr().err.splitlines()
    line = json.loads(first)
    assert (line["camera"], line["message"]) == ("door", "lost for 3 s: no data")
    assert line["time"].endswith("+00:00")
    assert second == "live page on http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"retention_hours": 0}, "retention_hours is 0"),
        ({"recording": None}, "nowhere to go"),
        ({"recording": {"folder": "x", "segment_minutes": 90}}, "longer than retention_hours"),
        ({"recording": None, "output": "one.mp4"}, "never ends"),
        ({"push": [{"url": "ftp://u:s3cret@host/x"}]}, "is no address of rtsp"),
    ],
)
def test_a_camera_that_would_keep_too_long_or_show_nowhere_is_refused(
    tmp_path: Path, clip: Path, change: dict[str, Any], said: str
) -> None:
    import json

    said_of = camera(clip, tmp_path) | change
    path = tmp_path / "cameras.yaml"
    path.write_text(json.dumps({"cameras": {"door": said_of}}))
    with pytest.raises(UsageError, match=said) as refused:
        load_config(path)
    assert "s3cret" not in str(refused.value)
