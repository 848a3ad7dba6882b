import itertools
import os
import select
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from privseg.datasets.sources.synthetic import iter_video, write_video
from privseg.errors import ServerUnavailableError
from privseg.testing.rtsp import RtspServer, missing_rtsp_packages

pytestmark = pytest.mark.skipif(missing_rtsp_packages() is not None, reason=f"needs {missing_rtsp_packages()}")
CLIP = {"frames": 12, "height": 96, "width": 128, "frame_rate": 20.0}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("rtsp") / "clip.mp4"
    write_video(path, 3, **CLIP)
    return path


def watch(url, count=None):
    with av.open(url, options={"rtsp_transport": "tcp"}, timeout=20) as container:
        frames = itertools.islice(container.decode(video=0), count)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def ended(pid):
    return not Path(f"/proc/{pid}").exists()


def test_plays_a_file_from_its_first_frame_on_and_again(clip):
    with RtspServer(clip) as server:
        frames = watch(server.url, 16)
        pid = server.pid
    expected = [image for image, _ in iter_video(3, **CLIP)]
    assert len(frames) == 16
    for index, frame in enumerate(frames):
        errors = [np.abs(frame.astype(int) - image).mean() for image in expected]
        assert errors[index % 12] < 15
    # no re-encoding: the second round shows the first one's pixels
    assert np.array_equal(frames[0], frames[12])
    assert ended(pid)


def test_a_stream_that_does_not_loop_ends_with_its_file(clip):
    with RtspServer(clip, loop=False) as server:
        assert len(watch(server.url)) == 12


def test_asks_for_name_and_password(clip):
    with RtspServer(clip, credentials=("us er", "p@ss:word")) as server:
        assert len(watch(server.url, 2)) == 2
        with pytest.raises(av.error.HTTPUnauthorizedError):
            watch(server.bare_url, 1)
        with pytest.raises(av.error.HTTPUnauthorizedError):
            watch(server.bare_url.replace("rtsp://", "rtsp://us%20er:wrong@"), 1)


def test_without_a_file_shows_a_moving_pattern():
    with RtspServer() as server:
        frames = watch(server.url, 10)
    assert frames[0].shape == (240, 320, 3)
    assert not np.array_equal(frames[0], frames[9])


def test_comes_back_on_the_same_port(clip):
    server = RtspServer(clip)
    with server:
        url = server.url
        watch(url, 1)
    with pytest.raises(OSError, match="refused"):
        watch(url, 1)
    with server:
        assert server.url == url
        assert len(watch(url, 1)) == 1


def test_says_what_it_cannot_serve(tmp_path, clip):
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    for path in (text, tmp_path / "missing.mp4"):
        server = RtspServer(path)
        with pytest.raises(ServerUnavailableError, match="RTSP server"):
            server.start()
        assert server.pid is None
    with RtspServer(clip) as first, pytest.raises(ServerUnavailableError, match=str(first.port)):
        RtspServer(clip, port=first.port).start()


def test_does_not_outlive_the_program_that_started_it():
    code = (
        "import os, sys\nfrom privseg.testing.rtsp import RtspServer\nserver = RtspServer()\nserver.start()\n"
        "print(server.pid, flush=True)\nsys.stdin.readline()\nos.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        watched = os.pidfd_open(int(program.stdout.readline()))
        program.stdin.write("\n")
        program.stdin.flush()
        ready, _, _ = select.select([watched], [], [], 30)  # readable once the server has ended
        os.close(watched)
    assert ready
