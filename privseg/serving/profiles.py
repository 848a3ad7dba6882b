"""The model's ``config.pbtxt``, rendered for each way to deploy it.

``local``
    On the CPU, under the backend name ``onnxruntime``: here Triton's Python backend runs the version's ``model.onnx``
    in the runtime that is chosen; the official container's compiled backend takes the same text and runs it in ONNX
    Runtime.
``onnxruntime-gpu``
    The official container's compiled ONNX Runtime backend with TensorRT in float16, CUDA for what TensorRT does not
    take. The same version directories. TensorRT builds an engine for a picture size when it first comes: at load for
    the sizes of the warm-up, which takes minutes unless ``ENGINE_CACHE`` is a volume that outlives the container.
``tensorrt``
    The compiled TensorRT backend. Beside ``model.onnx`` and ``model.json`` the version directory needs ``model.plan``.
    Nothing in privseg builds it: a plan fits one kind of GPU and one release of TensorRT, so whoever runs the servers
    builds it there, with the ``trtexec`` of the very container (``PLAN_COMMAND``), and puts it into the version's
    directory before the load. The record's SHA-256 does not cover it; the golden frame after the load does.

Neither compiled backend compares ``model.onnx`` with its record as ours does, and float16 overflows where float32 does
not: there the golden frame, asked of every server after a load, is what stands between a wrong file and the cameras.
The two GPU profiles were parsed and never run.

One version is loaded. A second one would double memory and processes, and nobody asks it: going back loads the version
before from the disk, over the one that serves, without a failed request.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from privseg.errors import UsageError
from privseg.serving.artifact import INPUT_NAME, MODEL_NAME, OUTPUT_NAME

__all__ = [
    "ENGINE_CACHE",
    "PLAN_COMMAND",
    "PROFILES",
    "Profile",
    "RuntimeChoice",
    "default_choice",
    "render_config",
    "require_profile",
]

Profile = Literal["local", "onnxruntime-gpu", "tensorrt"]
PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)

MAX_BATCH: Final = 4
ENGINE_CACHE: Final = "/var/cache/privseg-tensorrt"
PLAN_COMMAND: Final = (
    f"trtexec --onnx=model.onnx --fp16 --minShapes={INPUT_NAME}:1x32x32x3 --optShapes={INPUT_NAME}:1x704x1280x3 "
    f"--maxShapes={INPUT_NAME}:{MAX_BATCH}x1088x1920x3 --saveEngine=model.plan"
)
_MOST_THREADS: Final = 8


@dataclass(frozen=True)
class RuntimeChoice:
    """How the local profile runs a version.

    Attributes:
        runtime: ``onnxruntime`` or ``openvino``.
        inference_precision: ``f32``, or for OpenVINO ``bf16``.
        threads: Threads of an instance.
        instances: Instances, each a process with the model in its memory.
        at_once: Pictures that go through the model together, of those that Triton hands over together.
    """

    runtime: str = "onnxruntime"
    inference_precision: str = "f32"
    threads: int = 2
    instances: int = 1
    at_once: int = 1

    def __post_init__(self) -> None:
        """Raise UsageError for what the backend would refuse."""
        known = self.runtime in ("onnxruntime", "openvino") and self.inference_precision in ("f32", "bf16")
        reference = self.runtime == "openvino" or self.inference_precision == "f32"
        counts = 1 <= self.threads <= 1024 and 1 <= self.instances <= 64 and 1 <= self.at_once <= MAX_BATCH
        if not (known and reference and counts):
            raise UsageError(self, "is no way to run a version", "measure again: privseg bench serve")


def default_choice() -> RuntimeChoice:
    """Return what is right where nothing was measured: ONNX Runtime, the reference, on this process's processors."""
    return RuntimeChoice(threads=min(len(os.sched_getaffinity(0)), _MOST_THREADS))


