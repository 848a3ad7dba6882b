"""Attacks without training, scored: what they gain over the protected picture, and how much of it is the person's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from privseg.assessment.data import Portrait
from privseg.assessment.quality import BoolMask, Image, psnr, ssim
from privseg.assessment.subject import Subject, Variant
from privseg.privacy.attacks import align, fuse, known_keystream, restorations, with_keystream
from privseg.privacy.keys import SessionSecrets

__all__ = ["Gain", "fuse_moving", "fuse_still", "invert", "try_keys"]


@dataclass(frozen=True)
class Gain:
    """What an attack wins, mean over people, in dB of PSNR inside the mask.

    Attributes:
        gain_db: Of the best attack over the protected picture itself.
        learnt_db: The part of it that comes from the person: the same attack on the same cover of somebody else
            (with the same outline) gets the rest just as well. Never above ``gain_db``.
        attack: The name of the attack that was best for most people.
    """

    gain_db: float
    learnt_db: float
    attack: str


def invert(variant: Variant, portraits: Sequence[Portrait]) -> Gain:
    """Every naive inversion against every person; the best is taken for each.

    Somebody else is the next person of the list, stretched under the same mask. An irreversible method's cover of both
    is the same, so nothing that an attack finds in it is the person's.
    """
    results = []
    for portrait, other in zip(portraits, [*portraits[1:], portraits[0]], strict=True):
        secrets = SessionSecrets()  # both are covered with the same keys
        covered = Subject(variant, secrets).cover(portrait.image, portrait.mask)
        decoy = Subject(variant, secrets).cover(dressed_as(portrait, other), portrait.mask)
        results.append(
            _best(portrait, covered, restorations(covered, portrait.mask), restorations(decoy, portrait.mask))
        )
    return _mean(results)


def dressed_as(portrait: Portrait, other: Portrait) -> Image:
    """The first one's picture with the second one's pixels under the first one's mask."""
    picture = portrait.image.copy()
    picture[portrait.mask] = other.fitted(portrait.mask)[portrait.mask]
    return picture


def fuse_still(variant: Variant, portraits: Sequence[Portrait], frames: int) -> Gain:
    """Somebody stands still for some frames: their mean and median."""
    results = []
    for portrait, other in zip(portraits, [*portraits[1:], portraits[0]], strict=True):
        secrets = SessionSecrets()
        subject, decoy = Subject(variant, secrets), Subject(variant, secrets)
        covered = [subject.cover(portrait.image, portrait.mask) for _ in range(frames)]
        strange = dressed_as(portrait, other)
        others = [decoy.cover(strange, portrait.mask) for _ in range(frames)]
        results.append(_best(portrait, covered[-1], fuse(covered), fuse(others)))
    return _mean(results)


def fuse_moving(variant: Variant, frames: Sequence[Image], masks: Sequence[BoolMask]) -> Gain:
    """People walk: the mean and median of frames warped onto the last by the flow of the protected pictures.

    Somebody else is here the scene turned upside down, as far as it lies under the masks.

    Args:
        variant: What to assess.
        frames: uint8 ``(H, W, 3)`` RGB, consecutive; somebody is in the last one.
        masks: bool ``(H, W)`` each.
    """
    secrets = SessionSecrets()
    subject, decoy = Subject(variant, secrets), Subject(variant, secrets)
    pairs = list(zip(frames, masks, strict=True))
    covered = [subject.cover(frame, mask) for frame, mask in pairs]
    strange = [np.where(mask[:, :, np.newaxis], frame[::-1, ::-1], frame) for frame, mask in pairs]
    others = [decoy.cover(frame, mask) for frame, mask in zip(strange, masks, strict=True)]
    walker = Portrait(frames[-1], masks[-1], masks[-1])
    return _mean([_best(walker, covered[-1], fuse(align(covered)), fuse(align(others)))])


def try_keys(variant: Variant, portraits: Sequence[Portrait]) -> dict[str, float]:
    """Attacks on a cipher: the wrong key, and a key stream learnt from a frame whose content is known.

    A stream of the wrong key is what other keys make of a black picture.

    Returns:
        Mean SSIM to the original, inside the mask, of: ``protected``, ``wrong_key`` and ``known_plaintext``; and
        ``repeated``, the share of bytes that two frames of a motionless scene have in common (chance is 1/256).
    """
    rows = []
    for portrait in portraits:
        subject, stranger = Subject(variant), Subject(variant)
        image, mask = portrait.image, portrait.mask
        first, second = (subject.cover(image, mask) for _ in range(2))
        wrong = with_keystream(second, stranger.cover(np.zeros_like(image), mask), mask)
        replayed = with_keystream(second, known_keystream(first, image), mask)
        rows.append(
            {
                "protected": ssim(second, image, mask),
                "wrong_key": ssim(wrong, image, mask),
                "known_plaintext": ssim(replayed, image, mask),
                "repeated": float((first[mask] == second[mask]).mean()),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _best(
    portrait: Portrait, covered: Image, guesses: Iterable[tuple[str, Image]], decoys: Iterable[tuple[str, Image]]
) -> tuple[float, float, str]:
    """Gain, the person's part of it, and the name of the attack, of the one that gains most."""
    start = psnr(covered, portrait.image, portrait.mask)
    scored = []
    for (name, guess), (_, decoy) in zip(guesses, decoys, strict=True):
        reached = psnr(guess, portrait.image, portrait.mask)
        without = psnr(decoy, portrait.image, portrait.mask)
        scored.append((reached - start, min(reached - start, reached - without), name))
    gain = max(scored)
    return gain[0], max(own for _, own, _ in scored), gain[2]


def _mean(results: Sequence[tuple[float, float, str]]) -> Gain:
    names = [name for _, _, name in results]
    return Gain(
        float(np.mean([gain for gain, _, _ in results])),
        float(np.mean([own for _, own, _ in results])),
        max(set(names), key=names.count),
    )
