"""Cameras that misbehave: still pictures, none at all, other sizes; and the ways to reach one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest

from privseg.errors import ServerUnavailableError
from privseg.streaming.source import VideoSource
from privseg.streaming.watch import CameraStalledError, Soundness, Stillness
from privseg.testing.camera import FakeCamera, scene
from privseg.testing.rtsp import RtspServer, missing_rtsp_packages


class Camera(BaseHTTPRequestHandler):
    """A web camera: /still repeats its picture, /sizes changes its size, /rubbish sends pictures that are none."""

    pictures: ClassVar[dict[str, list[bytes]]] = {}

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        for jpeg in self.pictures[self.path]:
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            with suppress(OSError):  # whoever has seen enough leaves
                self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:
        return


def jpeg(number: int, width: int = 160, height: int = 120) -> bytes:
    return cv2.imencode(".jpg", scene(number, width, height))[1].tobytes()


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    good = [jpeg(number) for number in range(8)]
    Camera.pictures = {
        "/still": [*good[:4], *[good[4]] * 6, *good[5:]],
        "/moving": good,
        "/sizes": [*good[:4], *[jpeg(number, 320, 240) for number in range(8)]],
        "/rubbish": [*good, *[part[:40] + b"\0" * 400 for part in good * 4]],
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_picture_that_a_camera_repeats_is_frozen_and_the_next_one_is_not(web: str) -> None:
    frames = list(islice(VideoSource(f"{web}/still", frozen_seconds=1e-9).frames(), 12))
    assert [frame.frozen for frame in frames] == [False] * 5 + [True] * 5 + [False] * 2


def test_within_the_time_allowed_nothing_is_frozen(web: str) -> None:
    assert not any(frame.frozen for frame in islice(VideoSource(f"{web}/still").frames(), 12))
    assert not any(frame.frozen for frame in islice(VideoSource(f"{web}/still", frozen_seconds=0).frames(), 12))


def test_stillness_is_told_by_the_clock() -> None:
    picture = np.zeros((90, 120, 3), np.uint8)
    other = picture.copy()
    other[40:50, 60:70] = 1
    still = Stillness(20)
    seen = [still.frozen(each, now) for each, now in ((picture, 0), (picture, 19.9), (picture, 20), (other, 21))]
    assert seen == [False, False, True, False]
    assert not still.frozen(other, 40.9)
    assert still.frozen(other, 41)
    assert not still.frozen(np.zeros((30, 40, 3), np.uint8), 90)  # another size


def test_frames_of_another_size_go_on_in_the_middle_of_a_stream(web: str) -> None:
    frames = list(islice(VideoSource(f"{web}/sizes").frames(), 10))
    assert [(frame.width, frame.height) for frame in frames] == [(160, 120)] * 4 + [(320, 240)] * 6
    assert [frame.sequence for frame in frames] == list(range(10))


def test_a_camera_that_sends_no_picture_is_given_up(web: str) -> None:
    source = VideoSource(f"{web}/rubbish", stall_seconds=1e-9)
    with pytest.raises(CameraStalledError, match="sent data but no picture"):
        list(source.frames())
    assert source.corrupt > 0


@pytest.mark.parametrize("udp", [False, True])
def test_a_camera_is_read_the_way_it_sends(udp: bool) -> None:
    with RtspServer(udp=udp) as camera:
        source = VideoSource(camera.url, transport="udp" if udp else "tcp")
        frames = list(islice(source.frames(), 3))
        assert (frames[0].width, frames[0].height) == (320, 240)
        other = VideoSource(camera.url, transport="tcp" if udp else "udp", open_timeout=3, read_timeout=3)
        with pytest.raises(ServerUnavailableError):
            next(other.frames())


def test_a_webcam_that_is_not_there_is_named() -> None:
    source = VideoSource("/dev/video97")
    assert (source.live, source.endless) == (True, True)
    with pytest.raises(ServerUnavailableError, match="/dev/video97: cannot be opened"):
        next(source.frames())


def test_a_stall_is_counted_and_the_camera_opened_again() -> None:
    from test_streaming_camera import Session  # the run of one camera in a thread

    from privseg.testing.segmenter import FaultySegmenter

    class Stalls(FakeCamera):
        stalled = False

        def frames(self):  # type: ignore[no-untyped-def]
            for frame in super().frames():
                yield frame
                if not self.stalled:
                    self.stalled = True
                    raise CameraStalledError(self.name, "sent no picture", "check the camera")

    camera = Stalls(count=None, live=True, paced=True)
    session = Session(camera, FaultySegmenter(), reconnect=True)
    camera.release()
    session.sink.wait_for(1)
    camera.wait_until_drained()
    camera.release()
    session.sink.wait_for(2)
    assert session.end().reconnects == 1
    assert session.value("privseg_stalls_total") == 1


def test_a_camera_whose_pictures_arrive_in_pieces_shows_nobody_until_a_whole_key_frame(tmp_path: Path) -> None:
    """GStreamer puts headers between the pieces of a key frame; decoders take them for two pictures, each half missing.

    What follows is built on them: grey halves with the outlines of whatever moves, and no flag of the decoder's.
    """
    missing = missing_rtsp_packages()
    if missing:
        pytest.skip(missing)
    path = tmp_path / "pieces.mp4"
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "10", "x264-params": "slices=2"}
        stream = container.add_stream("libx264", rate=20, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for number in range(40):
            image = scene(number, 160, 120)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with RtspServer(path) as server:
        source = VideoSource(server.url)
        frames = list(islice(source.frames(), 40))
        source.stop()
    assert len(frames) == 40
    assert all(frame.damaged for frame in frames)
    assert source.corrupt > 0


def test_after_damage_pictures_count_again_from_a_whole_key_frame() -> None:
    soundness = Soundness()
    seen = [(False, True), (False, False), (True, False), (False, False), (True, True), (False, False), (False, True)]
    told = [soundness.damaged(corrupt, key) for corrupt, key in seen]
    assert told == [False, False, True, True, True, True, False]
    soundness.lost()
    assert [soundness.damaged(False, False), soundness.damaged(False, True)] == [True, False]
