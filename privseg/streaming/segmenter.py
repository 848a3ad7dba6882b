"""Asking the model where people are: the seam that every backend keeps, and nothing of any of them.

A segmenter sees the model's input, a plain array; it never holds a frame. Every way in which it can fail to answer ends
in :class:`NoAnswer`. The backends: :mod:`~privseg.streaming.segmenter_triton` (gRPC, one call a frame or one stream,
with pictures in the message or in shared memory), :mod:`~privseg.streaming.segmenter_local` (ONNX Runtime in this
process), and :class:`privseg.testing.segmenter.FaultySegmenter`, which fails on demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from privseg.privacy.frames import Withheld

__all__ = ["IMAGE", "MODEL_NAME", "PERSON", "Answer", "NoAnswer", "SegmenterBackend", "check_image"]

MODEL_NAME: Final = "person_segmentation"
#: the model's input and its output, by name
IMAGE: Final = "IMAGE"
PERSON: Final = "PERSON"
_SIZE_MULTIPLE: Final = 32


class NoAnswer(Exception):  # noqa: N818 - a fact to act on, not a fault of the program
    """There is no usable answer for a frame: it must leave as a slate.

    Args:
        reason: What the slate says.
        detail: One line for the operator.
    """

    def __init__(self, reason: Withheld, detail: str = "") -> None:
        super().__init__(detail or str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said about one frame.

    Attributes:
        sequence: Number of the frame it was asked about.
        probability: uint8 ``(H, W)``, person probability times 255, at the size of the input. Nobody changes it later.
        model_version: The version that answered.
    """

    sequence: int
    probability: npt.NDArray[np.uint8]
    model_version: str


class SegmenterBackend(Protocol):
    """Something that finds people. One caller thread; frames are asked for and collected in order."""

    #: how many frames may be asked for before the first is collected
    max_in_flight: int
    model: str

    def check_ready(self) -> None:
        """Raise ServerUnavailableError unless the model would answer now."""
        ...

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about frame ``sequence``; ``image`` is uint8 ``[1, H, W, 3]`` RGB, H and W multiples of 32.

        Returns at once; the caller may change ``image`` then.

        Raises:
            NoAnswer: There will be none.
        """
        ...

    def result(self, sequence: int) -> Answer:
        """Wait for the answer about frame ``sequence`` until its deadline.

        Raises:
            NoAnswer: It did not come in time, or cannot be used.
        """
        ...

    def close(self) -> None:
        """Let go of the connection and of what is in flight; a second call does nothing."""
        ...


def check_image(image: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width of the model's input.

    Raises:
        NoAnswer: ``image`` is not uint8 ``[1, H, W, 3]`` with H and W multiples of 32.
    """
    if image.dtype == np.uint8 and image.ndim == 4 and 0 not in image.shape:
        count, height, width, colours = image.shape
        if (count, colours) == (1, 3) and height % _SIZE_MULTIPLE == width % _SIZE_MULTIPLE == 0:
            return height, width
    fault = f"{IMAGE} is {image.dtype} {image.shape}, not uint8 [1, H, W, 3] in multiples of {_SIZE_MULTIPLE}"
    raise NoAnswer(Withheld.ERROR, fault)
