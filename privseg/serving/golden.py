"""Golden frames: pictures everyone can draw again, and the comparison of two answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from privseg.errors import GateFailedError
from privseg.serving.artifact import INPUT_NAME, OUTPUT_NAME

__all__ = ["GOLDEN_SIZE", "Agreement", "compare", "draw_frame", "golden_frame", "require_computed", "run_onnx"]

GOLDEN_SIZE: Final = (256, 320)  # height, width
_THREADS: Final = 2


@dataclass(frozen=True)
class Agreement:
    """How far two probability maps agree.

    Attributes:
        mean_difference: Mean absolute difference of probability × 255.
        mask_agreement: Share of pixels with the same decision at the threshold.
    """

    mean_difference: float
    mask_agreement: float

    def within(self, max_mean_difference: float, min_mask_agreement: float) -> bool:
        """Return whether both bounds hold."""
        return self.mean_difference <= max_mean_difference and self.mask_agreement >= min_mask_agreement

    def __str__(self) -> str:
        """Both figures in words."""
        return f"mean difference {self.mean_difference:.3f} of 255, mask agreement {self.mask_agreement:.5f}"


def draw_frame(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Draw a street-like picture with standing figures; equal arguments give equal pixels.

    Args:
        height: Pixels.
        width: Pixels.
        seed: Varies light, figures and noise.

    Returns:
        uint8 ``[height, width, 3]``, RGB.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.empty((height, width, 3), np.float32)
    horizon = height * random.uniform(0.3, 0.5)
    image[:] = np.where((rows < horizon)[..., None], random.uniform(130, 230, 3), random.uniform(50, 120, 3))
    image += (rows / height * 30)[..., None]
    for _ in range(3):
        centre, tall = width * random.uniform(0.1, 0.9), height * random.uniform(0.35, 0.8)
        foot = height * random.uniform(0.8, 0.98)
        skin, cloth = random.uniform(90, 220, 3), random.uniform(10, 240, 3)
        body = (np.abs(columns - centre) < tall * 0.13) & (rows > foot - tall * 0.86) & (rows < foot)
        head = (columns - centre) ** 2 + (rows - (foot - tall * 0.92)) ** 2 < (tall * 0.08) ** 2
        image[body], image[head] = cloth, skin
    image += random.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def golden_frame() -> NDArray[np.uint8]:
    """Return the frame every server is asked after a load: uint8 ``[1,256,320,3]``, RGB."""
    return draw_frame(*GOLDEN_SIZE, seed=20)[None]


def run_onnx(onnx: bytes, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Run a model in this process with ONNX Runtime and hold it to the contract.

    Args:
        onnx: The content of ``model.onnx``.
        images: uint8 ``[N,H,W,3]``, RGB, H and W multiples of 32.

    Returns:
        uint8 ``[N,H,W]``, person probability × 255, at least 1.

    Raises:
        GateFailedError: It does not load, does not run, its names, types or shapes are not the contract's, or it
            leaves pixels uncomputed.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = _THREADS
    options.log_severity_level = 4  # what fails is raised; the log would repeat it on stderr
    try:
        session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        (person,) = session.run([OUTPUT_NAME], {INPUT_NAME: images})
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise GateFailedError("model.onnx", f"ONNX Runtime refuses it ({error})", "run `dvc repro export`") from None
    if person.dtype != np.uint8 or person.shape != images.shape[:3]:
        fault = f"answers {person.dtype} {person.shape} to {INPUT_NAME} {images.shape}"
        raise GateFailedError("model.onnx", fault, "run `dvc repro export`")
    require_computed("model.onnx", person)
    return np.asarray(person, np.uint8)


def require_computed(subject: str, person: NDArray[np.uint8]) -> None:
    """Raise GateFailedError if an answer holds 0, which says "not computed": no ordinary picture gives that."""
    missing = float((person == 0).mean())
    if missing:
        fault = f"answers 0, which means not computed, at {missing:.1%} of the pixels of an ordinary picture"
        raise GateFailedError(subject, fault, "train and export again; a probability's level starts at 1")


def compare(expected: NDArray[np.uint8], found: NDArray[np.uint8], threshold: float = 0.5) -> Agreement:
    """Compare two maps of probability × 255, uint8 of equal shape; ``threshold`` is a probability."""
    difference = np.abs(expected.astype(np.int16) - found.astype(np.int16))
    limit = threshold * 255
    return Agreement(float(difference.mean()), float(((expected >= limit) == (found >= limit)).mean()))
