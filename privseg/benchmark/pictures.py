"""The test pictures a person looks at: which ones, and how people, misses and false alarms are drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from privseg.training.metrics import HUMAN, IGNORE
from privseg.training.person_metrics import LARGE_ABOVE, SMALL_BELOW

__all__ = ["FOUND", "INVENTED", "MISSED", "choose_pictures", "draw_outcome", "encode_picture", "labelled_part", "tint"]

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Merit = NDArray[np.int64] | NDArray[np.float64]

# RGB. Told apart by people with any colour vision, and seen on skin, cloth and street alike.
FOUND, MISSED, INVENTED = (255, 140, 0), (220, 0, 130), (0, 120, 255)
LONGEST_SIDE = 320  # pixels: a page with twenty candidates stays small
MOST = 6
LEAST_PERSON = 16  # pixels of height; what is lower is a speck


def choose_pictures(rows: pd.DataFrame) -> list[int]:
    """Choose test pictures that tell something, the same ones for every candidate.

    In this order, each once and only where there is one: people of the most different heights together; the most
    people; large people only, medium ones, small ones, as the metrics part them; of the pictures without anybody the
    one with the most texture. In place of what there is not, the pictures with the largest share of people. Sources
    not shown yet go before others.

    Args:
        rows: Manifest rows.

    Returns:
        At most six positions in ``rows``.
    """
    human, share, texture = (rows[name].to_numpy() for name in ("is_human", "human_ratio", "pixel_std"))
    source = rows["source"].to_numpy(str)
    people, tallest, lowest = (
        rows[name].to_numpy() for name in ("people", "max_component_height", "min_component_height")
    )
    kinds: list[tuple[Mask, Merit]] = [
        (human & (people >= 2), tallest / np.maximum(lowest, LEAST_PERSON)),
        (human & (people >= 2), people),
        (human & (lowest > LARGE_ABOVE), people),
        (human & (tallest >= SMALL_BELOW) & (tallest <= LARGE_ABOVE), people),
        (human & (tallest < SMALL_BELOW), people),
        (~human, texture),
    ]
    kinds += [(human, share)] * MOST  # a small dataset lacks some kinds
    chosen: list[int] = []
    for wanted, merit in kinds:
        left = np.setdiff1d(np.flatnonzero(wanted), chosen)
        fresh = left[~np.isin(source[left], source[chosen])]
        left = fresh if len(fresh) else left
        if len(left) and len(chosen) < MOST:
            chosen.append(int(left[np.argmax(merit[left])]))  # of equals the first, which is so for every candidate
    return chosen


def labelled_part(truth: Image) -> tuple[slice, slice]:
    """The rectangle of a mask, uint8 ``[H, W]``, outside of which nothing is labelled: what letterboxing added is out.

    The whole, if nothing is labelled.
    """
    labelled = truth != IGNORE
    if not labelled.any():
        return np.s_[:, :]
    down, across = np.flatnonzero(labelled.any(axis=1)), np.flatnonzero(labelled.any(axis=0))
    return np.s_[int(down[0]) : int(down[-1]) + 1, int(across[0]) : int(across[-1]) + 1]


def tint(image: Image, mask: Mask, colour: tuple[int, int, int] = FOUND) -> Image:
    """Tint a part of an image.

    Args:
        image: uint8 ``[H, W, 3]``, RGB.
        mask: bool ``[H, W]``.
        colour: RGB.

    Returns:
        uint8 ``[H, W, 3]``, RGB.
    """
    mixed = image.copy()
    mixed[mask] = (0.4 * image[mask] + 0.6 * np.array(colour)).round().astype(np.uint8)
    return mixed


def draw_outcome(image: Image, truth: Image, prediction: Mask) -> Image:
    """Show what was found, missed and invented, each in its colour; what is not labelled stays as it is.

    Args:
        image: uint8 ``[H, W, 3]``, RGB.
        truth: uint8 ``[H, W]``: 0 background, 1 human, 255 not labelled.
        prediction: bool ``[H, W]``, true where a person is seen.

    Returns:
        uint8 ``[H, W, 3]``, RGB.
    """
    human, background = truth == HUMAN, (truth != HUMAN) & (truth != IGNORE)
    drawn = tint(image, prediction & human, FOUND)
    drawn = tint(drawn, ~prediction & human, MISSED)
    return tint(drawn, prediction & background, INVENTED)


def encode_picture(image: Image) -> bytes:
    """Return an image, uint8 ``[H, W, 3]`` RGB, as a JPEG of at most 320 pixels a side."""
    scale = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return data.tobytes()
