"""What sets two versions of a repository apart: their records, and what they see on golden frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from privseg.errors import GateFailedError
from privseg.serving.artifact import MODEL_NAME, Artifact, read_artifact
from privseg.serving.exam import Exam, golden_scenes
from privseg.serving.golden import compare
from privseg.serving.versions import verify

__all__ = ["Differences", "diff"]

# Facts about the making, not about the model; and what each version has of its own anyway.
_APART: Final = ("created", "parity")


@dataclass(frozen=True)
class Differences:
    """Version ``first`` against version ``second``.

    Attributes:
        first, second: The versions.
        same_model: Their files are the same.
        record: Entries of ``model.json`` that differ, dotted name to the two values: candidate, dataset version,
            parameters, metrics, hashes. None where a version has no such entry.
        mean_difference: Mean absolute difference of their answers to the golden scenes, in 1/255.
        mask_agreement: Share of the pixels on which they decide alike.
        found: Share of the drawn people's pixels that each one finds.
        called: Share of the other pixels that each one takes for a person.
    """

    first: int
    second: int
    same_model: bool
    record: dict[str, tuple[Any, Any]]
    mean_difference: float
    mask_agreement: float
    found: tuple[float, float]
    called: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def diff(repository: Path, first: int, second: int, *, threshold: float = 0.5) -> Differences:
    """Compare two versions that are on disk.

    Args:
        repository: The model repository.
        first: A version.
        second: Another.
        threshold: Probability from which a pixel counts as a person.

    Raises:
        UsageError: There is no such version.
        GateFailedError: A version is damaged or cannot be run.
    """
    one, other = (_read(repository, version) for version in (first, second))
    exams = [Exam.of(artifact.onnx) for artifact in (one, other)]
    answers, people = [exam.expected[1] for exam in exams], golden_scenes()[1]
    agreement = compare(answers[0], answers[1], threshold)
    masks = [levels >= threshold * 255 for levels in answers]
    left, right = _flat(one.record), _flat(other.record)
    names = sorted({*left, *right})
    return Differences(
        first=first,
        second=second,
        same_model=one.sha256 == other.sha256,
        record={name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)},
        mean_difference=agreement.mean_difference,
        mask_agreement=agreement.mask_agreement,
        found=(float(np.mean(masks[0][people])), float(np.mean(masks[1][people]))),
        called=(float(np.mean(masks[0][~people])), float(np.mean(masks[1][~people]))),
    )


def _read(repository: Path, version: int) -> Artifact:
    try:
        verify(repository, version)
        return read_artifact(repository / MODEL_NAME / str(version))
    except GateFailedError as error:
        raise GateFailedError(f"version {version}", error.fault, "privseg model verify") from None


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names to plain values; a list counts as one value."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if not prefix and name in _APART:
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
