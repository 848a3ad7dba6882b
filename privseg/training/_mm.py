"""mmsegmentation and mmengine, imported once and quietly.

mmsegmentation compiles small functions with ``torch.jit.script`` when imported, which torch calls deprecated; mmcv
says that its compiled operators are not there; a debug line about a dataset service goes to standard output. Nothing
here uses any of the three. The filters end with this import.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=r"Fail to import ``MultiScaleDeformableAttention``", category=UserWarning)
    import mmseg
    from mmcv.transforms import BaseTransform
    from mmengine import dist as mm_distributed
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate
    from mmengine.hooks import Hook
    from mmengine.logging import MMLogger
    from mmengine.model import MMDistributedDataParallel, MomentumAnnealingEMA, is_model_wrapper
    from mmengine.optim import AmpOptimWrapper, OptimWrapper
    from mmengine.registry import LOOPS, OPTIM_WRAPPERS
    from mmengine.runner import IterBasedTrainLoop, Runner
    from mmseg.datasets import BaseSegDataset
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.decode_heads.isa_head import ISAHead
    from mmseg.models.decode_heads.stdc_head import STDCHead
    from mmseg.models.utils import Upsample
    from mmseg.registry import DATASETS, MODELS, TRANSFORMS


@contextlib.contextmanager
def quiet_build() -> Iterator[None]:
    """Hold back what mmsegmentation says while it builds a model.

    Its pixel samplers warn its own developers; its loss warns that the mean counts ignored pixels, which is not so
    with class weights.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Default ``avg_non_ignore`` is False", category=UserWarning)
        warnings.filterwarnings("ignore", message=r"``build_pixel_sampler`` would be deprecated", category=UserWarning)
        yield


__all__ = [
    "DATASETS",
    "LOOPS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "TRANSFORMS",
    "AmpOptimWrapper",
    "BaseDecodeHead",
    "BaseSegDataset",
    "BaseTransform",
    "Config",
    "EncoderDecoder",
    "Hook",
    "ISAHead",
    "IterBasedTrainLoop",
    "MMDistributedDataParallel",
    "MMLogger",
    "MomentumAnnealingEMA",
    "OptimWrapper",
    "Runner",
    "STDCHead",
    "Upsample",
    "is_model_wrapper",
    "mm_distributed",
    "mmseg",
    "pseudo_collate",
    "quiet_build",
]
