"""Challenger against champion: whether the winner replaces the model that serves.

A folder of measurements of the champion holds ``result.json`` (which version it is, its accuracy, or why it could not
be measured) and ``images.parquet`` (its pixels by picture, as ``evaluate`` writes them for a candidate).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from privseg.benchmark.accuracy import accuracy_figures, evenly_spaced, measure_accuracy
from privseg.benchmark.bootstrap import f_beta, paired_bootstrap
from privseg.benchmark.runtimes import onnxruntime_engine
from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError, GateFailedError
from privseg.params import Params
from privseg.training.data import split_rows

__all__ = ["IMAGES_FILE", "challenge", "measure_champion", "onnx_predictor", "write_champion"]

IMAGES_FILE = "images.parquet"
RESULT_FILE = "result.json"
_COUNTED = ("tp", "fp", "fn")
_FIGURES = ("iou_human", "precision", "recall")
Image = NDArray[np.uint8]


def onnx_predictor(onnx: bytes) -> Callable[[Image], Image]:
    """Let a published model predict one image at a time, in this process with ONNX Runtime.

    Args:
        onnx: The content of ``model.onnx``.

    Returns:
        A function from uint8 ``[H, W, 3]`` RGB, sides multiples of 32, to uint8 ``[H, W]``, person probability × 255.
        It raises GateFailedError where the model does not run or answers another shape or type.

    Raises:
        GateFailedError: ONNX Runtime refuses the model.
    """
    engine = onnxruntime_engine(onnx, torch.get_num_threads())

    def predict(image: Image) -> Image:
        person = np.asarray(engine.prepare(image[None])())
        if person.dtype != np.uint8 or person.shape != (1, *image.shape[:2]):
            fault = f"answers {person.dtype} {person.shape} to a picture {image.shape}"
            raise GateFailedError("model.onnx", fault, "publish a model that keeps the contract")
        return np.asarray(person[0], np.uint8)

    return predict


def measure_champion(
    params: Params, identity: dict[str, Any], onnx: bytes, manifest: Path, root: Path, out_dir: Path
) -> dict[str, Any]:
    """Measure the model that serves on exactly the test pictures the candidates are measured on.

    Args:
        params: The active profile's effort, the threshold and beta.
        identity: What names the model, from its record; ``version`` at least. It goes into the result as it is.
        onnx: The content of its ``model.onnx``.
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        out_dir: Where ``result.json`` and ``images.parquet`` go.

    Returns:
        What ``result.json`` holds.

    Raises:
        GateFailedError: The model does not load or does not run.
        DataError: The manifest or an image cannot be used.
        StorageError: ``out_dir`` cannot be written.
    """
    predict = onnx_predictor(onnx)
    rows = evenly_spaced(split_rows(manifest, root, "test"), params.benchmark_profile.max_test_images)
    label = f"evaluate version {identity['version']}, which serves"
    accuracy = measure_accuracy(predict, rows, root, params.benchmark.threshold, label=label)
    buffer = io.BytesIO()
    accuracy.per_image.to_parquet(buffer, index=False)
    write_atomic(out_dir / IMAGES_FILE, buffer.getvalue())
    result = identity | {
        "accuracy": accuracy_figures(accuracy, params.select.beta),
        "images": len(rows),
        "threshold": params.benchmark.threshold,
    }
    return write_champion(out_dir, result)


def write_champion(out_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write ``result.json`` of a champion: ``{"version": None}`` is none, ``fault`` says why it was not measured.

    Raises:
        StorageError: ``out_dir`` cannot be written.
    """
    write_atomic(out_dir / RESULT_FILE, (json.dumps(result, indent=2) + "\n").encode())
    return result


