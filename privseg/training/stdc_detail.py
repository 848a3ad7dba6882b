"""STDC's detail head for masks that leave pixels unlabelled."""

from __future__ import annotations

from torch import Tensor

from privseg.training._mm import MODELS, STDCHead

__all__ = ["PersonDetailHead"]


@MODELS.register_module()
class PersonDetailHead(STDCHead):
    """STDC's detail guidance (arXiv 2104.13188) of person outlines only.

    The parent takes the Laplacian of the label values; 255 beside 0 would teach the edge of every letterbox and of
    every ignored strip as an outline. Here an ignored pixel counts as background when outlines are drawn.
    """

    def _stack_batch_gt(self, batch_data_samples: list[object]) -> Tensor:
        labels = super()._stack_batch_gt(batch_data_samples)
        return labels.masked_fill(labels == self.ignore_index, 0)
