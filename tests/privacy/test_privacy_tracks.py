"""Covered areas are followed by their boxes, and forgotten when they should be."""

from __future__ import annotations

import pytest

from privseg.privacy.filters.base import Person, Scene
from privseg.privacy.tracks import Tracks


def scene(sequence: int, *boxes: tuple[int, int], camera: str = "door", size: tuple[int, int] = (480, 640)) -> Scene:
    """People 100 high and 40 wide at the given (top, left)."""
    people = tuple(Person(index, top, left, 100, 40) for index, (top, left) in enumerate(boxes))
    return Scene(camera, sequence, *size, people)


def numbers(tracks: Tracks, seen: Scene) -> list[int]:
    return [track.number for track in tracks.update(seen)]


def test_two_walkers_keep_their_tracks_though_their_order_changes() -> None:
    tracks = Tracks()
    first = numbers(tracks, scene(0, (100, 100), (110, 300)))
    for step in range(1, 20):  # one walks down, the other up: their indexes swap on the way
        moved = [(100 + 2 * step, 100), (110 - 2 * step, 300)]
        boxes = sorted(moved)
        now = dict(zip(boxes, numbers(tracks, scene(step, *boxes)), strict=True))
        assert [now[place] for place in moved] == first


def test_a_fast_walker_whose_boxes_hardly_overlap_is_followed_by_nearness() -> None:
    tracks = Tracks()
    assert [numbers(tracks, scene(step, (100, 50 + 19 * step))) for step in range(10)] == [[0]] * 10


def test_a_box_that_overlaps_is_followed_though_it_moved_by_more_than_half_its_width() -> None:
    tracks = Tracks()
    assert [numbers(tracks, scene(step, (100, 50 + 24 * step))) for step in range(10)] == [[0]] * 10


@pytest.mark.parametrize("place", [(100, 150), (190, 100), (145, 125)])
def test_who_appears_beside_where_somebody_was_is_somebody_new(place: tuple[int, int]) -> None:
    tracks = Tracks()
    tracks.update(scene(0, (100, 100)))
    assert numbers(tracks, scene(1, place)) == [1]


def test_someone_far_from_everybody_is_somebody_new() -> None:
    tracks = Tracks()
    tracks.update(scene(0, (100, 100)))
    assert numbers(tracks, scene(1, (100, 100), (300, 500))) == [0, 1]


def test_the_same_frame_twice_gives_the_same_tracks() -> None:
    tracks = Tracks()
    twice = scene(0, (0, 0), (0, 0), (5, 3))
    assert numbers(tracks, twice) == numbers(tracks, twice) == [0, 1, 2]


def test_who_vanishes_is_waited_for_and_then_forgotten() -> None:
    tracks = Tracks(patience=5)
    tracks.update(scene(0, (100, 100)))
    tracks.update(scene(3))
    assert numbers(tracks, scene(5, (100, 100))) == [0]
    assert numbers(tracks, scene(11, (100, 100))) == [1]
    assert [track.number for track in tracks.live()] == [1]


def test_a_track_ends_after_its_lifetime_though_the_person_stays() -> None:
    tracks = Tracks(lifetime=10)
    assert [numbers(tracks, scene(step, (100, 100)))[0] for step in range(25)] == [0] * 10 + [1] * 10 + [2] * 5


def test_another_camera_size_or_an_earlier_frame_forgets_all() -> None:
    for other in (
        scene(4, (100, 100), camera="yard"),
        scene(4, (100, 100), size=(720, 1280)),
        scene(2, (100, 100)),
    ):
        tracks = Tracks()
        tracks.update(scene(3, (100, 100)))
        assert numbers(tracks, other) == [1]


def test_a_track_knows_when_and_where_it_began() -> None:
    tracks = Tracks()
    tracks.update(scene(7, (100, 100)))
    (track,) = tracks.update(scene(9, (104, 102)))
    assert (track.first, track.last) == (7, 9)
    assert (track.origin.top, track.box.top) == (100, 104)
