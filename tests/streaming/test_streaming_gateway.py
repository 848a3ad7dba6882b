"""Several cameras at once: one's failure is its own, and a signal leaves playable files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from privseg.errors import ServerUnavailableError, UsageError
from privseg.streaming.config import CameraConfig, GatewayConfig, MetricsConfig
from privseg.streaming.gateway import run_gateway
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import beacon_pixels, is_slate, read_video, scene, write_video
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", [scene(n, 160, 120) for n in range(12)], rate=50)


def camera(source: object, output: Path, **options: Any) -> CameraConfig:
    said = {"source": str(source), "output": str(output), "method": "blank", "purpose": "test"}
    return CameraConfig.model_validate(said | options)


def gateway(**cameras: CameraConfig) -> GatewayConfig:
    return GatewayConfig(metrics=MetricsConfig(port=0), cameras=cameras)


def covered(path: Path) -> int:
    images = read_video(path)
    assert not any(beacon_pixels(image) for image in images)
    return len(images)


def test_one_cameras_failure_never_touches_another(tmp_path: Path, clip: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    (tmp_path / "in-the-way").write_text("a file")
    config = gateway(
        good=camera(clip, tmp_path / "good.mp4", realtime=False),
        paced=camera(clip, tmp_path / "paced.mp4"),
        missing=camera(tmp_path / "none.mp4", tmp_path / "missing.mp4"),
        broken=camera(broken, tmp_path / "broken-out.mp4", realtime=False),
        unwritable=camera(clip, tmp_path / "in-the-way" / "out.mp4", realtime=False),
    )
    telemetry = Telemetry()
    reports = run_gateway(config, telemetry=telemetry, open_segmenter=lambda _config: FaultySegmenter())

    assert covered(tmp_path / "good.mp4") == 12
    assert reports["good"].fault is None
    assert reports["good"].purpose == "test"
    paced = reports["paced"]
    assert paced.fault is None
    assert paced.frames_in == 12
    assert covered(tmp_path / "paced.mp4") == paced.frames_out
    for name, said in (
        ("missing", "does not exist"),
        ("broken", "cannot be read"),
        ("unwritable", "cannot be written"),
    ):
        assert said in (reports[name].fault or "")
    assert telemetry.registry.get_sample_value("privseg_degraded", {"camera": "unwritable"}) == 1
    assert telemetry.registry.get_sample_value("privseg_raw_frames_published_total") == 0


def test_a_camera_whose_model_fails_has_slates_and_the_other_has_not(tmp_path: Path, clip: Path) -> None:
    config = gateway(
        one=camera(clip, tmp_path / "one.mp4", realtime=False), two=camera(clip, tmp_path / "two.mp4", realtime=False)
    )
    segmenters = iter([FaultySegmenter(lambda _n: SegmenterFault.GONE), FaultySegmenter()])
    lock = threading.Lock()

    def open_segmenter(_config: GatewayConfig) -> FaultySegmenter:
        with lock:
            return next(segmenters)

    reports = run_gateway(config, open_segmenter=open_segmenter)
    assert sorted(report.frames_blanked for report in reports.values()) == [0, 12]
    assert covered(tmp_path / "one.mp4") == covered(tmp_path / "two.mp4") == 12


def test_stop_ends_an_endless_loop_with_a_playable_file(tmp_path: Path, clip: Path) -> None:
    stop = threading.Event()

    class Stops(FaultySegmenter):
        def result(self, sequence: int) -> Any:
            if sequence >= 20:
                stop.set()
            return super().result(sequence)

    segmenter = Stops()
    config = gateway(door=camera(clip, tmp_path / "out-%Y.mp4", loop=True))
    report = run_gateway(config, stop, open_segmenter=lambda _config: segmenter)["door"]
    assert segmenter.closed
    assert report.fault is None
    assert "%Y" not in report.output
    assert covered(Path(report.output)) == report.frames_out > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "none"}, "method none"),
        ({"params": {"cells": 3}}, "cells"),
        ({"output": "out.gif"}, "out.gif"),
        ({"output": "same.mp4"}, "same file"),
    ],
)
def test_a_wrong_configuration_starts_nothing(tmp_path: Path, clip: Path, change: dict[str, Any], said: str) -> None:
    config = gateway(one=camera(clip, Path("same.mp4")), two=camera(clip, **{"output": tmp_path / "two.mp4"} | change))
    with pytest.raises(UsageError, match=said):
        run_gateway(config, open_segmenter=lambda _config: FaultySegmenter())
    assert not Path("same.mp4").exists()


def test_a_taken_metrics_port_starts_nothing(tmp_path: Path, clip: Path) -> None:
    server = Telemetry().serve(0)
    port = int(server.url.rpartition(":")[2].removesuffix("/metrics"))
    try:
        config = GatewayConfig(metrics=MetricsConfig(port=port), cameras={"one": camera(clip, tmp_path / "out.mp4")})
        with pytest.raises(ServerUnavailableError):
            run_gateway(config)
    finally:
        server.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_a_playable_file_of_slates_where_there_is_no_model(
    tmp_path: Path, clip: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.mp4"
    config = gateway(door=camera(clip, out, loop=True)).model_dump(mode="json")
    config["cameras"]["door"]["source"] = str(clip)
    config["triton"]["url"] = "127.0.0.1:9"  # nobody answers there
    program = """
        import json, sys
        from privseg.streaming.config import GatewayConfig
        from privseg.streaming.gateway import run_until_stopped
        print(json.dumps(run_until_stopped(GatewayConfig.model_validate(json.loads(sys.argv[1])))))
    """
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), json.dumps(config)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()  # the first line of progress: frames are leaving
        process.send_signal(number)
        output, rest = process.communicate(timeout=60)
    assert "frames out" in line, line + rest
    assert process.returncode == 0, rest
    assert '"fault": null' in output
    images = read_video(out)
    assert images
    assert all(is_slate(image) for image in images)
