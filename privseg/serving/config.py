"""The model's ``config.pbtxt``: one text for the local server and the official container."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Final, Literal

from privseg.serving.artifact import INPUT_NAME, MODEL_NAME, OUTPUT_NAME

__all__ = ["CONFIG_FILE", "ensure_config", "render_config"]

CONFIG_FILE: Final = "config.pbtxt"

_TEMPLATE: Final = """\
# Written once, never changed on promotion: an edit here reloads every loaded version.
name: "{name}"
backend: "onnxruntime"
max_batch_size: 4

# RGB, height and width multiples of 32; colour scaling and softmax live inside the graph.
input [ {{ name: "{input}" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }} ]
# Person probability x 255, at least 1; 0 where it could not be computed.
output [ {{ name: "{output}" data_type: TYPE_UINT8 dims: [ -1, -1 ] }} ]

instance_group [ {{ count: 1 kind: {kind} }} ]

# The newest version serves. Loading over it keeps the old one answering until the new one is ready.
version_policy {{ latest {{ num_versions: 1 }} }}

# The queue is short and refuses instead of growing. A request may lower the time it waits, never raise it: a
# recording waits this long, live video, where a late frame is worthless, asks for less.
dynamic_batching {{
  default_queue_policy {{
    timeout_action: REJECT
    default_timeout_microseconds: 10000000
    allow_timeout_override: true
    max_queue_size: 16
  }}
}}

parameters {{ key: "intra_op_thread_count" value {{ string_value: "{threads}" }} }}

# Not ready before one frame of the usual size went through.
model_warmup [
  {{
    name: "frame_512"
    batch_size: 1
    inputs {{ key: "{input}" value {{ data_type: TYPE_UINT8 dims: [ 512, 512, 3 ] random_data: true }} }}
  }}
]
"""


def render_config(threads: int = 2, *, device: Literal["cpu", "gpu"] = "cpu") -> str:
    """Return ``config.pbtxt`` for ``threads`` ONNX Runtime threads on the given device."""
    return _TEMPLATE.format(
        name=MODEL_NAME, input=INPUT_NAME, output=OUTPUT_NAME, kind=f"KIND_{device.upper()}", threads=threads
    )


def ensure_config(repository: Path, *, threads: int = 2) -> Path:
    """Write the model's ``config.pbtxt`` if the repository has none; raises OSError.

    One that is there stays as it is, whatever release wrote it: an edit would reload every loaded version.
    """
    path = repository / MODEL_NAME / CONFIG_FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = repository / f".{CONFIG_FILE}.{uuid.uuid4().hex}"  # never a stray file in the model's directory
        try:
            temporary.write_text(render_config(threads), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path
