"""mmsegmentation's heads where they do not fit masks with unlabelled pixels, or pictures of any size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from privseg.training._mm import MODELS, ISAHead, STDCHead

__all__ = ["OpenSizeISAHead", "PersonDetailHead"]


@MODELS.register_module()
class PersonDetailHead(STDCHead):
    """STDC's detail guidance (arXiv 2104.13188) of person outlines only.

    The parent takes the Laplacian of the label values; 255 beside 0 would teach the edge of every letterbox and of
    every ignored strip as an outline. Here an ignored pixel counts as background when outlines are drawn.
    """

    def _stack_batch_gt(self, batch_data_samples: list[object]) -> Tensor:
        labels = super()._stack_batch_gt(batch_data_samples)
        return labels.masked_fill(labels == self.ignore_index, 0)


@MODELS.register_module()
class OpenSizeISAHead(ISAHead):
    """Interlaced sparse self-attention (arXiv 1907.12273) whose ONNX export leaves height and width open.

    The parent rounds the number of groups in Python and pads only where it must, which freezes a traced size. The
    answers are the parent's.
    """

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Turn features into logits float32 ``[N, classes, h, w]``, at the resolution of the features."""
        features = self.in_conv(self._transform_inputs(inputs))
        count, channels, height, width = features.shape
        local_rows, local_columns = self.down_factor
        rows = (height + local_rows - 1) // local_rows
        columns = (width + local_columns - 1) // local_columns
        extra_rows, extra_columns = rows * local_rows - height, columns * local_columns - width
        top, left = extra_rows // 2, extra_columns // 2
        x = functional.pad(features, (left, extra_columns - left, top, extra_rows - top))
        # Long range: the pixels at equal places in all groups attend to each other.
        x = x.view(count, channels, rows, local_rows, columns, local_columns).permute(0, 3, 5, 1, 2, 4)
        x = self.global_relation(x.reshape(-1, channels, rows, columns))
        # Short range: the pixels of one group attend to each other.
        x = x.view(count, local_rows, local_columns, channels, rows, columns).permute(0, 4, 5, 3, 1, 2)
        x = self.local_relation(x.reshape(-1, channels, local_rows, local_columns))
        x = x.view(count, rows, columns, channels, local_rows, local_columns).permute(0, 3, 1, 4, 2, 5)
        x = x.reshape(count, channels, rows * local_rows, columns * local_columns)
        x = x[:, :, top : top + height, left : left + width]
        return self.cls_seg(self.out_conv(torch.cat([x, features], dim=1)))
