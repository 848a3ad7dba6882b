"""The loss of every candidate: cross-entropy that can look harder at people, at mistakes and at outlines."""

from __future__ import annotations

import math

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional

from privseg.training._mm import MODELS
from privseg.training.candidates import CLASSES

__all__ = ["PersonLoss", "near_outline"]

BACKGROUND, HUMAN = CLASSES.index("background"), CLASSES.index("human")
# Labels are drawn about this exactly. People under a dozen pixels wide lie within it whole, and so weigh more.
OUTLINE_REACH = 3  # pixels
EPSILON = torch.finfo(torch.float32).eps  # keeps the mean over no pixel at all at zero, as mmsegmentation does


@MODELS.register_module()
class PersonLoss(nn.Module):
    """Cross-entropy of two classes, weighted by class and nearness to an outline, over the hardest pixels, plus Dice.

    The cross-entropy is the weighted mean over the pixels that count; with the defaults these are all labelled pixels,
    and the result is that of ``CrossEntropyLoss`` with class weights. Keeping the pixels with the largest loss is
    online hard example mining (arXiv 1604.03540). The Dice term is the soft Dice loss of V-Net (arXiv 1606.04797,
    equation 2: squares in the denominator) of the human class, image by image, so that a small person counts as much
    as a tall one; images without people have none.

    With several processes the means are over the images of all of them; the hardest pixels are each process's own.

    Args:
        human_weight: Weight of human pixels relative to background in the cross-entropy.
        hard_share: Share of the labelled pixels that count, those with the largest loss; 1: all.
        dice: Weight of the Dice term; 0: none.
        boundary: Extra weight of pixels near an outline (see ``near_outline``); 0: none.
        loss_name: Name in the log; starts with ``loss_``.
        loss_weight: Factor of the whole.
    """

    def __init__(
        self,
        human_weight: float = 3.0,
        hard_share: float = 1.0,
        dice: float = 0.0,
        boundary: float = 0.0,
        loss_name: str = "loss_ce",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.human_weight = human_weight
        self.hard_share = hard_share
        self.dice = dice
        self.boundary = boundary
        self.loss_name = loss_name
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None, ignore_index: int = 255) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: float ``[N, 2, H, W]``, background and human.
            labels: int64 ``[N, H, W]``: 0 background, 1 human, ``ignore_index`` unlabelled.
            weight: float ``[N, H, W]``, further weights of the pixels; none: 1.
            ignore_index: The label of pixels that do not count.

        Returns:
            float32 scalar; 0 where no pixel is labelled.
        """
        logits = logits.float()
        labelled, human = labels != ignore_index, labels == HUMAN
        weights = torch.where(human, self.human_weight, 1.0) * labelled
        if self.boundary:
            weights = weights * (1 + self.boundary * near_outline(labels))
        if weight is not None:
            weights = weights * weight
        entropy = functional.cross_entropy(logits, labels, reduction="none", ignore_index=ignore_index)
        loss = self._mean_of_hardest(weights * entropy, weights, labelled)
        if self.dice:
            probability = torch.sigmoid(logits[:, HUMAN] - logits[:, BACKGROUND])
            loss = loss + self.dice * _dice(probability * labelled, human)
        return self.loss_weight * loss

    def _mean_of_hardest(self, losses: Tensor, weights: Tensor, labelled: Tensor) -> Tensor:
        if self.hard_share < 1:
            count = math.ceil(self.hard_share * int(labelled.sum()))
            losses, hardest = losses[labelled].topk(count)
            weights = weights[labelled][hardest]
        return losses.sum() / (_mean_of_processes(weights.sum()) + EPSILON)


def near_outline(labels: Tensor) -> Tensor:
    """Find the pixels with both a human and a background pixel within ``OUTLINE_REACH`` rows and columns.

    Args:
        labels: int64 ``[N, H, W]``; unlabelled pixels are neither human nor background.

    Returns:
        float32 ``[N, H, W]``, 1 near an outline, else 0.
    """
    classes = torch.stack([labels == BACKGROUND, labels == HUMAN], 1).float()
    reached = functional.max_pool2d(classes, 2 * OUTLINE_REACH + 1, stride=1, padding=OUTLINE_REACH)
    return reached.amin(1)


def _dice(probability: Tensor, human: Tensor) -> Tensor:
    """Soft Dice loss, the mean over the images that show people."""
    probability, truth = probability.flatten(1), human.flatten(1).float()
    overlap = 2 * (probability * truth).sum(1)
    total = probability.square().sum(1) + truth.sum(1)
    shows_people = truth.amax(1)
    losses = shows_people * (1 - overlap / total.clamp(min=EPSILON))
    return losses.sum() / (_mean_of_processes(shows_people.sum()) + EPSILON)


def _mean_of_processes(value: Tensor) -> Tensor:
    """Average over all processes: dividing by it makes the mean of their losses the loss of all their images."""
    all_reduce(value, op="mean")
    return value
