"""A drawn camera: it behaves as a live one, everybody in it moves, and its address is read strictly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from privseg.errors import UsageError
from privseg.privacy.filters.registry import create_method
from privseg.streaming.anonymize import anonymize
from privseg.streaming.source import FrameSource
from privseg.streaming.source_synthetic import SyntheticAddress, SyntheticSource, read_synthetic
from privseg.streaming.sources import open_source
from privseg.streaming.synthetic_scene import SyntheticScene
from privseg.testing.camera import read_video
from privseg.testing.segmenter import FaultySegmenter

SMALL = "synthetic://64x64@120"  # a size that the model would get as it is


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("synthetic://", SyntheticAddress()),
        ("synthetic:///", SyntheticAddress()),
        ("Synthetic://640x480", SyntheticAddress(640, 480)),
        ("synthetic://640x480@12.5", SyntheticAddress(640, 480, Fraction(25, 2))),
        ("synthetic://@10", SyntheticAddress(rate=Fraction(10))),
        ("synthetic://?people=0", SyntheticAddress(people=0)),
        ("synthetic://1280x720?fps=25&people=3&seed=1", SyntheticAddress(1280, 720, Fraction(25), 3, 1)),
    ],
)
def test_an_address_and_what_it_asks_for(uri: str, address: SyntheticAddress) -> None:
    assert read_synthetic(uri) == address
    assert read_synthetic(str(address)) == address


@pytest.mark.parametrize(
    "uri",
    [
        "synthetic://u:s3cret@cam",
        "synthetic://s3cret/live",
        "synthetic://640x480/s3cret/token/s3cret",
        "synthetic://640",
        "synthetic://640x480@",
        "synthetic://640x480@0",
        "synthetic://640x480@121",
        "synthetic://640x480@10?fps=10",
        "synthetic://64x63",
        "synthetic://63x64",
        "synthetic://3841x720",
        "synthetic://99999999x720",
        "synthetic://640x480?people=21",
        "synthetic://640x480?people=-1",
        "synthetic://640x480?people=1.5",
        "synthetic://640x480?people=",
        "synthetic://640x480?people=1&people=2",
        "synthetic://640x480?seed=4294967296",
        "synthetic://640x480?width=640",
        "synthetic://640x480?s3cret",
        "synthetic://640x480#x",
        "synthetic://[640x480",
        "synthetic://\uff16\uff14\uff10x480",
        "synthetic:/640x480",
        "rtsp://camera/live",
        "640x480",
    ],
)
def test_a_malformed_address_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        SyntheticSource(uri)
    assert "\n" not in str(caught.value)
    assert "@cam" not in uri or "s3cret" not in str(caught.value)


def test_a_malformed_address_says_how_a_good_one_looks() -> None:
    with pytest.raises(UsageError, match="synthetic://WIDTHxHEIGHT@FPS"):
        open_source("synthetic://640")


def test_it_is_a_live_camera_without_end() -> None:
    source = open_source("synthetic://96x64@120?people=2", loop=True, realtime=False)
    assert isinstance(source, SyntheticSource)
    assert (source.live, source.endless, source.frame_rate, source.pixel_aspect) == (True, True, 120, 1)
    assert source.name == "synthetic://96x64?fps=120&people=2&seed=0"
    frames = list(islice(source.frames(), 30))
    assert [frame.sequence for frame in frames] == list(range(30))
    assert {(frame.width, frame.height) for frame in frames} == {(96, 64)}
    assert not any(frame.damaged or frame.frozen for frame in frames)
    assert (source.corrupt, source.fault) == (0, None)


def test_no_picture_comes_before_its_time() -> None:
    begun = time.monotonic()
    for frame in islice(SyntheticSource(SMALL).frames(), 10):
        assert time.monotonic() - begun >= float(frame.pts * frame.time_base) - 1e-4


def test_time_and_numbers_go_on_when_it_is_opened_again() -> None:
    source = SyntheticSource(SMALL)
    frames = [*islice(source.frames(), 3), *islice(source.frames(), 3)]
    assert [frame.sequence for frame in frames] == list(range(6))
    assert all(before.pts < after.pts for before, after in pairwise(frames))


@pytest.mark.parametrize("people", [0, 5])
def test_no_two_pictures_in_a_row_are_the_same(people: int) -> None:
    pictures = [frame.model_input(64) for frame in islice(SyntheticSource(f"{SMALL}?people={people}").frames(), 12)]
    assert all((before != after).mean() > 0.5 for before, after in pairwise(pictures))


def test_the_seed_decides_the_place_and_the_people() -> None:
    def picture(seed: int) -> np.ndarray:
        return SyntheticScene(96, 64, people=3, seed=seed).picture(0, 1.5)

    assert np.array_equal(picture(1), picture(1))
    assert (picture(1) != picture(2)).mean() > 0.5


@pytest.mark.parametrize("size", [(64, 64), (320, 240), (65, 640), (3840, 64)])
def test_people_walk_through_a_place_that_stands_still(size: tuple[int, int]) -> None:
    peopled, empty = (SyntheticScene(*size, people=people, seed=3) for people in (8, 0))
    assert peopled.picture(0, 0).shape == (size[1], size[0], 3)
    assert np.array_equal(empty.picture(0, 0), empty.picture(0, 9))
    changed = [
        (np.abs(peopled.picture(0, second).astype(int) - peopled.picture(0, second + 1)).max(axis=-1) > 20).mean()
        for second in range(8)
    ]
    assert 0.001 < float(np.mean(changed)) < 0.5


@pytest.mark.parametrize("opened", [lambda: SyntheticSource("synthetic://64x64@0.001"), lambda: open_source(SMALL)])
def test_stop_ends_it_at_once(opened: Callable[[], FrameSource]) -> None:
    source = opened()
    frames = source.frames()
    next(frames)
    threading.Timer(0, source.stop).start()
    for _ in frames:
        pass


def test_it_can_be_protected_and_written(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    report = anonymize(
        "synthetic://96x64@120", out, method=create_method("blank"), segmenter=FaultySegmenter(), max_frames=5
    )
    assert (report.frames_out, report.frames_blanked, report.fault) == (5, 0, None)
    assert report.source == "synthetic://96x64?fps=120&people=3&seed=0"
    assert len(read_video(out)) >= 5
