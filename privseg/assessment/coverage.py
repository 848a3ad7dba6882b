"""Are people covered at all? The person model and the mask policy, judged before any method.

Labelled pictures tell who is missed; drawn clips, played through the real pipeline, tell for how long. The counting of
people and leaks is :mod:`privseg.training.person_metrics`' and :mod:`privseg.audit.witness`' own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from privseg.assessment.quality import BoolMask, Image
from privseg.audit.clips import golden_clips
from privseg.audit.witness import FILL, ClipCounts, Witness
from privseg.params import AuditParams
from privseg.privacy.filters.blank import Blank, BlankParams
from privseg.privacy.frames import ProtectedFrame
from privseg.privacy.masks import MaskPolicy, mask_from_probability
from privseg.streaming.camera import run_camera
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.source import VideoSource
from privseg.streaming.telemetry import Telemetry
from privseg.training.person_metrics import PersonCounts

__all__ = ["Eye", "on_clips", "on_pictures"]

_LONG_SIDE = 512
_STRIDE = 32


class Eye:
    """The shipped person model on plain pictures.

    Args:
        directory: A version directory of the model.
        policy: How its answer becomes a mask.
    """

    def __init__(self, directory: Path, policy: MaskPolicy | None = None) -> None:
        self.directory = directory
        self.policy = policy or MaskPolicy()
        self._segmenter = LocalSegmenter(directory)
        self._asked = 0

    def probability(self, image: Image) -> Image:
        """Person probability times 255, uint8 ``(h, w)``, of a picture uint8 ``(H, W, 3)`` RGB."""
        scale = _LONG_SIDE / max(image.shape[:2])
        height, width = (max(round(side * scale / _STRIDE), 1) * _STRIDE for side in image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR)
        self._asked += 1
        self._segmenter.submit(self._asked, small[np.newaxis])
        return self._segmenter.result(self._asked).probability

    def covered(self, image: Image) -> BoolMask:
        """What the mask policy covers; bool ``(H, W)``."""
        return mask_from_probability(self.probability(image), image.shape[0], image.shape[1], self.policy)

    def figures(self, image: Image) -> BoolMask:
        """People without any margin; bool ``(H, W)``."""
        rows, columns = image.shape[:2]
        answer = cv2.resize(self.probability(image), (columns, rows), interpolation=cv2.INTER_LINEAR)
        people: BoolMask = answer >= 128
        return people

    def close(self) -> None:
        """Let the model go."""
        self._segmenter.close()


def on_pictures(eye: Eye, pictures: Iterable[tuple[Image, Image]]) -> dict[str, Any]:
    """Measure the policy's masks on labelled pictures.

    Returns:
        ``recall_p50``, ``recall_p5`` and ``recall_min`` of the people's pixels, over pictures; ``people``, ``missed``
        (less than 80 % covered) and ``miss_rate``; ``over_masking``, the covered share of the background.
    """
    counts, recalls, background, wrong, number = PersonCounts(), [], 0, 0, 0
    for image, truth in pictures:
        covered = eye.covered(image)
        counts.update(covered, truth)
        human, empty = truth == 1, truth == 0
        if human.any():
            recalls.append(float(covered[human].mean()))
        background += int(empty.sum())
        wrong += int((covered & empty).sum())
        number += 1
    everyone = counts.all
    return {
        "pictures": number,
        "people": everyone.people,
        "missed": everyone.missed,
        "miss_rate": everyone.miss_rate,
        "miss_rate_by_height": {name: getattr(counts, name).miss_rate for name in ("small", "medium", "large")},
        "recall_p50": float(np.percentile(recalls, 50)),
        "recall_p5": float(np.percentile(recalls, 5)),
        "recall_min": float(np.min(recalls)),
        "over_masking": wrong / max(background, 1),
    }


class _RunWitness(Witness):
    """A witness who also remembers how long leaks last."""

    longest = 0
    _current = 0

    def write(self, frame: ProtectedFrame) -> None:
        """Measure one frame; see :class:`~privseg.audit.witness.Witness`."""
        before = self.counts.leak_frames
        super().write(frame)
        self._current = self._current + 1 if self.counts.leak_frames > before else 0
        self.longest = max(self.longest, self._current)


def on_clips(directory: Path, folder: Path, rules: AuditParams) -> dict[str, Any]:
    """Play drawn clips through the pipeline of a camera, with the temporal hold.

    Args:
        directory: A version directory of the model.
        folder: Where the clips are kept or drawn.
        rules: How many clips of how many frames.

    Returns:
        ``leaks_per_1000`` frames (somebody of 32 pixels or more less than 80 % covered), ``longest_leak`` in frames,
        ``recall``, ``over_masking`` and the number of ``frames``.
    """
    total, longest = ClipCounts(), 0
    colour = "#{:02x}{:02x}{:02x}".format(*FILL)
    for clip in golden_clips(folder, rules):
        witness = _RunWitness(clip.masks)
        with contextlib.closing(LocalSegmenter(directory)) as segmenter:
            report = run_camera(
                "assess",
                VideoSource(str(clip.video)),
                segmenter,
                Blank(BlankParams(color=colour)),
                lambda width, height, rate, aspect, sink=witness: sink,  # type: ignore[misc]
                output="nowhere",
                telemetry=Telemetry(),
            )
        if report.error is not None:
            raise report.error
        total, longest = total + witness.counts, max(longest, witness.longest)
    return {
        "frames": total.frames,
        "leaks_per_1000": 1000 * total.leak_frames / max(total.frames, 1),
        "longest_leak": longest,
        "recall": total.person_recall,
        "over_masking": total.background_covered / max(total.background_pixels, 1),
    }
