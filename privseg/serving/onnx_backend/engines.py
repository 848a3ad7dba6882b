"""The runtimes the backend can run a version with: ONNX Runtime, and OpenVINO where that one computes the same.

ONNX Runtime in float32 is the reference. OpenVINO keeps no promise about numbers that are none: its ReLU makes 0 of a
NaN (seen with 2026.4), so a model that cannot compute a pixel would answer "nobody here" where the contract wants 0,
"not computed". A version therefore runs on OpenVINO only after it answered a drawn picture there as it does in ONNX
Runtime, every pixel computed. With weights checked that way a NaN needs an overflow of the exponent of float32, which
bfloat16 shares; float16 has a smaller one and is not offered.

This file runs in Triton's stub process and in the benchmark's, and imports nothing of privseg.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

INPUT_NAME = "IMAGE"
OUTPUT_NAME = "PERSON"
TYPES = {"f32": "float32", "bf16": "bfloat16"}  # as OpenVINO and as the records call them
MAX_MEAN_DIFFERENCE = 1.0  # of 255; the bounds of a publication's golden frame
MIN_MASK_AGREEMENT = 0.999
_CHECKED_SIZE = (256, 320)


class Engine(Protocol):
    """A version, loaded.

    Attributes:
        runtime: ``onnxruntime`` or ``openvino``.
        precision: Type of the numbers it computes with: ``f32`` or ``bf16``.
        threads: Threads it may use.
    """

    runtime: str
    precision: str
    threads: int

    def run(self, images: np.ndarray) -> np.ndarray:
        """Segment uint8 ``[N,H,W,3]`` RGB pictures: uint8 ``[N,H,W]``, probability × 255."""


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU, in float32."""

    runtime, precision = "onnxruntime", "f32"

    def __init__(self, content: bytes, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads would spin on between pictures, where the gateway needs the cores; within one they may: a tenth less
        # time.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.threads = threads
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(self, images: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        person: np.ndarray = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
        return person


class OpenVinoEngine:
    """OpenVINO on the CPU. One compiled model takes every size: compiled for one size each it is no faster."""

    runtime = "openvino"

    def __init__(self, content: bytes, threads: int, precision: str) -> None:
        import openvino

        if precision not in TYPES:
            raise ValueError(f"inference_precision {precision} is none of {', '.join(TYPES)}")
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            # Pinned to a core that another program keeps busy, its threads would wait.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(core.read_model(io.BytesIO(content)), "CPU", settings)
        # What the processor cannot do, OpenVINO replaces.
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
        self.threads = threads
        self._request = compiled.create_infer_request()

    def run(self, images: np.ndarray) -> np.ndarray:
        """See ``Engine``."""
        # A copy: the request's next run writes into the same memory.
        return np.array(self._request.infer({INPUT_NAME: images})[OUTPUT_NAME])


def open_engine(
    content: bytes,
    runtime: str,
    precision: str,
    threads: int,
    say: Callable[[str], Any] = print,
    record: Mapping[str, Any] | None = None,
) -> Engine:
    """Load a version in the runtime that is wanted, or in ONNX Runtime where that is not possible.

    Args:
        content: The bytes of ``model.onnx``.
        runtime: ``onnxruntime`` or ``openvino``.
        precision: ``f32`` or ``bf16``; ONNX Runtime knows ``f32`` only.
        threads: Threads it may use.
        say: Gets one line if ONNX Runtime stands in.
        record: The content of ``model.json``; what it says of runtimes on many pictures outweighs the one drawn here.

    Raises:
        ValueError: The runtime is unknown.
        Exception: ONNX Runtime refuses the model.
    """
    if runtime not in ("onnxruntime", "openvino"):
        raise ValueError(f"runtime {runtime} is neither onnxruntime nor openvino")
    reference = OnnxRuntimeEngine(content, threads)
    if runtime == "onnxruntime":
        return reference
    try:
        engine = OpenVinoEngine(content, threads, precision)
        fault = refusal(record or {}, engine)
        if not fault:
            picture = drawn_picture(*_CHECKED_SIZE)
            fault = difference(reference.run(picture), engine.run(picture))
    except Exception as error:  # not installed, or any of its errors, which share no narrower base
        fault = " ".join(str(error).split())
    if fault:
        say(f"OpenVINO does not take this version ({fault[:300]}): ONNX Runtime runs it")
        return reference
    return engine


def refusal(record: Mapping[str, Any], engine: Engine) -> str:
    """Say in words why ``model.json`` does not let this engine run its version; empty if it does, or is silent.

    ``runtimes`` is what the ``parity`` stage found when the version was made: by name ``precision`` and ``may_serve``.
    """
    wanted = TYPES[engine.precision]
    for name, state in record.get("runtimes", {}).items():
        ours = name == f"{engine.runtime}_{wanted}" or (
            name.startswith(engine.runtime) and state.get("precision") == wanted
        )
        if ours and state.get("may_serve") is not True:
            fault = state.get("fault") or "on test pictures it answers otherwise than PyTorch and ONNX Runtime"
            return f"model.json: {name} may not serve it: {fault}"
    return ""


def difference(expected: np.ndarray, found: np.ndarray) -> str:
    """Say in words what keeps an answer, uint8 ``[N,H,W]``, from being the reference's; empty if nothing does."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"it answers {found.dtype} {found.shape}, not {expected.dtype} {expected.shape}"
    if not (expected.all() and found.all()):
        return "pixels are not computed"
    mean = float(np.abs(expected.astype(np.int16) - found.astype(np.int16)).mean())
    agreement = float(((expected >= 127.5) == (found >= 127.5)).mean())
    if mean > MAX_MEAN_DIFFERENCE or agreement < MIN_MASK_AGREEMENT:
        return f"its answer is off: mean difference {mean:.3f} of 255, mask agreement {agreement:.5f}"
    return ""


def require_answer(engine: Engine) -> None:
    """Raise if a version cannot answer a picture as the contract says.

    A version that fails only in Triton's own warm-up can take the whole server down: in one load of ten or so it ended
    by SIGSEGV there (seen with 2.51 and models without the promised output).
    """
    picture = drawn_picture(*_CHECKED_SIZE)
    person = engine.run(picture)
    if person.shape != picture.shape[:3] or person.dtype != np.uint8:
        raise ValueError(f"{OUTPUT_NAME} is {person.dtype} {person.shape} for {INPUT_NAME} {picture.shape}")


def drawn_picture(height: int, width: int) -> np.ndarray:
    """Return the same picture every time, uint8 ``[1,height,width,3]`` RGB: a slope of light, boxes, noise."""
    random = np.random.default_rng(20)
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 160 / height, columns * 160 / width, (rows + columns) * 80 / height], axis=-1)
    for _ in range(6):
        top, left = random.integers(0, height), random.integers(0, width)
        image[top : top + height // 2, left : left + width // 8] = random.integers(0, 256, 3)
    return np.clip(image + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8)[None]
