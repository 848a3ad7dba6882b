"""Cameras and recordings behind a web server: playlists (HLS) and pictures pushed one after the other (MJPEG)."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from privseg.errors import PrivsegError, ServerUnavailableError
from privseg.privacy.filters.registry import create_method
from privseg.streaming.anonymize import anonymize
from privseg.streaming.source import VideoSource
from privseg.streaming.sources import open_source
from privseg.testing.camera import BEACON, beacon_pixels, read_video, scene
from privseg.testing.segmenter import FaultySegmenter

RATE, SECONDS = 10, 4
SCENES = [scene(number, 160, 120) for number in range(RATE * SECONDS)]
LOGIN = "viewer:s3cret"


@pytest.fixture(scope="module")
def playlists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three playlists of one-second pieces: a recording, a camera (the same without end), and one of local files."""
    folder = tmp_path_factory.mktemp("hls")
    options = {"hls_time": "1", "hls_list_size": "0"}
    with av.open(str(folder / "clip.m3u8"), "w", format="hls", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"g": str(RATE), "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for image in SCENES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    lines = (folder / "clip.m3u8").read_text().splitlines()
    (folder / "camera.m3u8").write_text("\n".join(line for line in lines if line != "#EXT-X-ENDLIST") + "\n")
    pieces = [f"file://{folder / line}" if line.endswith(".ts") else line for line in lines]
    (folder / "local.m3u8").write_text("\n".join(pieces) + "\n")
    return folder


class Web(BaseHTTPRequestHandler):
    """Files of a folder, and ``/video``: a camera that pushes pictures until nobody reads on, and asks for a login."""

    folder: Path
    gone: threading.Event

    def do_GET(self) -> None:
        if self.path == "/video":
            self.push()
            return
        file = self.folder / self.path.lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):  # the reader has seen enough
            self.wfile.write(content)

    def push(self) -> None:
        if self.headers.get("Authorization") != f"Basic {base64.b64encode(LOGIN.encode()).decode()}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        try:
            for number in count():
                jpeg = cv2.imencode(".jpg", scene(number, 160, 120)[..., ::-1])[1].tobytes()
                head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:
            self.gone.set()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def gone() -> threading.Event:
    """Set when the camera at ``/video`` has lost its reader."""
    return threading.Event()


@pytest.fixture
def web(playlists: Path, gone: threading.Event) -> Iterator[str]:
    handler = type("Handler", (Web,), {"folder": playlists, "gone": gone})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def person(frame: Any) -> np.ndarray:
    """The mean colour of the pixels that a test model takes for a person."""
    image = frame.model_input(160)[0]
    return np.asarray(image[image[..., 0] > 128].mean(axis=0))


def test_a_playlist_that_ends_is_a_recording(web: str) -> None:
    source = open_source(f"http://{web}/clip.m3u8")
    assert isinstance(source, VideoSource)
    assert (source.live, source.endless) == (False, False)
    frames = list(source.frames())
    assert [frame.sequence for frame in frames] == list(range(len(SCENES)))
    assert [frame.pts * frame.time_base for frame in frames] == pytest.approx(
        [Fraction(number, RATE) for number in range(len(SCENES))], abs=1e-3
    )
    assert source.fault is None
    assert np.abs(person(frames[0]) - BEACON).max() < 40


def test_a_playlist_without_an_end_is_a_camera(web: str) -> None:
    source = open_source(f"http://{web}/camera.m3u8")
    assert (source.live, source.endless) == (True, True)
    frames = source.frames()
    assert isinstance(source, VideoSource)
    with closing(frames):  # type: ignore[type-var]
        seen = list(islice(frames, 2 * RATE))
    assert [frame.sequence for frame in seen] == list(range(2 * RATE))
    assert all(before.pts <= after.pts for before, after in pairwise(seen))
    assert (seen[0].width, seen[0].height) == (160, 120)


def test_a_playlist_that_is_not_there(web: str) -> None:
    with pytest.raises(ServerUnavailableError, match="cannot be opened"):
        next(open_source(f"http://{web}/none.m3u8").frames())


def test_a_playlist_from_elsewhere_cannot_open_a_file_of_this_machine(web: str) -> None:
    with pytest.raises(PrivsegError):
        next(open_source(f"http://{web}/local.m3u8").frames())


def test_a_camera_that_pushes_pictures_is_read_until_one_leaves(web: str, gone: threading.Event) -> None:
    source = open_source(f"http://{LOGIN}@{web}/video")
    assert "s3cret" not in source.name
    assert (source.live, source.endless) == (True, True)
    frames = source.frames()
    seen = list(islice(frames, 30))
    assert [frame.sequence for frame in seen] == list(range(30))
    assert all(np.abs(person(frame) - BEACON).max() < 40 for frame in seen)
    source.stop()
    assert list(frames) == []
    assert gone.wait(30)


def test_a_camera_that_is_told_no_password_is_not_read(web: str) -> None:
    with pytest.raises(ServerUnavailableError, match="cannot be opened"):
        next(open_source(f"http://{web}/video").frames())


@pytest.mark.parametrize("address", ["http://{web}/clip.m3u8", "http://{login}@{web}/video"])
def test_what_comes_by_the_web_leaves_covered(web: str, tmp_path: Path, address: str) -> None:
    out = tmp_path / "out.mp4"
    report = anonymize(
        address.format(web=web, login=LOGIN), out, method=create_method("blank"), segmenter=FaultySegmenter(),
        max_frames=15,
    )  # fmt: skip
    assert (report.frames_out, report.frames_blanked) == (15, 0)
    assert "s3cret" not in report.model_dump_json()
    assert {beacon_pixels(picture) for picture in read_video(out)} == {0}
