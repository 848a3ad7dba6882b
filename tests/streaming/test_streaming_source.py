"""Files and addresses in, raw frames out; bad ones in one clear line."""

from __future__ import annotations

import socket
import threading
import wave
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import ClassVar

import av
import cv2
import numpy as np
import pytest

from privseg.errors import DataError, ServerUnavailableError, UsageError
from privseg.streaming.source import VideoSource
from privseg.testing.camera import BEACON, scene, write_video

SCENES = [scene(number, 160, 120) for number in range(40)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", SCENES)


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    shorter = path.with_name(f"cut-{path.name}")
    shorter.write_bytes(content[: int(len(content) * share)])
    return shorter


def test_a_file_yields_every_frame_in_order(clip: Path) -> None:
    source = VideoSource(str(clip))
    frames = list(source.frames())
    assert [frame.sequence for frame in frames] == list(range(40))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(number, 10) for number in range(40)]
    assert (frames[0].width, frames[0].height) == (160, 120)
    assert source.frame_rate == 10
    assert not source.live
    assert source.fault is None
    assert source.corrupt == 0


def test_the_model_sees_the_picture_in_rgb(clip: Path) -> None:
    image = next(VideoSource(str(clip)).frames()).model_input(160)[0]
    assert np.abs(image[60, 30].astype(int) - BEACON).max() < 40


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (-90, (0, -1))])
def test_a_turned_phone_clip_comes_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    # display rotation is counter-clockwise: the stored top left corner goes bottom left for 90 degrees
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :32] = 255
    clip = write_video(tmp_path / "turned.mp4", [image] * 3, rotation=rotation)
    frame = next(VideoSource(str(clip)).frames())
    assert (frame.width, frame.height) == ((96, 64) if rotation == 180 else (64, 96))
    bright = frame.model_input(96)[0, ..., 0] > 128
    assert bright[corner]
    assert 0.1 < bright.mean() < 0.25


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv"])
def test_a_truncated_file_yields_what_it_holds_then_says_so(tmp_path: Path, name: str) -> None:
    source = VideoSource(str(cut(write_video(tmp_path / name, SCENES), 0.5)))
    frames = list(source.frames())
    assert 10 <= len(frames) < 40
    assert isinstance(source.fault, DataError)
    assert f"truncated after {len(frames)} frames" in str(source.fault)


def test_a_file_cut_before_its_index_is_no_video(tmp_path: Path) -> None:
    clip = cut(write_video(tmp_path / "clip.mp4", SCENES), 0.7)
    with pytest.raises(DataError, match="cannot be read as a video"):
        list(VideoSource(str(clip)).frames())


def test_damage_in_the_middle_costs_few_frames_and_is_no_truncation(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", SCENES)
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 900] = bytes(900)
    clip.write_bytes(content)
    source = VideoSource(str(clip))
    assert len(list(source.frames())) >= 30
    assert source.fault is None


@pytest.mark.parametrize("content", [b"", b"no video at all", bytes(5000)])
def test_rubbish_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(VideoSource(str(path)).frames())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    with pytest.raises(DataError, match="holds no pictures"):
        list(VideoSource(str(path)).frames())