def challenge(
    params: Params, images: Path, champion_dir: Path | None, *, checkpoint_sha256: str | None = None
) -> dict[str, Any]:
    """Decide whether the winner replaces the model that serves.

    It does if nothing serves or what serves cannot be loaded; else if its score is higher in ``select.confidence`` of
    the resamples of the test pictures (`privseg.benchmark.bootstrap`), and by ``select.min_gain`` on the pictures as
    they are. The same weights never replace themselves, and a tie keeps what serves.

    Args:
        params: Beta, the rules of ``select`` and the seed.
        images: The winner's pixels by picture, ``images.parquet`` as ``evaluate`` wrote it.
        champion_dir: What ``measure_champion`` or ``write_champion`` wrote; None: nothing serves.
        checkpoint_sha256: Of the winner's weights, where they are known.

    Returns:
        ``outcome`` (``promote`` or ``keep``), ``reason``, ``champion`` (None, or its version and figures) and
        ``bootstrap`` (None where none was needed).

    Raises:
        DataError: A file cannot be used, or the two were measured on different pictures.
    """
    rules = params.select
    champion: dict[str, Any] = _read_champion(champion_dir / RESULT_FILE) if champion_dir else {"version": None}
    version = champion["version"]
    if champion_dir is None or version is None:
        return _verdict("promote", "no model serves yet", None)
    if "fault" in champion:
        return _verdict("promote", f"version {version}, which serves, cannot be used: {champion['fault']}", champion)
    theirs = _read_images(champion_dir / IMAGES_FILE)
    champion["score"] = float(f_beta(theirs.to_numpy(np.float64).sum(axis=0), rules.beta))
    if checkpoint_sha256 and checkpoint_sha256 == champion.get("checkpoint_sha256"):
        return _verdict("keep", f"the winner is the model that serves as version {version}", champion)
    ours = _read_images(images)
    if list(ours.index) != list(theirs.index):
        fault = "counts other pictures than the champion's measurement"
        raise DataError(images, fault, "dvc repro --force evaluate champion")
    found = paired_bootstrap(
        ours.to_numpy(np.int64),
        theirs.to_numpy(np.int64),
        beta=rules.beta,
        samples=rules.bootstrap_samples,
        confidence=rules.confidence,
        seed=params.seed,
    )
    bootstrap = asdict(found) | {"confidence": rules.confidence, "interval": list(found.interval)}
    resamples = f"{found.samples} resamples of the test pictures"
    better = f"the winner is better than version {version} in {found.wins:.1%} of {resamples}"
    if found.wins < rules.confidence:
        return _verdict("keep", f"{better}; {rules.confidence:.1%} is asked", champion, bootstrap)
    gain = f"by {found.difference:.4f}"
    if found.difference < rules.min_gain:
        return _verdict("keep", f"{better}, but {gain}; {rules.min_gain:g} is asked", champion, bootstrap)
    return _verdict("promote", f"{better}, {gain}", champion, bootstrap)


def _verdict(
    outcome: str, reason: str, champion: dict[str, Any] | None, bootstrap: dict[str, Any] | None = None
) -> dict[str, Any]:
    if champion is not None:
        accuracy = champion.get("accuracy", {})
        identity = {key: value for key, value in champion.items() if key not in {"accuracy", "images", "threshold"}}
        champion = identity | {name: accuracy[name] for name in _FIGURES if name in accuracy}
    return {"outcome": outcome, "reason": reason, "champion": champion, "bootstrap": bootstrap}


def _read_champion(path: Path) -> dict[str, Any]:
    again = "dvc repro champion"
    try:
        champion = json.loads(path.read_text(encoding="utf-8"))
        version = champion["version"]
        if version is not None and "fault" not in champion:
            for name in _FIGURES:
                float(champion["accuracy"][name])
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(path, f"is not a measurement of a champion ({error})", again) from None
    return dict(champion)


def _read_images(path: Path) -> pd.DataFrame:
    """Read pixels by picture, ordered by ``sample_id``, which becomes the index."""
    again = "dvc repro --force evaluate champion"
    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
        counts = table.set_index("sample_id")[list(_COUNTED)].sort_index()
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(path, f"does not hold pixels by picture ({error})", again) from None
    if counts.empty or counts.index.has_duplicates:
        raise DataError(path, "counts no picture, or one twice", again)
    return counts
