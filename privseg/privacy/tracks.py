"""Following covered areas from frame to frame by their boxes alone.

Nothing of what a person looks like is used or kept. Who leaves for a while, crosses another or stands too close is
another track afterwards, or swaps with the other: a track is a convenience of the eye, not an identity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privseg.privacy.filters.base import Person, Scene

__all__ = ["Track", "Tracks"]

# A box that moved by up to this share of its size is the same one, though it overlaps too little.
_REACH = 0.5
_LEAST_OVERLAP = 0.2


@dataclass(slots=True)
class Track:
    """One area, followed.

    Attributes:
        number: Counted from 0 since the tracker was made; never used twice.
        first, last: The frames in which it was first and last seen.
        origin: Where it was first seen.
        box: Where it was last seen.
    """

    number: int
    first: int
    last: int
    origin: Person
    box: Person


class Tracks:
    """The tracks of one camera. Numbers restart with every object of this class and mean nothing outside it.

    Args:
        patience: Frames for which an area that vanished is waited for.
        lifetime: Frames after which a track ends though the area is still there, and a new one begins.
    """

    def __init__(self, patience: int = 15, lifetime: int = 9000) -> None:
        self._patience = patience
        self._lifetime = lifetime
        self._next = 0
        self._live: list[Track] = []
        self._view: tuple[str, int, int] | None = None
        self._sequence = 0

    def update(self, scene: Scene) -> list[Track]:
        """Follow the people of one more frame.

        Another camera, another size of the frame, or a frame from before the last one makes it forget all.

        Returns:
            The track of every person, in order of their index.
        """
        view = (scene.camera, scene.height, scene.width)
        if view != self._view or scene.sequence < self._sequence:
            self._live.clear()
        self._view, self._sequence = view, scene.sequence
        self._live = [
            track
            for track in self._live
            if scene.sequence - track.last <= self._patience and scene.sequence - track.first < self._lifetime
        ]
        found = dict(self._matches(scene.people))
        tracks = [found.get(person.index) or self._begin(person, scene.sequence) for person in scene.people]
        for track, person in zip(tracks, scene.people, strict=True):
            track.last, track.box = scene.sequence, person
        return tracks

    def live(self) -> list[Track]:
        """All tracks that are still followed or waited for, the oldest first."""
        return list(self._live)

    def _begin(self, person: Person, sequence: int) -> Track:
        track = Track(self._next, sequence, sequence, person, person)
        self._next += 1
        self._live.append(track)
        return track

    def _matches(self, people: tuple[Person, ...]) -> Iterator[tuple[int, Track]]:
        """Index of a person and its track, the best overlap first; each at most once."""
        if not self._live or not people:
            return
        scores = _likeness(_boxes([track.box for track in self._live]), _boxes(people))
        free = [True] * len(self._live)
        left = [True] * len(people)
        for place in np.argsort(-scores, axis=None, kind="stable"):
            row, column = divmod(int(place), len(people))
            if scores[row, column] <= 0:
                return
            if free[row] and left[column]:
                free[row] = left[column] = False
                yield people[column].index, self._live[row]


def _boxes(people: list[Person] | tuple[Person, ...]) -> npt.NDArray[np.float64]:
    """float64 ``(n, 4)``: left, top, right, bottom."""
    return np.array([(p.left, p.top, p.left + p.width, p.top + p.height) for p in people], np.float64)


def _likeness(before: npt.NDArray[np.float64], now: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """float64 ``(n, m)``: 1 + IoU of boxes that overlap enough, 0 to 1 for those that are near, 0 for the others."""
    earlier, later = before[:, np.newaxis], now[np.newaxis]
    inner = np.minimum(earlier[..., 2:], later[..., 2:]) - np.maximum(earlier[..., :2], later[..., :2])
    overlap = np.clip(inner, 0, None).prod(-1)
    sizes = earlier[..., 2:] - earlier[..., :2], later[..., 2:] - later[..., :2]
    iou = overlap / (sizes[0].prod(-1) + sizes[1].prod(-1) - overlap)
    moved = np.abs((earlier[..., :2] + earlier[..., 2:]) - (later[..., :2] + later[..., 2:])) / 2
    nearness = 1 - (moved / (_REACH * np.maximum(*sizes))).max(-1)
    likeness: npt.NDArray[np.float64] = np.where(iou >= _LEAST_OVERLAP, 1 + iou, np.clip(nearness, 0, None))
    return likeness
