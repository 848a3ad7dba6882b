"""The exam every candidate takes, and every server that is to serve it: golden frames, with and without people.

Two questions are asked. Of the model: does it look at the picture at all? A model that sees nobody anywhere, sees a
person everywhere, or answers every picture alike passes any comparison with itself and protects nobody, or shows
nothing. The bounds are wide on purpose: how *good* a model is was measured on the test split, and decided there. Of a
server: does it answer as ONNX Runtime does in this process, for the version that was asked for?
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privseg.datasets.sources.synthetic import render_scene
from privseg.errors import GateFailedError
from privseg.serving.admin import Endpoint
from privseg.serving.golden import GOLDEN_SIZE, compare, golden_frame, require_computed, run_onnx

__all__ = ["Exam", "Limits", "golden_scenes"]

MAX_MEAN_DIFFERENCE: Final = 1.0  # of 255
MIN_MASK_AGREEMENT: Final = 0.999

_SCENES: Final = (3, 7, 10, 1)  # seeds: three places with people near and far, in light and dark clothes; one without
_AGAIN: Final = "train longer, or look at the data: privseg run"


@dataclass(frozen=True)
class Limits:
    """From where on a model counts as one that does not look; ``publish`` of ``params.yaml``.

    Attributes:
        threshold: Probability from which a pixel counts as a person.
        min_found: Share of the drawn people's pixels; less is nobody.
        max_called: Share of the pixels that show nobody; more is everybody.
        min_spread: How far the answers to different pictures must lie apart, in 1/255, in the mean over the pixels.
    """

    threshold: float = 0.5
    min_found: float = 0.02
    max_called: float = 0.98
    min_spread: float = 1.0


@functools.cache
def golden_scenes() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw the golden scenes.

    Returns:
        uint8 ``[4,256,320,3]``, RGB: generated scenes, the last one without people; bool ``[4,256,320]``: where the
        people are. Both cannot be written to.
    """
    height, width = GOLDEN_SIZE
    drawn = [render_scene(seed, height=height, width=width) for seed in _SCENES]
    pictures, people = np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn]) == 1
    pictures.flags.writeable = people.flags.writeable = False
    return pictures, people


_USUAL: Final = Limits()


@dataclass(frozen=True)
class Exam:
    """What a model answers to the golden frames, as ONNX Runtime in this process has it.

    Attributes:
        limits: The threshold, and from where on a model counts as one that does not look.
        expected: The answers, uint8 ``[N,256,320]`` each: to the drawn frame, and to the golden scenes.
    """

    limits: Limits
    expected: tuple[NDArray[np.uint8], NDArray[np.uint8]]

    @classmethod
    def of(cls, onnx: bytes, limits: Limits = _USUAL) -> Exam:
        """Run a model, the content of ``model.onnx``, on the golden frames.

        Raises:
            GateFailedError: It does not load or run, breaks the contract, or leaves pixels uncomputed.
        """
        return cls(limits, (run_onnx(onnx, golden_frame()), run_onnx(onnx, golden_scenes()[0])))

    def require_attentive(self) -> None:
        """Raise GateFailedError for a model that answers without looking."""
        levels, people, limits = self.expected[1], golden_scenes()[1], self.limits
        person = levels >= limits.threshold * 255
        found, called = float(person[people].mean()), float(person[~people].mean())
        spread = float(np.ptp(levels.astype(np.int16), axis=0).mean())
        if found < limits.min_found:
            fault = f"finds {found:.1%} of the people in the golden scenes; less than {limits.min_found:.0%} is nobody"
        elif called > limits.max_called:
            fault = f"calls {called:.1%} of what shows nobody a person; more than {limits.max_called:.0%} is everything"
        elif spread < limits.min_spread:
            fault = f"answers every picture alike: the golden scenes' answers are {spread:.2f} of 255 apart"
        else:
            return
        raise GateFailedError("model.onnx", f"{fault} (threshold {limits.threshold})", _AGAIN)

    def check(self, server: Endpoint, version: int) -> None:
        """Ask a server as a client does: the version must answer, and answer what the model says.

        Raises:
            GateFailedError: It refuses, another version answers, or the answer is off; the message names the server.
            ServerUnavailableError: It cannot be reached.
        """
        for pictures, expected in zip((golden_frame(), golden_scenes()[0]), self.expected, strict=True):
            found, answered_by = server.infer(pictures)
            if answered_by != version:
                fault = f"version {answered_by} answers, not {version}"
                raise GateFailedError(server.url, fault, "read its config.pbtxt and its log")
            if found.shape != expected.shape:
                fault = f"answers {found.shape} to golden frames {pictures.shape}"
                raise GateFailedError(server.url, fault, "read the server's log")
            require_computed(server.url, found)
            agreement = compare(expected, found, self.limits.threshold)
            if not agreement.within(MAX_MEAN_DIFFERENCE, MIN_MASK_AGREEMENT):
                fault = f"a golden frame's answer is off: {agreement}"
                raise GateFailedError(server.url, fault, "compare the runtimes")
