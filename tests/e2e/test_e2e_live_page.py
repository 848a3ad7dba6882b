"""A network camera, a gateway with a real Triton and the shipped model, and the page in a real browser.

One page stays open while the camera's server and Triton are each killed and started again: it says what is wrong, shows
no picture of then, and is live again by itself. People are covered in a colour that occurs nowhere in the clip. That
everybody is covered is for the audit and the benchmarks; here every picture that leaves while the model or the camera
is gone must be a slate, and no picture may lack the colour where the model sees people in every frame of the clip.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from privseg.serving.shipped import seed
from privseg.testing.browser import Browser, missing_browser
from privseg.testing.camera import is_slate
from privseg.testing.rtsp import RtspServer, missing_rtsp_packages
from privseg.testing.triton import ServedModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 90.0
COVER = (255, 0, 200)
STATE = "document.querySelector('.state')?.textContent ?? ''"
Image = npt.NDArray[np.uint8]


def covered(image: Image) -> int:
    """How many pixels have the cover's colour, give or take a codec's loss."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return int(np.count_nonzero((red > 170) & (green < 90) & (blue > 120)))


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def clip(privseg_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of vtest.avi as H.264, as a camera would send them."""
    (source,) = privseg_data.rglob("vtest.avi")
    out = tmp_path_factory.mktemp("clip") / "vtest.mp4"
    with av.open(str(source)) as container, av.open(str(out), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 768, 576, "yuv420p"
        # Pictures in one piece: GStreamer puts headers between the pieces of others, and they arrive damaged.
        stream.thread_count = 1
        for number, picture in enumerate(container.decode(video=0)):
            if number == 100:
                break
            picture.pts = None
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return out


@pytest.fixture
def triton(tmp_path: Path) -> Iterator[ServedModel]:
    repository = tmp_path / "model_repository"
    seed(repository)
    server = ServedModel(repository, tmp_path / "triton")
    yield server
    server.kill()


@pytest.fixture
def gateway(tmp_path: Path, clip: Path, triton: ServedModel) -> Iterator[tuple[subprocess.Popen[str], RtspServer, str]]:
    """The gateway as its users start it, its camera, and the address of its page."""
    missing = missing_rtsp_packages() or missing_browser()
    if missing:
        pytest.skip(missing)
    config = tmp_path / "cameras.yaml"
    with RtspServer(clip) as camera:
        config.write_text(
            f"triton: {{url: '{triton.grpc_url}'}}\nmetrics: {{port: 0}}\nlive: {{port: 0}}\ncameras:\n  yard:\n"
            f"    source: {camera.url}\n    method: blank\n    params: {{color: '#ff00c8'}}\n    schedule: adaptive\n"
            f"    purpose: an end-to-end test\n    retention_hours: 1\n"
            f"    recording: {{folder: {tmp_path / 'recordings'}}}\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "privseg", "stream", "--config", str(config)], stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            yield process, camera, process.stderr.readline().strip().removeprefix("live page on ")
        finally:
            process.kill()
            process.communicate()


def test_the_page_shows_covered_people_and_recovers_by_itself(
    tmp_path: Path, gateway: tuple[subprocess.Popen[str], RtspServer, str], triton: ServedModel
) -> None:
    process, camera, address = gateway
    shots = tmp_path / "shots"
    shots.mkdir()
    with Browser(tmp_path / "browser") as page:

        def live() -> bool:
            shown = page.evaluate(STATE) == "live, people protected"
            return shown and covered(page.screenshot(shots / "live.png")) > 50

        def says(word: str) -> Callable[[], bool]:
            return lambda: word in page.evaluate(STATE) and not covered(page.screenshot(shots / f"{word}.png"))

        page.open(address)
        page.evaluate("window.stayed = true")
        eventually(lambda: bool(page.evaluate("document.title")), "the page opens")
        page.evaluate("window.stayed = true")
        eventually(live, "people are shown covered")
        first = page.screenshot(shots / "first.png")
        eventually(lambda: bool((page.screenshot(shots / "second.png") != first).any()), "the picture moves")

        assert camera.pid is not None
        os.kill(camera.pid, signal.SIGKILL)
        camera.stop()
        eventually(says("lost"), "a lost camera is told, and its last picture goes")
        camera.start()
        eventually(live, "it is live again after the camera")

        triton.kill()
        eventually(says("withheld"), "without a model there are slates")
        triton.restart()
        eventually(live, "it is live again after Triton")
        assert page.evaluate("window.stayed") is True, "nobody loaded the page again"

    process.terminate()
    assert process.wait(SECONDS) == 0
    looked_at = slates = 0
    for path in (tmp_path / "recordings").glob("*.mp4"):
        with av.open(str(path)) as container:
            assert [stream.type for stream in container.streams] == ["video"]
            for picture in container.decode(video=0):
                image = np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
                looked_at += 1
                if is_slate(image):
                    slates += 1
                else:
                    assert covered(image) > 50, f"picture {looked_at}"
    assert 0 < slates < looked_at