_HEAD: Final = """\
# Written once, never changed on promotion: an edit here reloads every loaded version.
name: "{name}"
{backend}
max_batch_size: {max_batch}

# RGB, height and width multiples of 32; colour scaling and softmax live inside the graph.
input [ {{ name: "{input}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }} ]
# Person probability x 255, at least 1; 0 where it could not be computed.
output [ {{ name: "{output}" data_type: TYPE_UINT8 dims: [ -1, -1 ] }} ]

instance_group [ {{ count: {instances} kind: {kind} }} ]

# The newest {counted}. Loading over it keeps the old one answering until the new one is ready.
version_policy {{ latest {{ num_versions: {keep} }} }}

# The queue is short and refuses instead of growing. A request may lower the time it waits, never raise it: a
# recording waits this long, live video, where a late frame is worthless, asks for less.
dynamic_batching {{{preferred}
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: 10000000
    allow_timeout_override: true
    max_queue_size: 16
  }}
}}
"""
_LOCAL: Final = """
# All but the threads are for privseg's backend; `privseg bench serve` measures them.
parameters {{ key: "runtime" value {{ string_value: "{runtime}" }} }}
parameters {{ key: "inference_precision" value {{ string_value: "{precision}" }} }}
parameters {{ key: "intra_op_thread_count" value {{ string_value: "{threads}" }} }}
parameters {{ key: "pictures_at_once" value {{ string_value: "{at_once}" }} }}
"""
_ACCELERATED: Final = f"""
optimization {{
  execution_accelerators {{
    gpu_execution_accelerator [
      {{
        name: "tensorrt"
        parameters {{ key: "precision_mode" value: "FP16" }}
        parameters {{ key: "max_workspace_size_bytes" value: "2147483648" }}
        # Without a volume here every start builds the engines again.
        parameters {{ key: "trt_engine_cache_enable" value: "1" }}
        parameters {{ key: "trt_engine_cache_path" value: "{ENGINE_CACHE}" }}
        parameters {{ key: "trt_timing_cache_enable" value: "1" }}
        parameters {{ key: "trt_timing_cache_path" value: "{ENGINE_CACHE}" }}
      }}
    ]
  }}
}}
"""
_BACKENDS: Final[dict[Profile, str]] = {
    "local": 'backend: "onnxruntime"',
    "onnxruntime-gpu": 'backend: "onnxruntime"\ndefault_model_filename: "model.onnx"',
    "tensorrt": 'backend: "tensorrt"\ndefault_model_filename: "model.plan"',
}
_PREFERRED: Final = """
  # What the engines are tuned for; a picture waits 2 ms at most for others.
  preferred_batch_size: [ 2, 4 ]
  max_queue_delay_microseconds: 2000"""


def render_config(profile: Profile = "local", choice: RuntimeChoice | None = None, *, keep_loaded: int = 1) -> str:
    """Return ``config.pbtxt`` for a way to deploy the model.

    Args:
        profile: See above.
        choice: How ``local`` runs a version; None: ONNX Runtime with two threads. The others use its instances.
        keep_loaded: Newest versions that are loaded; the last of them answers who names none.

    Raises:
        UsageError: There is no such profile, or ``keep_loaded`` is below 1.
    """
    require_profile(profile)
    if keep_loaded < 1:
        raise UsageError(f"keep_loaded={keep_loaded}", "would serve nothing", "keep 1 or more")
    choice = choice or RuntimeChoice()
    local = profile == "local"
    head = _HEAD.format(
        name=MODEL_NAME,
        backend=_BACKENDS[profile],
        max_batch=MAX_BATCH,
        input=INPUT_NAME,
        output=OUTPUT_NAME,
        instances=choice.instances,
        kind="KIND_CPU" if local else "KIND_GPU",
        counted="version serves" if keep_loaded == 1 else f"{keep_loaded} versions are loaded, the newest answers",
        keep=keep_loaded,
        preferred="" if local else _PREFERRED,
    )
    if local:
        own = _LOCAL.format(
            runtime=choice.runtime,
            precision=choice.inference_precision,
            threads=choice.threads,
            at_once=choice.at_once,
        )
    else:
        own = _ACCELERATED if profile == "onnxruntime-gpu" else ""
    sizes = [(1, 512, 512)] if local else [(b, *size) for size in ((512, 512), (704, 1280)) for b in (1, MAX_BATCH)]
    return head + own + _warm_up(sizes)


def require_profile(name: str) -> Profile:
    """Return the profile of that name; raises UsageError if there is none."""
    for profile in PROFILES:
        if name == profile:
            return profile
    raise UsageError(f"profile {name}", "does not exist", f"take one of {', '.join(PROFILES)}")


def _warm_up(sizes: Iterable[tuple[int, int, int]]) -> str:
    samples = ",\n".join(
        f"""\
  {{
    name: "frames_{batch}x{height}x{width}"
    batch_size: {batch}
    inputs {{
      key: "{INPUT_NAME}"
      value {{ data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] random_data: true }}
    }}
  }}"""
        for batch, height, width in sizes
    )
    return f"\n# Not ready before pictures of the usual sizes went through.\nmodel_warmup [\n{samples}\n]\n"
