"""A sink that looks at protected frames, compares them with the truth, and keeps numbers and outlines only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from privseg.errors import DataError, PrivacyViolationPrevented
from privseg.privacy.frames import ProtectedFrame
from privseg.training.person_metrics import PersonCounts

__all__ = ["FILL", "ClipCounts", "Witness"]

#: what people are filled with while they are audited, RGB: no camera's picture holds it
FILL: Final = (255, 0, 254)
_KEPT: Final = 3
_GREEN, _RED, _DARK, _GREY = (96, 190, 96), (70, 70, 235), (28, 26, 24), (110, 104, 100)  # BGR


class ClipCounts(BaseModel):
    """What was seen of one clip through one server.

    A person is missed when less than 80 % is covered; people lower than 32 pixels of the clip are counted apart.
    """

    frames: int = 0
    withheld: int = Field(0, description="frames that left as slates: nobody was seen, and nothing was measured")
    leak_frames: int = Field(0, description="frames in which somebody of 32 pixels or more was missed")
    people: int = Field(0, description="people of 32 pixels or more, counted anew in every frame")
    missed: int = 0
    small_people: int = 0
    small_missed: int = 0
    person_pixels: int = Field(0, description="of all people, small ones too")
    covered_pixels: int = 0
    background_pixels: int = 0
    background_covered: int = 0

    @property
    def person_recall(self) -> float | None:
        """Share of the people's pixels that was covered; None where nobody was to be seen."""
        return self.covered_pixels / self.person_pixels if self.person_pixels else None

    def __add__(self, other: ClipCounts) -> ClipCounts:
        return ClipCounts(**{name: getattr(self, name) + getattr(other, name) for name in ClipCounts.model_fields})


class Witness:
    """Takes protected frames whose people are filled with :data:`FILL`.

    Args:
        masks: The clip's masks.

    Attributes:
        counts: What was seen so far.
        worst: The frames with the most uncovered person pixels: sequence number, pixels, PNG of the outlines.
    """

    def __init__(self, masks: Path) -> None:
        self.counts = ClipCounts()
        self.worst: list[tuple[int, int, bytes]] = []
        self._masks = masks

    def write(self, frame: ProtectedFrame) -> None:
        """Measure one frame.

        Raises:
            PrivacyViolationPrevented: It is no ProtectedFrame.
            DataError: Its mask is missing, no picture, or of another size.
        """
        if type(frame) is not ProtectedFrame:
            raise PrivacyViolationPrevented("audit", "was handed a frame that is not protected", "protect() it first")
        self.counts.frames += 1
        if frame.withheld is not None:
            self.counts.withheld += 1
            return
        truth = self._truth(frame)
        self._count(frame.sequence, np.all(frame.pixels == np.array(FILL, np.uint8), axis=2), truth)

    def close(self) -> None:
        """Nothing to finish."""

    def abort(self) -> None:
        """Nothing to finish."""

    def _count(self, sequence: int, covered: npt.NDArray[np.bool_], truth: npt.NDArray[np.uint8]) -> None:
        counts, people = self.counts, PersonCounts()
        people.update(covered, truth)
        missed = people.medium.missed + people.large.missed
        counts.leak_frames += missed > 0
        counts.people += people.medium.people + people.large.people
        counts.missed += missed
        counts.small_people += people.small.people
        counts.small_missed += people.small.missed
        human, background = truth == 1, truth == 0
        counts.person_pixels += int(human.sum())
        leaked = human & ~covered
        counts.covered_pixels += int((human & covered).sum())
        counts.background_pixels += int(background.sum())
        counts.background_covered += int((background & covered).sum())
        pixels = int(leaked.sum())
        if missed and (len(self.worst) < _KEPT or pixels > self.worst[-1][1]):
            self.worst = sorted([*self.worst, (sequence, pixels, _outlines(covered, human))], key=lambda w: -w[1])[
                :_KEPT
            ]

    def _truth(self, frame: ProtectedFrame) -> npt.NDArray[np.uint8]:
        path = self._masks / f"{frame.sequence:06d}.png"
        try:
            mask = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error):
            mask = None
        if mask is None or mask.shape != (frame.height, frame.width) or mask.dtype != np.uint8:
            fault = f"is no mask of {frame.width}x{frame.height} pixels"
            raise DataError(path, fault, "give every frame of the clip a mask, or remove the clip's folder")
        return np.asarray(mask, np.uint8)


def _outlines(covered: npt.NDArray[np.bool_], human: npt.NDArray[np.bool_]) -> bytes:
    """Draw areas only, no pixel of the scene: green covered people, red uncovered, grey covered without need."""
    picture = np.full((*human.shape, 3), _DARK, np.uint8)
    picture[covered & ~human] = _GREY
    picture[covered & human] = _GREEN
    picture[human & ~covered] = _RED
    return bytes(cv2.imencode(".png", picture)[1].tobytes())
