"""The process behind the model dies in the middle of a clip, and the supervisor brings the model back."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from privseg.errors import PrivsegError
from privseg.privacy.filters.registry import create_method
from privseg.serving.admin import Endpoint
from privseg.serving.triton_state import processes
from privseg.streaming.anonymize import anonymize
from privseg.streaming.report import CameraReport
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.testing.camera import FakeCamera, beacon_pixels, is_slate, read_video
from privseg.testing.triton import ServedModel, running_triton

pytestmark = pytest.mark.slow

SECONDS = 60.0
SMALL = np.zeros((1, 64, 64, 3), np.uint8)


def kill_stub(triton: ServedModel) -> None:
    running = triton.status()
    assert running is not None
    (stub,) = set(processes(running)) - {running.pid}
    os.kill(stub, signal.SIGKILL)
    with Endpoint(triton.grpc_url) as endpoint, pytest.raises(PrivsegError):
        endpoint.infer(SMALL)


def wait_until_it_answers(triton: ServedModel) -> None:
    deadline = time.monotonic() + SECONDS
    with Endpoint(triton.grpc_url) as endpoint:
        while True:
            try:
                endpoint.infer(SMALL)
            except PrivsegError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return


def test_frames_are_slates_until_the_model_is_back(tmp_path: Path) -> None:
    """Nobody asks for it: the supervisor sees that the stub is gone, and loads the model again."""
    camera, reports = FakeCamera(count=12, paced=True), list[CameraReport]()
    with (
        running_triton(tmp_path) as triton,
        TritonSegmenter(triton.grpc_url, deadline_seconds=SECONDS, max_in_flight=1) as segmenter,
    ):

        def run() -> None:
            reports.append(anonymize(camera, tmp_path / "out.mp4", method=create_method("blank"), segmenter=segmenter))

        thread = threading.Thread(target=run)
        thread.start()
        try:
            camera.release(4)
            camera.wait_until_drained(SECONDS)
            kill_stub(triton)
            camera.release(4)
            camera.wait_until_drained(SECONDS)
            with triton.supervised() as supervisor:
                wait_until_it_answers(triton)
                camera.release(4)
                thread.join(SECONDS)
            assert (supervisor.record.reloads, supervisor.record.restarts) == (1, 0)
        finally:
            camera.release(12)
            thread.join(SECONDS)
    images = read_video(tmp_path / "out.mp4")
    assert [beacon_pixels(image) for image in images] == [0] * 12
    assert [is_slate(image) for image in images] == [4 <= number < 8 for number in range(12)]
    (report,) = reports
    (blanked,) = report.blanked_ranges
    assert (blanked.first, blanked.last) == (4, 7)
