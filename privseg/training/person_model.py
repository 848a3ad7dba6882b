"""The model that mmengine trains: an encoder and decoder with the starting values this project wants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from privseg.training._mm import MODELS, EncoderDecoder
from privseg.training.pretrained import load_backbone

__all__ = ["PersonModel"]

# How mmsegmentation's heads name the layers that give a class.
CLASSIFIERS = ("conv_seg", "cls_seg")


@MODELS.register_module()
class PersonModel(EncoderDecoder):
    """mmsegmentation's ``EncoderDecoder``, with batch statistics of all processes and weights from a local file.

    Args:
        sync_norms: Make every BatchNorm a SyncBatchNorm, also those that a configuration does not reach.
        backbone_weights: File with weights of the backbone; empty: none.
        **settings: Everything an ``EncoderDecoder`` takes.
    """

    def __init__(self, *, sync_norms: bool = False, backbone_weights: str = "", **settings: Any) -> None:
        super().__init__(**settings)
        self.backbone_weights = backbone_weights
        if sync_norms:
            nn.SyncBatchNorm.convert_sync_batchnorm(self)

    def init_weights(self) -> None:
        """Set the starting values; mmengine calls this once, before training.

        Raises:
            UsageError: There is no file of backbone weights.
            DataError: It does not fit.
        """
        super().init_weights()
        for name, module in self.named_modules():
            if name.endswith(CLASSIFIERS):
                # mmsegmentation starts most classifiers near zero. Adam then turns every weight towards background,
                # the larger class, within ten steps, and features behind a ReLU need hundreds to come back: too many
                # for a short training. Others it starts by their outputs, which are but two here: far too large.
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)
        if self.backbone_weights:
            load_backbone(self, Path(self.backbone_weights))
