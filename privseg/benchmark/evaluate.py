"""Measure one trained candidate: accuracy, complexity and speed, and the masks by which anyone can count again."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from privseg.benchmark.accuracy import accuracy_figures, evenly_spaced, measure_accuracy, torch_predictor
from privseg.benchmark.complexity import complexity_figures
from privseg.benchmark.hardware import hardware
from privseg.benchmark.pictures import choose_pictures, draw_outcome, encode_picture, labelled_part, tint
from privseg.benchmark.speed import measure_speed
from privseg.datasets.manifest import write_atomic
from privseg.errors import StorageError
from privseg.params import Params
from privseg.training.data import split_rows
from privseg.training.metrics import HUMAN
from privseg.training.onnx_file import to_onnx
from privseg.training.segmentor import RECORD_FILE, load_segmentor

__all__ = ["IMAGES_FILE", "MASKS", "PICTURES", "evaluate", "write_failed"]

IMAGES_FILE = "images.parquet"
MASKS = "masks"
PICTURES = "pictures"
_TRAINING = ("iterations", "seconds", "batch_size", "crop", "pretrained", "device", "seed", "train_images")
Files = dict[str, bytes]


def evaluate(params: Params, candidate_dir: Path, manifest: Path, root: Path, out_file: Path) -> dict[str, Any]:
    """Measure a candidate on the test split and write the result as JSON.

    Beside it go:

    - ``images.parquet``, a row a test image: ``sample_id``, the counts of its labelled pixels ``tp``, ``fp``, ``fn``
      and ``tn``, and ``mask``, the name of its predicted mask;
    - ``masks/*.png``, the predicted masks, 1 bit a pixel: 255 human, 0 not;
    - ``pictures/N_input.jpg``, ``N_truth.jpg`` and ``N_predicted.jpg``: a few test images as they are, with the true
      people tinted, and with what the candidate found, missed and invented. The same for every candidate.

    The JSON file goes last: without it, nothing beside it counts.

    Args:
        params: The active profile's effort, the threshold and the size of the images.
        candidate_dir: What ``train`` wrote.
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        out_file: The JSON file to write; the names above in its folder belong to it.

    Returns:
        What was written: ``candidate``; ``accuracy``; ``complexity``; ``speed``, the timing that the latency budget is
        held against; ``measurements``, all timings; ``load_average``, processes that wanted a processor in the minute
        before; ``images`` and ``people_images`` measured; ``threshold``;
        ``training``, what training says of itself; ``hardware``.

    Raises:
        DataError: The checkpoint, manifest or an image cannot be used, or the test split is empty.
        GateFailedError: The candidate cannot be exported to ONNX, or a runtime refuses it.
        StorageError: The result cannot be written.
    """
    segmentor = load_segmentor(candidate_dir)
    record = json.loads((candidate_dir / RECORD_FILE).read_bytes())
    # First: what cannot be exported cannot be served.
    onnx = to_onnx(segmentor, params.export.opset, half_weights=params.export.half_weights)
    rows = evenly_spaced(split_rows(manifest, root, "test"), params.benchmark_profile.max_test_images)
    shown = {position: number for number, position in enumerate(choose_pictures(rows), start=1)}
    masks: Files = {}
    pictures: Files = {}

    def keep(index: int, image: NDArray[np.uint8], truth: NDArray[np.uint8], prediction: NDArray[np.bool_]) -> None:
        masks[f"{index:05d}.png"] = _encode_mask(prediction)
        if number := shown.get(index):
            part = labelled_part(truth)
            image, truth, prediction = image[part], truth[part], prediction[part]
            pictures[f"{number}_input.jpg"] = encode_picture(image)
            pictures[f"{number}_truth.jpg"] = encode_picture(tint(image, truth == HUMAN))
            pictures[f"{number}_predicted.jpg"] = encode_picture(draw_outcome(image, truth, prediction))

    device = "cuda" if torch.cuda.is_available() else "cpu"
    predict = torch_predictor(segmentor.to(device), device)
    label = f"evaluate {segmentor.candidate}"
    accuracy = measure_accuracy(predict, rows, root, params.benchmark.threshold, keep, label=label)
    load = os.getloadavg()[0]
    timings = [asdict(timing) for timing in measure_speed(segmentor.to("cpu"), onnx, params)]
    result = {
        "candidate": segmentor.candidate,
        "accuracy": accuracy_figures(accuracy, params.select.beta),
        "complexity": complexity_figures(segmentor, onnx, params.image.size),
        "speed": timings[0],
        "measurements": timings,
        "load_average": load,
        "images": len(rows),
        "people_images": int(rows["is_human"].sum()),
        "threshold": params.benchmark.threshold,
        "training": {name: record.get(name) for name in _TRAINING},
        "hardware": hardware(),
    }
    _clear(out_file)
    _write_folder(out_file.parent / MASKS, masks)
    _write_folder(out_file.parent / PICTURES, pictures)
    write_atomic(out_file.with_name(IMAGES_FILE), _parquet(accuracy.per_image.assign(mask=list(masks))))
    write_atomic(out_file, _json(result))
    return result


def write_failed(out_file: Path, candidate: str, reason: str) -> dict[str, str]:
    """Write instead of a result that a candidate has none; an earlier result of it goes.

    Args:
        out_file: Where its result would be.
        candidate: Its name.
        reason: Why, one line.

    Returns:
        What was written: ``candidate`` and ``failed``, the reason.

    Raises:
        StorageError: The file cannot be written.
    """
    failed = {"candidate": candidate, "failed": reason}
    _clear(out_file)
    write_atomic(out_file, _json(failed))
    return failed


def _clear(out_file: Path) -> None:
    """Remove an earlier result, the file first that makes the others count."""
    try:
        for file in (out_file, out_file.with_name(IMAGES_FILE)):
            file.unlink(missing_ok=True)
        for name in (MASKS, PICTURES):
            if (out_file.parent / name).exists():
                shutil.rmtree(out_file.parent / name)
    except OSError as error:
        raise StorageError.from_os_error(out_file.parent, error) from error


def _write_folder(folder: Path, files: Files) -> None:
    try:
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from error


def _encode_mask(prediction: NDArray[np.bool_]) -> bytes:
    _, data = cv2.imencode(".png", prediction.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return data.tobytes()


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
