import av
import cv2
import numpy as np
import pytest

from privseg.datasets.sources._synthetic_body import random_look
from privseg.datasets.sources._synthetic_cast import Actor
from privseg.datasets.sources.synthetic import iter_video, write_video
from privseg.errors import StorageError, UsageError

SIZE = {"height": 108, "width": 192}


@pytest.fixture(scope="module")
def video():
    return list(iter_video(3, frames=60, frame_rate=6.0, **SIZE))


def test_frames_masks_and_their_number(video):
    assert len(video) == 60
    for image, mask in video:
        assert image.shape == (108, 192, 3)
        assert image.dtype == np.uint8
        assert mask.shape == (108, 192)
        assert set(np.unique(mask)) <= {0, 1}


def test_people_move_through_one_place_that_stays(video):
    images = np.stack([image for image, _ in video]).astype(np.float32).mean(axis=3)
    masks = np.stack([mask for _, mask in video])
    assert masks.any(axis=0).sum() > 2 * masks.sum(axis=(1, 2)).max()
    never = ~masks.any(axis=0)
    place = np.median(images, axis=0)
    # what nobody ever covers differs from the place by noise and passing shadows alone
    drift = np.abs(images - place)[:, never]
    assert np.median(drift, axis=1).max() < 12
    # and where people are, mostly by much more
    covered = np.abs(images - place)[masks.astype(bool)]
    assert np.median(covered) > 2 * np.median(drift)


def test_same_seed_same_video_and_length_is_its_only_other_cause(video):
    again = next(iter(iter_video(3, frames=60, frame_rate=6.0, **SIZE)))
    other = next(iter(iter_video(4, frames=60, frame_rate=6.0, **SIZE)))
    assert np.array_equal(again[0], video[0][0])
    assert np.array_equal(again[1], video[0][1])
    assert not np.array_equal(other[0], video[0][0])


def test_actors_leave_sit_down_and_fall():
    look = random_look(np.random.default_rng(0))

    def at(second, ending):
        return Actor(look, (0, 5), (4, 5), begins=1.0, speed=1.0, ending=ending, heading=3.0).at(second)

    assert at(0.5, "leave") is None
    assert at(3, "leave").x == pytest.approx(2)
    assert at(3, "leave").stride > 0.5
    assert at(5.5, "leave") is None
    assert at(0.5, "sit").stride == 0
    assert at(9, "sit").sit == 1
    assert at(9, "sit").heading == pytest.approx(3.0)
    assert at(9, "fall").fall == 1
    assert 0 < at(5.5, "fall").fall < 1
    assert at(9, "stay").stride == 0


def test_written_video_holds_the_frames_and_its_masks_are_exact(tmp_path):
    path, masks = tmp_path / "clips" / "one.mp4", tmp_path / "masks"
    write_video(path, 3, frames=12, frame_rate=6.0, masks_dir=masks, **SIZE)
    expected = list(iter_video(3, frames=12, frame_rate=6.0, **SIZE))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 6
        decoded = [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)
        ]
    assert [float(time) for time, _ in decoded] == pytest.approx([index / 6 for index in range(12)])
    for (_, seen), (image, _) in zip(decoded, expected, strict=True):
        assert np.abs(seen.astype(int) - image).mean() < 15
    assert sorted(path.name for path in masks.iterdir()) == [f"{index:06d}.png" for index in range(12)]
    for index, (_, mask) in enumerate(expected):
        assert np.array_equal(cv2.imread(str(masks / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED), mask)
    assert [entry.name for entry in path.parent.iterdir()] == ["one.mp4"]


@pytest.mark.parametrize("wrong", [{"height": 107}, {"width": 0}, {"frames": 0}, {"frame_rate": 0.0}])
def test_impossible_videos_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match=r"clip\.mp4"):
        write_video(tmp_path / "clip.mp4", 1, **({"frames": 2} | SIZE | wrong))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        write_video(tmp_path / "file" / "clip.mp4", 1, frames=2, **SIZE)
