"""What can run a model when its speed is measured: PyTorch, ONNX Runtime and OpenVINO behind one interface."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from privseg.errors import GateFailedError
from privseg.training.onnx_file import INPUT_NAME, OUTPUT_NAME

__all__ = ["Engine", "onnxruntime_engine", "onnxruntime_session", "openvino_engine", "pytorch_engine"]

Pictures = NDArray[np.uint8]
Inference = Callable[[], object]


@dataclass(frozen=True)
class Engine:
    """A model, loaded by a runtime.

    Attributes:
        runtime: ``pytorch``, ``onnxruntime`` or ``openvino``.
        device: ``cpu`` or ``cuda``.
        precision: Type of the numbers it computes with.
        threads: Threads of the processor it may use.
        prepare: Takes pictures, uint8 ``[N, H, W, 3]`` RGB, and returns a function that segments them once and comes
            back when the answer, uint8 ``[N, H, W]``, is there. What happens once a shape happens in ``prepare``.
    """

    runtime: str
    device: str
    precision: str
    threads: int
    prepare: Callable[[Pictures], Inference]


def pytorch_engine(segmentor: Any, device: str = "cpu") -> Engine:
    """Run a ``PersonSegmentor``, which lies on ``device``; on a GPU the pictures lie there before the clock starts."""

    def prepare(pictures: Pictures) -> Inference:
        image = torch.from_numpy(pictures).to(device)

        def infer() -> torch.Tensor:
            with torch.inference_mode():
                person: torch.Tensor = segmentor(image)
            if person.is_cuda:
                torch.cuda.synchronize(person.device)
            return person

        return infer

    # Unless told otherwise, PyTorch rounds what a GPU convolves to TF32.
    precision = torch.backends.cudnn.conv.fp32_precision if device == "cuda" else "float32"
    return Engine("pytorch", device, "tf32" if precision == "tf32" else "float32", torch.get_num_threads(), prepare)


def onnxruntime_session(onnx: bytes, threads: int) -> Any:
    """Load an ONNX model in ONNX Runtime on the processor, with the served backend's settings.

    Raises:
        Exception: One of ONNX Runtime's own, which share no narrower base; or what Python raises.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # what fails is raised
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def onnxruntime_engine(onnx: bytes, threads: int) -> Engine:
    """Run an ONNX model by ONNX Runtime; see `onnxruntime_session`.

    Raises:
        GateFailedError: ONNX Runtime refuses the model, or fails on it later.
    """
    session = _guarded("ONNX Runtime", lambda: onnxruntime_session(onnx, threads))

    def prepare(pictures: Pictures) -> Inference:
        return lambda: _guarded("ONNX Runtime", lambda: session.run([OUTPUT_NAME], {INPUT_NAME: pictures})[0])

    return Engine("onnxruntime", "cpu", "float32", threads, prepare)


def openvino_engine(onnx: bytes, threads: int) -> Engine:
    """Run an ONNX model by OpenVINO on the processor, compiled for latency and for the shape at hand.

    OpenVINO itself chooses the precision: bfloat16 where the processor computes it faster.

    Raises:
        GateFailedError: OpenVINO refuses the model, or fails on it later.
    """
    import openvino

    core = openvino.Core()
    # Pinned to a processor that another program keeps busy, its threads would wait; the other runtimes' move away.
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}

    model = _guarded("OpenVINO", lambda: core.read_model(io.BytesIO(onnx)))

    def prepare(pictures: Pictures) -> Inference:
        def request() -> Any:
            model.reshape(list(pictures.shape))
            return core.compile_model(model, "CPU", settings).create_infer_request()

        ready = _guarded("OpenVINO", request)
        return lambda: _guarded("OpenVINO", lambda: ready.infer({INPUT_NAME: pictures})[0])

    precision = core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name()
    return Engine("openvino", "cpu", {"f32": "float32", "bf16": "bfloat16"}.get(precision, precision), threads, prepare)


def _guarded(runtime: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # neither runtime's errors share a narrower base
        next_step = "take the runtime out of benchmark.*.runtimes in params.yaml, or the candidate out of candidates"
        raise GateFailedError("ONNX model", f"{runtime} refuses it ({error})", next_step) from error
