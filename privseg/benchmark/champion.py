"""Measure the model that serves, on the test pictures of the candidates, for `privseg.benchmark.challenge` to compare.

A folder of measurements of the champion holds ``result.json`` (which version it is, its accuracy and speed, or why it
cannot be used) and ``images.parquet`` (its pixels by picture, as ``evaluate`` writes them for a candidate).

A model that *cannot be used* is replaced without being beaten, so only what is wrong with the model itself counts: it
is no valid ONNX, or it breaks the contract. What the machine does wrong (too little memory, a crash of the runtime)
says nothing about the model and stops the stage instead.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privseg.benchmark.accuracy import accuracy_figures, evenly_spaced, measure_accuracy
from privseg.benchmark.runtimes import onnxruntime_engine, onnxruntime_session, openvino_engine
from privseg.benchmark.speed import Timing, time_engine
from privseg.datasets.manifest import write_atomic
from privseg.errors import GateFailedError
from privseg.params import Params
from privseg.training.data import split_rows
from privseg.training.onnx_file import INPUT_NAME, OUTPUT_NAME

__all__ = ["IMAGES_FILE", "RESULT_FILE", "UnusableModelError", "measure_champion", "onnx_predictor", "write_champion"]

IMAGES_FILE = "images.parquet"
RESULT_FILE = "result.json"
_UINT8 = "tensor(uint8)"
Image = NDArray[np.uint8]


class UnusableModelError(Exception):
    """The model itself is at fault; on any machine it would be."""


def measure_champion(
    params: Params, identity: dict[str, Any], onnx: bytes, manifest: Path, root: Path, out_dir: Path
) -> dict[str, Any]:
    """Measure the model that serves on exactly the test pictures the candidates are measured on.

    Its latency is that of ``select.latency_runtime`` at ``image.size``; in ONNX Runtime, which serves it, where that is
    PyTorch, which cannot run it.

    Args:
        params: The active profile's effort, the threshold and beta.
        identity: What names the model, from its record; ``version`` at least. It goes into the result as it is.
        onnx: The content of its ``model.onnx``.
        manifest: The dataset's manifest (Parquet).
        root: Folder its paths are relative to.
        out_dir: Where ``result.json`` and ``images.parquet`` go.

    Returns:
        What ``result.json`` holds; with ``fault`` instead of figures, if the model cannot be used.

    Raises:
        GateFailedError: The machine could not run it, though nothing is wrong with the model.
        DataError: The manifest or an image cannot be used.
        StorageError: ``out_dir`` cannot be written.
    """
    rows = evenly_spaced(split_rows(manifest, root, "test"), params.benchmark_profile.max_test_images)
    name = f"version {identity['version']}, which serves"
    try:
        predict = onnx_predictor(onnx, name)
        accuracy = measure_accuracy(predict, rows, root, params.benchmark.threshold, label=f"evaluate {name}")
    except UnusableModelError as error:
        return write_champion(out_dir, identity | {"fault": f"model.onnx: {error}"})
    speed = _speed(onnx, params, name)
    buffer = io.BytesIO()
    accuracy.per_image.to_parquet(buffer, index=False)
    write_atomic(out_dir / IMAGES_FILE, buffer.getvalue())
    result = identity | {
        "accuracy": accuracy_figures(accuracy, params.select.beta),
        "speed": asdict(speed),
        "images": len(rows),
        "threshold": params.benchmark.threshold,
    }
    return write_champion(out_dir, result)


def write_champion(out_dir: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write ``result.json`` of a champion: ``{"version": None}`` is none, ``fault`` says why it cannot be used.

    Raises:
        StorageError: ``out_dir`` cannot be written.
    """
    write_atomic(out_dir / RESULT_FILE, (json.dumps(result, indent=2) + "\n").encode())
    return result


def onnx_predictor(onnx: bytes, name: str) -> Callable[[Image], Image]:
    """Let a published model predict one image at a time, in this process with ONNX Runtime.

    Returns:
        A function from uint8 ``[H, W, 3]`` RGB, sides multiples of 32, to uint8 ``[H, W]``, person probability × 255.
        It raises UnusableModelError where the answer breaks the contract.

    Raises:
        UnusableModelError: The model is no valid ONNX, or its names and types are not the contract's.
        GateFailedError: The machine could not run it.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

    with _blaming_the_machine(name):
        try:
            session = onnxruntime_session(onnx, torch.get_num_threads())
        except Exception:  # ONNX Runtime's errors share no narrower base, and do not tell memory from model
            _require_valid(onnx)
            raise
    _require_names(session)

    def predict(image: Image) -> Image:
        with _blaming_the_machine(name):
            try:
                (answer,) = session.run([OUTPUT_NAME], {INPUT_NAME: image[None]})
            except InvalidArgument as error:  # of shape or type; a lack of memory is a RuntimeException
                raise UnusableModelError(f"refuses a picture {image.shape} ({error})") from error
        person = np.asarray(answer)
        if person.dtype != np.uint8 or person.shape != (1, *image.shape[:2]):
            raise UnusableModelError(f"answers {person.dtype} {person.shape} to a picture {image.shape}")
        if not person.all():
            raise UnusableModelError(f"answers 0, which means not computed, at {(person == 0).mean():.1%} of a picture")
        return np.asarray(person[0], np.uint8)

    return predict


def _require_valid(content: bytes) -> None:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnusableModelError(f"is no valid ONNX model ({error})") from error


def _require_names(session: Any) -> None:
    inputs = [(value.name, value.type) for value in session.get_inputs()]
    outputs = [(value.name, value.type) for value in session.get_outputs()]
    if inputs != [(INPUT_NAME, _UINT8)] or (OUTPUT_NAME, _UINT8) not in outputs:
        raise UnusableModelError(f"takes {inputs} and gives {outputs}, not uint8 {INPUT_NAME} and {OUTPUT_NAME}")


def _speed(onnx: bytes, params: Params, name: str) -> Timing:
    engine = openvino_engine if params.select.latency_runtime == "openvino" else onnxruntime_engine
    shape = (params.image.size, params.image.size)
    with _blaming_the_machine(name):
        return time_engine(engine(onnx, torch.get_num_threads()), shape, params.benchmark_profile)


@contextmanager
def _blaming_the_machine(name: str) -> Iterator[None]:
    try:
        yield
    except UnusableModelError:
        raise
    except Exception as error:  # of any runtime: their errors share no narrower base
        fault = error.fault if isinstance(error, GateFailedError) else f"{type(error).__name__}: {error}"
        raise GateFailedError(
            name,
            f"could not be measured, through no fault of the model's that is known ({fault})",
            "see that the machine has memory to spare, then in the workspace: dvc repro --single-item champion",
        ) from error
