"""A real Triton, killed and restarted in the middle of a clip."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privseg.errors import PrivsegError, ServerUnavailableError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import Withheld
from privseg.streaming.anonymize import anonymize, anonymize_file
from privseg.streaming.report import CameraReport
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.testing.camera import FakeCamera, beacon_pixels, is_slate, read_video, scene, write_video
from privseg.testing.rtsp import RtspServer, missing_rtsp_packages
from privseg.testing.triton import RunningTriton, running_triton

pytestmark = pytest.mark.slow

BLANK = create_method("blank")
SECONDS = 60.0


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTriton]:
    with running_triton(tmp_path_factory.mktemp("triton")) as server:
        yield server


def wait_until_ready(segmenter: TritonSegmenter) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            segmenter.check_ready()
        except ServerUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def test_a_clip_goes_through_whole_and_covered(triton: RunningTriton, tmp_path: Path) -> None:
    images = [scene(number, 322, 240) for number in range(30)]
    clip = write_video(tmp_path / "clip.avi", images)
    report = anonymize_file(
        str(clip), tmp_path / "out.mp4", method=BLANK, triton=triton.grpc_url, report=tmp_path / "report.json",
        metrics_file=tmp_path / "metrics.prom", metrics_port=0, say=lambda _line: None,
    )  # fmt: skip
    out = read_video(tmp_path / "out.mp4")
    assert len(out) == 30
    assert (report["frames_in"], report["frames_out"], report["frames_blanked"]) == (30, 30, 0)
    assert report["model_versions"] == ["1"]
    assert report["privacy_class"] == "irreversible"
    assert not any(beacon_pixels(image) or is_slate(image) for image in out)
    # the scene itself is still there: far from the person the pictures agree
    assert np.abs(out[7][200:].astype(int) - images[7][200:]).mean() < 12
    metrics = (tmp_path / "metrics.prom").read_text()
    assert 'privseg_frames_total{camera="clip",outcome="protected"} 30.0' in metrics
    assert "privseg_raw_frames_published_total 0.0" in metrics
    assert 'privseg_model_info{model="person_segmentation",version="1"} 1.0' in metrics


def test_killed_and_restarted_in_the_middle(triton: RunningTriton, tmp_path: Path) -> None:
    camera = FakeCamera(count=12, paced=True)
    reports: list[CameraReport] = []
    with TritonSegmenter(triton.grpc_url, deadline_seconds=SECONDS, max_in_flight=1) as segmenter:

        def run() -> None:
            reports.append(anonymize(camera, tmp_path / "out.mp4", method=BLANK, segmenter=segmenter))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            camera.release(4)
            camera.wait_until_drained(SECONDS)
            triton.kill()
            camera.release(4)
            camera.wait_until_drained(SECONDS)
            triton.restart()
            with TritonSegmenter(triton.grpc_url) as other:
                wait_until_ready(other)
            wait_until_ready(segmenter)
            camera.release(4)
        finally:
            camera.release(12)
            thread.join(SECONDS)
    images = read_video(tmp_path / "out.mp4")
    assert [beacon_pixels(image) for image in images] == [0] * 12
    assert [is_slate(image) for image in images] == [4 <= number < 8 for number in range(12)]
    (report,) = reports
    (blanked,) = report.blanked_ranges
    assert (blanked.first, blanked.last, blanked.reason) == (4, 7, str(Withheld.SERVER_GONE))


def test_answers_come_back_by_themselves(triton: RunningTriton) -> None:
    image = np.full((1, 64, 64, 3), 40, np.uint8)

    def ask(number: int) -> Withheld | None:
        try:
            segmenter.submit(number, image)
            answer = segmenter.result(number)
        except NoAnswer as error:
            return error.reason
        assert (answer.sequence, answer.model_version) == (number, "1")
        assert (answer.probability == 40).all()
        return None

    with TritonSegmenter(triton.grpc_url, deadline_seconds=SECONDS) as segmenter:
        assert ask(0) is None
        triton.kill()
        assert ask(1) is Withheld.SERVER_GONE
        # not LATE: a dead server costs the frames no deadline each
        assert {ask(number) for number in range(2, 50)} == {Withheld.SERVER_GONE}
        triton.restart()
        deadline, number = time.monotonic() + SECONDS, 50
        while ask(number) is not None:
            assert time.monotonic() < deadline
            number += 1
            time.sleep(0.02)
        assert ask(number + 1) is None


def test_a_deadline_that_passes_and_a_full_line(triton: RunningTriton) -> None:
    image = np.full((1, 512, 512, 3), 40, np.uint8)
    with TritonSegmenter(triton.grpc_url, deadline_seconds=1e-5, max_in_flight=2) as segmenter:
        segmenter.submit(0, image)
        segmenter.submit(1, image)
        with pytest.raises(NoAnswer) as caught:
            segmenter.submit(2, image)
        assert caught.value.reason is Withheld.OVERLOADED
        for number in range(2):
            with pytest.raises(NoAnswer) as caught:
                segmenter.result(number)
            assert caught.value.reason in {Withheld.LATE, Withheld.OVERLOADED}
        with pytest.raises(NoAnswer):
            segmenter.result(0)  # nothing is answered twice


def test_a_model_that_is_not_there_is_named(triton: RunningTriton, tmp_path: Path) -> None:
    with (
        TritonSegmenter(triton.grpc_url, "no_such_model") as segmenter,
        pytest.raises(ServerUnavailableError, match="no_such_model"),
    ):
        anonymize(FakeCamera(), tmp_path / "out.mp4", method=BLANK, segmenter=segmenter)
    with TritonSegmenter(triton.grpc_url, "no_such_model") as segmenter:
        segmenter.submit(0, np.zeros((1, 64, 64, 3), np.uint8))
        with pytest.raises(NoAnswer) as caught:
            segmenter.result(0)
        assert caught.value.reason is Withheld.NO_ANSWER
    assert list(tmp_path.iterdir()) == []


def test_no_server_at_all_writes_nothing_and_names_the_next_command(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", [scene(0, 64, 64)] * 3)
    with pytest.raises(ServerUnavailableError, match="privseg triton up"):
        anonymize_file(
            str(clip), tmp_path / "out.mp4", method=BLANK, triton="127.0.0.1:9", metrics_file=tmp_path / "m.prom"
        )
    assert list(tmp_path.iterdir()) == [clip]


def test_an_rtsp_camera_goes_through_covered(triton: RunningTriton, tmp_path: Path) -> None:
    if missing := missing_rtsp_packages():
        pytest.skip(f"no RTSP server here: {missing}")
    clip = write_video(tmp_path / "clip.mp4", [scene(n, 160, 120) for n in range(30)], rate=15, codec="libx264")
    with RtspServer(clip, credentials=("viewer", "s3cret")) as camera:
        report = anonymize_file(
            camera.url, tmp_path / "out.mp4", method=BLANK, triton=triton.grpc_url, max_frames=20,
            report=tmp_path / "report.json",
        )  # fmt: skip
        with pytest.raises(PrivsegError) as caught:
            anonymize_file(
                camera.url.replace("s3cret", "wr0ng"), tmp_path / "never.mp4", method=BLANK, triton=triton.grpc_url
            )
    assert "wr0ng" not in str(caught.value)
    assert "s3cret" not in (tmp_path / "report.json").read_text()
    images = read_video(tmp_path / "out.mp4")
    assert len(images) == report["frames_out"] == 20
    assert not any(beacon_pixels(image) for image in images)
    assert report["frames_blanked"] == sum(is_slate(image) for image in images)
    assert not (tmp_path / "never.mp4").exists()
