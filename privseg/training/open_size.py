"""Layers that ONNX export would freeze at the traced size, in a form that leaves the size open."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.training._mm import Upsample

__all__ = ["OpenAttention", "OpenAveragePool", "open_sizes"]


class OpenAveragePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, which any height and width can go through in ONNX.

    Args:
        rows: Height of the result in pixels.
        columns: Width of the result in pixels.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        """Average float ``[N, C, H, W]`` to ``[N, C, rows, columns]``."""
        return _means(x.shape[2], self.rows, x) @ x @ _means(x.shape[3], self.columns, x).transpose(0, 1)


def _means(size: int, parts: int, like: Tensor) -> Tensor:
    """The matrix ``[parts, size]`` that averages ``size`` values into ``parts``, which may overlap by one value."""
    part = torch.arange(parts, device=like.device).unsqueeze(1)
    value = torch.arange(size, device=like.device).unsqueeze(0)
    inside = (value >= part * size // parts) & (value < ((part + 1) * size + parts - 1) // parts)
    matrix = inside.to(like.dtype)
    return matrix / matrix.sum(1, keepdim=True)


class OpenAttention(nn.Module):
    """``nn.MultiheadAttention`` (arXiv 1706.03762) for any number of pixels in ONNX; it shares the other's weights.

    Args:
        attention: Without dropout, and with one width for queries, keys and values.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = attention.num_heads
        self.in_proj_weight = attention.in_proj_weight
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:
        """Attend: float ``[L, N, E]`` queries to ``[S, N, E]`` keys and values; returns ``[L, N, E]`` and nothing."""
        parts = zip((query, key, value), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        queries, keys, values = (self._split(functional.linear(x, weight, bias)) for x, weight, bias in parts)
        weights = (queries @ keys.transpose(2, 3) * keys.shape[3] ** -0.5).softmax(3)
        context = (weights @ values).permute(2, 0, 1, 3)
        return self.out_proj(context.reshape(query.shape)), None

    def _split(self, x: Tensor) -> Tensor:
        """``[L, N, E]`` to ``[N, heads, L, E / heads]``."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, x.shape[2] // self.heads).permute(1, 2, 0, 3)


def open_sizes(module: nn.Module) -> None:
    """Replace the layers of a module that freeze a traced size; answers and names of weights stay what they were.

    These are adaptive average pooling to more than one pixel (PSPNet, ICNet), attention (SegFormer), and
    mmsegmentation's resizing by a factor, which computes the new size in Python (UNet, Semantic FPN).
    """
    for name, child in list(module.named_children()):
        if (open_size := _open(child)) is not None:
            setattr(module, name, open_size)
        else:
            open_sizes(child)


def _open(layer: nn.Module) -> nn.Module | None:
    """What to put in place of a layer; none: it may stay."""
    if isinstance(layer, nn.AdaptiveAvgPool2d) and (size := _pair(layer.output_size)) != (1, 1):
        return OpenAveragePool(*size)
    if isinstance(layer, nn.MultiheadAttention):
        return OpenAttention(layer)
    if isinstance(layer, Upsample) and layer.scale_factor:
        return nn.Upsample(scale_factor=layer.scale_factor, mode=layer.mode, align_corners=layer.align_corners)
    return None


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
