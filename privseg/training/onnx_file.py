"""A person segmentor as one ONNX graph, from a picture's bytes to the person probability."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Final

import onnx
import torch

from privseg.errors import GateFailedError, StorageError
from privseg.training.onnx_graph import fold_padding, halve_weights

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "SIZE_MULTIPLE", "to_onnx"]

INPUT_NAME: Final = "IMAGE"  # uint8 [N,H,W,3] RGB
OUTPUT_NAME: Final = "PERSON"  # uint8 [N,H,W], person probability × 255, at least 1; 0: not computed
SIZE_MULTIPLE: Final = 32
_AXES = {0: "N", 1: "H", 2: "W"}


def to_onnx(module: torch.nn.Module, opset: int, *, half_weights: bool = False) -> bytes:
    """Return the module as ONNX with batch, height and width left open; equal weights give equal bytes.

    Args:
        module: Takes uint8 ``[N,H,W,3]`` RGB and returns uint8 ``[N,H,W]``; in evaluation mode, on the CPU.
        opset: ONNX operator set.
        half_weights: Store the weights as float16, in half the bytes; computation stays in float32.

    Raises:
        GateFailedError: PyTorch cannot export it, or ONNX's checker refuses the result.
        StorageError: The temporary directory is full.
    """
    picture = torch.zeros((1, 2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE, 3), dtype=torch.uint8)
    try:
        with tempfile.TemporaryDirectory(prefix="privseg-export-") as folder, warnings.catch_warnings():
            # The tracing exporter is deprecated, yet the other one needs onnxscript; tracing also warns wherever a
            # library compares a size in Python. What a wrong trace would do, the parity check finds.
            warnings.simplefilter("ignore")
            path = Path(folder) / "model.onnx"
            torch.onnx.export(
                module,
                (picture,),
                path,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_axes={INPUT_NAME: _AXES, OUTPUT_NAME: _AXES},
                opset_version=opset,
                dynamo=False,
            )
            model = onnx.load(path)
        fold_padding(model)
        if half_weights:
            halve_weights(model)
        onnx.checker.check_model(model, full_check=True)
    except OSError as error:
        raise StorageError.from_os_error(tempfile.gettempdir(), error) from error
    except (
        RuntimeError,
        ValueError,
        TypeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as e:
        raise GateFailedError("ONNX export", f"failed ({e})", "export another candidate or another opset") from e
    content: bytes = model.SerializeToString()
    return content
