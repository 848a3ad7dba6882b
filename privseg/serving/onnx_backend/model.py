"""Triton backend that runs ``<version>/model.onnx`` on the CPU, with ONNX Runtime or OpenVINO (``engines.py``).

The ``tritonserver`` that comes by pip has no compiled ONNX Runtime backend. This file, placed in the backend
directory under the name ``onnxruntime``, stands in for it, so the same ``config.pbtxt`` and the same version
directories work here and in the official container. It runs in Triton's stub process, never inside privseg, and
therefore imports nothing of privseg.

Parameters of ``config.pbtxt``: ``runtime`` (``onnxruntime``, ``openvino``), ``inference_precision`` (``f32``,
``bf16``), ``intra_op_thread_count``, ``pictures_at_once``. What runs indeed is the metric ``privseg_backend_info``.

Triton hands over several requests together. On few processors it is faster to run them one by one, for what a picture's
layers leave in the cache is still there; ``pictures_at_once`` says how many go through the model together.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import signing  # beside this file, in the backend's directory
import triton_python_backend_utils as pb_utils
from engines import open_engine, require_answer  # beside this file, in the backend's directory

SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - where Triton puts it
INPUT_NAME = "IMAGE"
OUTPUT_NAME = "PERSON"
SIZE_MULTIPLE = 32
# Each parameter of config.pbtxt and its value where it is absent; that of the threads has the compiled backend's name.
DEFAULTS = {
    "runtime": "onnxruntime",
    "inference_precision": "f32",
    "intra_op_thread_count": "2",
    "pictures_at_once": "0",  # all of them
}
INFO_NAME, INFO_TEXT = "privseg_backend_info", "The runtime a version runs in, its precision and threads; always 1"


def read_verified(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of ``model.onnx`` and the record, if they are what ``model.json`` records, else refuse.

    With ``PRIVSEG_VERIFY_KEY`` in the server's environment, the record must be signed, too.
    """
    content = (folder / "model.onnx").read_bytes()
    record = signing.parse((folder / "model.json").read_text(encoding="utf-8"))
    found = hashlib.sha256(content).hexdigest()
    if record.get("sha256") != found:
        fault = f"refused: sha256 of model.onnx is {found[:12]}, model.json records {str(record.get('sha256'))[:12]}"
        raise pb_utils.TritonModelException(f"{folder} {fault}")
    try:
        key = signing.read_key(signing.VERIFY_VARIABLE)
        unsigned = None if key is None else signing.fault(record, key)
    except signing.UnusableKeyError as error:
        raise pb_utils.TritonModelException(f"{folder} refused: {signing.VERIFY_VARIABLE} {error}") from None
    if unsigned:
        raise pb_utils.TritonModelException(f"{folder} refused: model.json {unsigned}")
    return content, record


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
        config = json.loads(args["model_config"])
        given = config.get("parameters", {})
        values = {key: given.get(key, {}).get("string_value", default) for key, default in DEFAULTS.items()}
        content, record = read_verified(Path(args["model_repository"]) / args["model_version"])
        self.engine = open_engine(
            content,
            values["runtime"],
            values["inference_precision"],
            int(values["intra_op_thread_count"]),
            pb_utils.Logger.log_warn,
            record,
        )
        require_answer(self.engine)
        self.at_once = int(values["pictures_at_once"]) or max(1, int(config["max_batch_size"]))
        self._tell(args["model_version"])

    def _tell(self, version: str) -> None:
        """Publish which runtime runs this version; Triton without metrics is no reason to serve nothing."""
        labels = {
            "version": version,
            "runtime": self.engine.runtime,
            "precision": self.engine.precision,
            "threads": str(self.engine.threads),
        }
        pb_utils.Logger.log_info(f"version {version} runs in {labels}")
        with contextlib.suppress(pb_utils.TritonModelException):
            # Kept: with the objects the metric goes.
            self.family = pb_utils.MetricFamily(name=INFO_NAME, description=INFO_TEXT, kind=pb_utils.MetricFamily.GAUGE)
            self.info = self.family.Metric(labels=labels)
            self.info.set(1)

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
            for together in self._portions(members):
                self._run(together, responses)
        return responses

    def _portions(self, members: list[tuple[int, np.ndarray]]) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Divide requests of one picture size; a single request is never divided."""
        portion: list[tuple[int, np.ndarray]] = []
        for member in members:
            if portion and sum(len(images) for _, images in portion) + len(member[1]) > self.at_once:
                yield portion
                portion = []
            portion.append(member)
        yield portion

    def _run(self, members: list[tuple[int, np.ndarray]], responses: list[Any]) -> None:
        """Run requests of one picture size together and fill in their responses."""
        batch = members[0][1] if len(members) == 1 else np.concatenate([images for _, images in members])
        fault = ""
        try:
            person = self.engine.run(batch)
        except Exception as error:  # no runtime's errors share a narrower base; Triton needs an answer for each
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