def test_a_playlist_cannot_make_it_open_an_address(tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u8"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/segment.ts"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(DataError):
            list(VideoSource(str(playlist)).frames())
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        VideoSource(str(tmp_path / "none.mp4"))
    with pytest.raises(UsageError, match="is not a file"):
        VideoSource(str(tmp_path))


def test_a_name_with_a_colon_is_a_path(tmp_path: Path, clip: Path) -> None:
    odd = tmp_path / "rtsp:clip 1.avi"
    odd.write_bytes(clip.read_bytes())
    assert len(list(VideoSource(str(odd)).frames())) == 40


def test_an_unreachable_camera_is_named_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = VideoSource(f"rtsp://admin:s3cret@127.0.0.1:{port}/live?token=t0ken", open_timeout=5)
    assert source.live
    with pytest.raises(ServerUnavailableError) as caught:
        list(source.frames())
    for text in (str(caught.value), repr(caught.value.__context__), repr(caught.value.__cause__), source.name):
        assert "s3cret" not in text
        assert "t0ken" not in text
    assert f"127.0.0.1:{port}/live" in str(caught.value)


def test_a_camera_that_accepts_and_stays_silent_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = VideoSource(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live", open_timeout=0.3, read_timeout=0.3)
        with pytest.raises(ServerUnavailableError):
            list(source.frames())


def test_a_looped_file_never_ends_and_its_time_goes_on(clip: Path) -> None:
    frames = list(islice(VideoSource(str(clip), loop=True).frames(), 95))
    assert [frame.sequence for frame in frames] == list(range(95))
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(number, 10) for number in range(95)]


def test_stop_ends_a_paced_file_at_once(clip: Path) -> None:
    source = VideoSource(str(clip), realtime=True)
    assert source.live
    frames = source.frames()
    next(frames)
    threading.Timer(0, source.stop).start()
    assert len(list(frames)) < 39


def test_a_real_clip_has_all_its_frames(privseg_data: Path) -> None:
    source = VideoSource(str(privseg_data / "video" / "vtest.avi"))
    assert sum(1 for _ in source.frames()) == 795
    assert source.fault is None


def test_only_the_picture_is_demuxed(tmp_path: Path) -> None:
    path = tmp_path / "talkie.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number, image in enumerate(SCENES[:10]):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts = 8000, number * 800
            container.mux(audio.encode(sound))
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    source = VideoSource(str(path))
    assert len(list(source.frames())) == 10
    assert source.fault is None


def test_a_picture_the_decoder_calls_corrupt_is_marked_and_counted(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", SCENES)
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 900] = bytes(900)
    clip.write_bytes(content)
    source = VideoSource(str(clip))
    damaged = [frame.damaged for frame in source.frames()]
    first, last = damaged.index(True), len(damaged) - damaged[::-1].index(True)
    assert not any(damaged[:first])
    assert all(damaged[first:last]), "what is built on a damaged picture is damaged, until a key frame"
    assert last - first > 1
    assert source.corrupt >= 1


@pytest.mark.parametrize(("rotation", "aspect"), [(0, Fraction(4, 3)), (90, Fraction(3, 4))])
def test_the_shape_of_the_pixels_is_known_and_turns_with_the_picture(
    tmp_path: Path, rotation: int, aspect: Fraction
) -> None:
    clip = write_video(tmp_path / "clip.mp4", SCENES[:3], rotation=rotation, pixel_aspect=Fraction(4, 3))
    source = VideoSource(str(clip))
    next(source.frames())
    assert source.pixel_aspect == aspect


class Recordings(BaseHTTPRequestHandler):
    """A web camera at ``/live``, a recording at ``/clip``, and one at ``/later`` that is missing at first."""

    clip: Path
    asked: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        known = self.path in self.asked
        self.asked.add(self.path)
        if self.path == "/later" and not known:
            self.send_error(503)
            return
        if self.path in {"/clip", "/later"}:
            content = self.clip.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # the reader has seen enough
                self.wfile.write(content)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        self.end_headers()
        for image in SCENES[:10]:
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            with suppress(OSError):
                self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def web(clip: Path) -> Iterator[str]:
    handler = type("Handler", (Recordings,), {"clip": clip, "asked": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_web_camera_is_live_and_a_web_recording_is_not(web: str) -> None:
    camera, recording = VideoSource(f"{web}/live"), VideoSource(f"{web}/clip")
    assert (camera.live, camera.endless) == (True, True)
    assert (recording.live, recording.endless) == (False, False)
    frames = camera.frames()
    assert [next(frames).sequence for _ in range(9)] == list(range(9))
    with pytest.raises(ServerUnavailableError, match="was lost"):
        list(frames)  # it broke off in the middle of a picture
    assert len(list(recording.frames())) == 40


def test_a_web_address_out_of_reach_is_taken_for_a_camera_until_it_answers(web: str) -> None:
    source = VideoSource(f"{web}/later")
    assert source.live
    assert len(list(source.frames())) == 40
    assert not source.endless


def test_a_web_address_out_of_reach_is_live() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert VideoSource(f"http://127.0.0.1:{port}/x", open_timeout=2).endless
