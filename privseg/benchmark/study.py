"""The study's published figures, beside which ours stand: another machine, another dataset, other classes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["STUDY", "STUDY_NOTE", "StudyRow", "study_figures"]

STUDY_NOTE = (
    "Published in the study for Cityscapes (19 classes), measured on a machine with eight NVIDIA Tesla V100 (32 GB) "
    "and an Intel Xeon Gold 6148 at 2.40 GHz. Another machine, another dataset, other classes: order and proportion "
    "may be compared with ours, the figures may not."
)


@dataclass(frozen=True)
class StudyRow:
    """A line of the study's first table.

    Attributes:
        model: As the study calls it.
        candidate: Ours of the same architecture.
        resolution: Height and width in pixels, as the study writes them.
        iterations: Of its training schedule.
        fps: Pictures a second on a V100.
        mean_iou: Mean over Cityscapes' 19 classes, 0 to 1.
    """

    model: str
    candidate: str
    resolution: str
    iterations: int
    fps: float
    mean_iou: float


STUDY = (
    StudyRow("ISANet", "isanet_r50", "512x1024", 80_000, 2.35, 0.8032),
    StudyRow("FCN", "fcn_r50", "512x1024", 40_000, 2.66, 0.7545),
    StudyRow("PSPNet", "pspnet_r50", "512x1024", 40_000, 2.68, 0.7834),
    StudyRow("UNet", "unet_s5_d16", "512x1024", 160_000, 3.05, 0.6910),
    StudyRow("DeepLabV3 (FP16)", "deeplabv3_r50", "512x1024", 80_000, 3.86, 0.8048),
    StudyRow("SegFormer (B1)", "segformer_b1", "512x1024", 160_000, 4.30, 0.7856),
    StudyRow("DeepLabV3+ (FP16)", "deeplabv3plus_r50", "512x1024", 80_000, 7.87, 0.8046),
    StudyRow("Semantic FPN", "semantic_fpn_r50", "512x1024", 80_000, 10.29, 0.7580),
    StudyRow("STDC1 (no pretraining)", "stdc1", "512x1024", 80_000, 23.06, 0.7182),
    StudyRow("STDC2 (no pretraining)", "stdc2", "512x1024", 80_000, 23.71, 0.7315),
    StudyRow("ICNet", "icnet_r18", "832x832", 80_000, 27.12, 0.6814),
    StudyRow("BiSeNetV2", "bisenetv2", "1024x1024", 160_000, 31.77, 0.7321),
    StudyRow("BiSeNetV1 (no pretraining)", "bisenetv1_r18", "1024x1024", 160_000, 31.77, 0.7444),
)


def study_figures() -> dict[str, Any]:
    """The study's table and where it is from, JSON-ready: ``note`` and ``models``."""
    return {"note": STUDY_NOTE, "models": [asdict(row) for row in STUDY]}
