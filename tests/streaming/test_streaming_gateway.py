"""Several cameras at once: one's failure is its own, and a signal leaves playable files."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from privseg.errors import ServerUnavailableError, UsageError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.profile import Profile
from privseg.streaming.anonymize import anonymize_file
from privseg.streaming.config import CameraConfig, GatewayConfig, MetricsConfig
from privseg.streaming.gateway import run_gateway, run_until_stopped
from privseg.streaming.report import CameraReport
from privseg.streaming.source import VideoSource
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import beacon_pixels, is_slate, read_video, scene, write_video
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", [scene(n, 160, 120) for n in range(12)], rate=50)


def camera(source: object, output: Path, **options: Any) -> CameraConfig:
    said = {"source": str(source), "output": str(output), "method": "blank", "purpose": "test"}
    said |= {"retention_hours": 1, "max_frames": 1_000_000}
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
        method = process.stderr.readline()
        line = process.stderr.readline()  # the first line of progress: frames are leaving
        process.send_signal(number)
        output, rest = process.communicate(timeout=60)
    assert method == "door: method blank (irreversible), profile production\n"
    assert "frames out" in line, line + rest
    assert process.returncode == 0, rest
    assert '"fault": null' in output
    images = read_video(out)
    assert images
    assert all(is_slate(image) for image in images)


@pytest.mark.parametrize("output", ["%Y.mp4", "./link/{year}.mp4", "clip.avi", "sub/../clip.avi"])
def test_no_output_is_another_cameras_output_or_a_source(
    tmp_path: Path, clip: Path, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "sub").mkdir()
    year = time.strftime("%Y")
    wanted = output.format(year=year).replace("avi", "mp4")
    config = gateway(
        one=camera("clip.mp4", tmp_path / f"{year}.mp4"), two=camera("rtsp://cam/x", Path(wanted)),
    )  # fmt: skip
    with pytest.raises(UsageError, match="same file"):
        run_gateway(config, open_segmenter=lambda _config: FaultySegmenter())
    assert (tmp_path / "clip.mp4").read_bytes() == clip.read_bytes()


FULL_DISK = """
    import json, resource, signal, sys
    from privseg.streaming.config import GatewayConfig
    from privseg.streaming.gateway import run_gateway
    from privseg.testing.segmenter import FaultySegmenter

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # the kernel refuses every byte beyond it
    config = GatewayConfig.model_validate(json.loads(sys.argv[1]))
    reports = run_gateway(config, open_segmenter=lambda _config: FaultySegmenter())
    print(reports["door"].model_dump_json())
