"""Triton backend that runs ``<version>/model.onnx`` with ONNX Runtime on the CPU.

The ``tritonserver`` that comes by pip has no compiled ONNX Runtime backend. This file, placed in the backend
directory under the name ``onnxruntime``, stands in for it, so the same ``config.pbtxt`` and the same version
directories work here and in the official container. It runs in Triton's stub process, never inside privseg, and
therefore imports nothing of privseg.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - where Triton puts it
INPUT_NAME = "IMAGE"
OUTPUT_NAME = "PERSON"
SIZE_MULTIPLE = 32
THREADS_KEY = "intra_op_thread_count"  # the compiled backend's name for it
DEFAULT_THREADS = 2


def read_verified(folder: Path) -> bytes:
    """Return the bytes of ``model.onnx`` if they are what ``model.json`` records, else refuse."""
    content = (folder / "model.onnx").read_bytes()
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    found = hashlib.sha256(content).hexdigest()
    if record.get("sha256") != found:
        fault = f"refused: sha256 of model.onnx is {found[:12]}, model.json records {str(record.get('sha256'))[:12]}"
        raise pb_utils.TritonModelException(f"{folder} {fault}")
    return content


def close_shared_memory() -> None:
    """Let nobody else read the file through which pictures reach this process; Triton makes it with mode 0644."""
    mapped = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    for path in mapped:
        if path.startswith(SHARED_MEMORY):
            Path(path).chmod(0o600)


class TritonPythonModel:
    """What Triton's Python runtime calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's model; raising here makes Triton keep the version that serves now."""
        close_shared_memory()
        parameters = json.loads(args["model_config"]).get("parameters", {})
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters.get(THREADS_KEY, {}).get("string_value", DEFAULT_THREADS))
        options.inter_op_num_threads = 1
        # Idle ONNX Runtime threads spin by default; here the gateway needs those cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = read_verified(Path(args["model_repository"]) / args["model_version"])
        self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request, in order; a request that cannot be answered gets its own error."""
        responses: list[Any] = [None] * len(requests)
        groups: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = defaultdict(list)
        for position, request in enumerate(requests):
            images = pb_utils.get_input_tensor_by_name(request, INPUT_NAME).as_numpy()
            height, width = images.shape[1:3]
            if 0 in images.shape or height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
                fault = f"{INPUT_NAME} is {images.shape}; height and width must be multiples of {SIZE_MULTIPLE}"
                responses[position] = self._refusal(fault, pb_utils.TritonError.INVALID_ARG)
            else:
                groups[height, width].append((position, images))
        for members in groups.values():
            self._run(members, responses)
        return responses

    def _run(self, members: list[tuple[int, np.ndarray]], responses: list[Any]) -> None:
        """Run requests of one picture size as one batch and fill in their responses."""
        batch = members[0][1] if len(members) == 1 else np.concatenate([images for _, images in members])
        fault = ""
        try:
            (person,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: batch})
        except Exception as error:  # ONNX Runtime's errors share no narrower base; Triton needs an answer for each
            fault = f"inference failed: {error}"
        else:
            if person.shape != batch.shape[:3] or person.dtype != np.uint8:
                fault = f"{OUTPUT_NAME} is {person.dtype} {person.shape} for {INPUT_NAME} {batch.shape}"
        if fault:
            for position, _ in members:
                responses[position] = self._refusal(fault, pb_utils.TritonError.INTERNAL)
            return
        start = 0
        for position, images in members:
            end = start + len(images)
            tensor = pb_utils.Tensor(OUTPUT_NAME, np.ascontiguousarray(person[start:end]))
            responses[position] = pb_utils.InferenceResponse(output_tensors=[tensor])
            start = end

    @staticmethod
    def _refusal(fault: str, code: int) -> Any:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(fault, code))
