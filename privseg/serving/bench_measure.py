"""What ``privseg bench serve`` measures: pictures, one way to run a model, and how far its answers agree."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.errors import DataError, UsageError
from privseg.serving.golden import compare, draw_frame
from privseg.serving.installation import BACKEND, TritonInstallation

__all__ = ["Effort", "Pictures", "Row", "measure_way", "parity_of", "read_pictures", "stacks"]

Pictures = NDArray[np.uint8]
Row = dict[str, Any]

MAX_MEAN_DIFFERENCE: Final = 1.0  # of 255, like a publication's golden frame
MIN_MASK_AGREEMENT: Final = 0.999
_WAY_SECONDS: Final = 900.0
_PHOTOS: Final = frozenset({".jpg", ".jpeg"})  # a dataset's PNG files are often masks


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        sizes: Height and width in pixels, multiples of 32; the first one decides.
        batches: Pictures at once.
        pictures: Pictures that are compared, at least as many as the largest batch.
        seconds: How long one way, size and batch is timed.
    """

    sizes: tuple[tuple[int, int], ...] = ((512, 512), (704, 1280))
    batches: tuple[int, ...] = (1, 2, 3, 4)
    pictures: int = 24
    seconds: float = 1.0


def read_pictures(data: Path, count: int) -> list[Pictures]:
    """Read photographs from all over a folder, the same ones every time.

    Returns:
        uint8 ``[H,W,3]`` each, RGB, at most ``count``.

    Raises:
        UsageError: There is none.
        DataError: One cannot be decoded.
    """
    folders = []
    for parent, names, files in os.walk(data):
        names.sort()
        photos = sorted(name for name in files if Path(name).suffix.lower() in _PHOTOS)
        if photos:
            folders.append([Path(parent) / name for name in photos])
    if not folders:
        raise UsageError(data, "holds no photograph (.jpg)", "name another folder, or none: pictures are drawn then")
    share = -(-count // len(folders))
    spread = [photos[:: max(1, len(photos) // share)][:share] for photos in folders]
    in_turn = [path for row in itertools.zip_longest(*spread) for path in row if path is not None]
    return [_read(path) for path in in_turn[:count]]


def _read(path: Path) -> Pictures:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(path, "cannot be decoded", "remove it")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def stacks(data: Path | None, effort: Effort) -> Iterator[tuple[str, Pictures]]:
    """Give the pictures of every size, uint8 ``[N,H,W,3]`` RGB, named ``HxW``; drawn ones without ``data``."""
    count = max(effort.pictures, *effort.batches)
    photos = read_pictures(data, count) if data else []
    for height, width in effort.sizes:
        if photos:
            scaled = [cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA) for photo in photos]
            yield f"{height}x{width}", np.stack([scaled[k % len(scaled)] for k in range(count)]).astype(np.uint8)
        else:
            yield f"{height}x{width}", np.stack([draw_frame(height, width, seed) for seed in range(count)])


def measure_way(installation: TritonInstallation, model: Path, folder: Path, way: Row, effort: Effort) -> Row:
    """Measure one way in a process of its own.

    Args:
        installation: Where the runtimes are.
        model: ``model.onnx``.
        folder: Holds ``pictures.npz``; gets the answers.
        way: ``runtime``, ``precision``, ``threads``.
        effort: How much is measured.

    Returns:
        ``figures``, rows with ``height``, ``width``, ``batch``, ``runs``, ``p50_ms``, ``p95_ms``, ``fps``; ``answers``,
        uint8 ``[N,H,W]`` by size; or ``fault``, why this way is none here.
    """
    answers = folder / "answers.npz"
    request = way | {
        "model": str(model),
        "pictures": str(folder / "pictures.npz"),
        "answers": str(answers),
        "batches": effort.batches,
        "seconds": effort.seconds,
    }
    command = [str(installation.python), str(BACKEND / "measure.py"), json.dumps(request)]
    try:
        done = subprocess.run(
            command,
            env=installation.environment(folder),
            capture_output=True,
            text=True,
            check=True,
            timeout=_WAY_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"fault": f"took longer than {_WAY_SECONDS:.0f} s"}
    except subprocess.CalledProcessError as error:
        return {"fault": " ".join(error.stderr.split())[-300:] or f"ended with {error.returncode}"}
    measured: Row = json.loads(done.stdout.splitlines()[-1])
    with np.load(answers) as stored:
        measured["answers"] = {name: stored[name] for name in stored.files}
    replaced = _replaced(way, measured)
    return {"fault": replaced} if replaced else measured


def _replaced(way: Row, measured: Row) -> str:
    """Say what ran in place of what was asked; empty if nothing did."""
    if measured["runtime"] != way["runtime"]:
        return str(measured["note"])
    if measured["precision"] != way["precision"]:
        return f"this processor computes it in {measured['precision']}"
    return ""


def parity_of(way: Row, expected: dict[str, Pictures], found: dict[str, Pictures]) -> list[Row]:
    """Compare a way's answers with the reference's, uint8 ``[N,H,W]`` by size.

    Every picture has to hold the bounds by itself: over many pictures the mean hides the one in which a person is lost
    (bfloat16 agreed on 0.9991 of the masks of 48 photographs, and on 0.9918 of one of them).
    """
    rows = []
    for name, reference in expected.items():
        together = compare(reference, found[name])
        each = [compare(*pair) for pair in zip(reference, found[name], strict=True)]
        within = all(one.within(MAX_MEAN_DIFFERENCE, MIN_MASK_AGREEMENT) for one in each)
        rows.append(
            {
                "runtime": way["runtime"],
                "precision": way["precision"],
                "size": name,
                "mean_difference": together.mean_difference,
                "mask_agreement": together.mask_agreement,
                "worst_mean_difference": max(one.mean_difference for one in each),
                "worst_mask_agreement": min(one.mask_agreement for one in each),
                "holds": within and bool(found[name].all()),
            }
        )
    return rows