"""


def test_a_full_disk_keeps_the_recording_and_the_counts(tmp_path: Path, clip: Path) -> None:
    out = tmp_path / "out.mp4"
    config = gateway(door=camera(clip, out, loop=True, realtime=False)).model_dump(mode="json")
    config["cameras"]["door"]["source"] = str(clip)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), json.dumps(config)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert "cannot be written" in report["fault"]
    assert report["frames_in"] >= report["frames_out"] > 100
    assert report["purpose"] == "test"
    pictures = 0
    with (
        av.open(str(out)) as container,
        contextlib.suppress(av.InvalidDataError),
    ):  # the picture the disk had no room for
        for picture in container.decode(video=0):
            pictures += 1
            assert beacon_pixels(picture.to_ndarray(format="rgb24")) == 0
    assert pictures > 50
    assert list(tmp_path.iterdir()) == [out]


def test_a_recording_outlives_the_fault_of_its_camera(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaks(VideoSource):
        def __init__(self, uri: str, *, image_rate: float, **options: Any) -> None:
            super().__init__(uri, **options)

        def frames(self) -> Iterator[Any]:
            for frame in super().frames():
                if frame.sequence == 7:
                    raise RuntimeError("injected")
                yield frame

    monkeypatch.setattr("privseg.streaming.crew.open_source", Breaks)
    config = gateway(door=camera(clip, tmp_path / "out.mp4", realtime=False))
    report = run_gateway(config, open_segmenter=lambda _config: FaultySegmenter())["door"]
    assert report.fault == "internal error (RuntimeError)"
    assert isinstance(report.error, RuntimeError)
    assert (report.frames_in, report.frames_out) == (7, covered(tmp_path / "out.mp4"))
    assert report.frames_out >= 4
    assert "injected" in capsys.readouterr().err


def test_the_first_failed_camera_decides_the_end_after_all_reports_are_out(tmp_path: Path, clip: Path) -> None:
    config = gateway(
        good=camera(clip, tmp_path / "good.mp4", realtime=False, max_frames=3),
        missing=camera(tmp_path / "none.mp4", tmp_path / "a.mp4"),
        broken=camera(__file__, tmp_path / "b.mp4", realtime=False),
    )
    seen: list[dict[str, Any]] = []
    with pytest.raises(UsageError, match=r"none\.mp4"):
        run_until_stopped(config, seen.append)
    (reports,) = seen
    assert list(reports) == ["good", "missing", "broken"]
    assert reports["good"]["fault"] is None
    assert "cannot be read as a video" in reports["broken"]["fault"]
    json.dumps(reports)


def test_an_internal_error_is_raised_as_it_is(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def crash(uri: str, **_options: object) -> None:
        raise LookupError(f"at {uri}")

    monkeypatch.setattr("privseg.streaming.crew.open_source", crash)
    config = gateway(door=camera("rtsp://u:s3cret@cam/live", tmp_path / "out.mp4"))
    seen: list[dict[str, Any]] = []
    with pytest.raises(LookupError):
        run_until_stopped(config, seen.append)
    assert seen[0]["door"]["fault"] == "internal error (LookupError)"
    error_output = capsys.readouterr().err
    assert "Traceback" in error_output
    assert "s3cret" not in error_output


def test_a_lost_camera_is_told_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    stop = threading.Event()
    lines: list[str] = []

    def say(line: str) -> None:
        if "method" not in line:
            lines.append(line)
            stop.set()

    config = gateway(door=camera(f"rtsp://u:s3cret@127.0.0.1:{port}/live", tmp_path / "out.mp4"))
    report = run_gateway(config, stop, open_segmenter=lambda _config: FaultySegmenter(), say=say)["door"]
    assert lines[0].startswith(f"door: lost for 0 s: rtsp://***@127.0.0.1:{port}/live: cannot be opened")
    assert "s3cret" not in lines[0]
    assert isinstance(report.error, ServerUnavailableError)


def test_no_crash_may_write_raw_frames_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr("resource.setrlimit", lambda *limit: limits.append(limit))
    missing = tmp_path / "none.mp4"
    with pytest.raises(UsageError):
        run_until_stopped(gateway(door=camera(missing, tmp_path / "out.mp4")))
    with pytest.raises(UsageError):
        anonymize_file(str(missing), tmp_path / "out.mp4", method=create_method("blank"), triton="127.0.0.1:9")
    assert limits == [(resource.RLIMIT_CORE, (0, 0))] * 2


def test_production_refuses_what_only_obfuscates_and_says_what_it_was_told_to_accept(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", [scene(number, 64, 64) for number in range(3)])

    def run(profile: str, lines: list[str], **options: Any) -> CameraReport:
        yard = camera(clip, tmp_path / "out.mp4", method="pixelate", realtime=False, max_frames=2, **options)
        config = gateway(yard=yard).model_copy(update={"profile": Profile(profile)})
        return run_gateway(config, open_segmenter=lambda _config: FaultySegmenter(), say=lines.append)["yard"]

    with pytest.raises(UsageError, match="pixelate: only obfuscates"):
        run("production", [])
    for profile, options, said in (
        ("production", {"allow_obfuscation": True}, "yard: method pixelate (obfuscation), profile production, obf"),
        ("laboratory", {}, "yard: method pixelate (obfuscation), profile laboratory"),
    ):
        lines: list[str] = []
        report = run(profile, lines, **options)
        assert lines[0].startswith(said)
        assert (report.profile, report.obfuscation_allowed) == (profile, bool(options))
        assert report.frames_out == 2
