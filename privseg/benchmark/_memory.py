"""A process that loads a model, segments one picture, and says in bytes what memory that took.

``python -m privseg.benchmark._memory MODEL.onnx HEIGHT WIDTH THREADS``. It imports as little as it can.

The peak is read from ``/proc``: that of ``getrusage`` is handed down from the process that started this one, and that
one holds PyTorch.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def _peak() -> int | None:
    """Most memory this process has had in bytes, since the last ``_forget_peak``."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # where that is forbidden, the peak includes what loading needed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _main(model: str, height: int, width: int, threads: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    _forget_peak()
    before = _peak()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    _forget_peak()
    session.run(None, {session.get_inputs()[0].name: picture})
    after = _peak()
    print(json.dumps(None if before is None or after is None else after - before))


if __name__ == "__main__":
    _main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
