"""Measure one way to run a model, in the environment and by the code of the backend: ``python measure.py REQUEST``.

REQUEST is JSON: ``model``, path of ``model.onnx``, its record beside it; ``runtime``, ``precision``, ``threads``;
``pictures``, path of an ``.npz`` with uint8 ``[N,H,W,3]`` RGB arrays, N at least the largest of ``batches``;
``batches``, pictures at once; ``seconds``, how long each of them is measured; ``answers``, path of the ``.npz`` that
gets the answers under the same names. What was measured is printed as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines import Engine, open_engine

LEAST_RUNS, MOST_RUNS = 3, 200


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Load, answer every picture, time every batch of every size."""
    notes: list[str] = []
    model = Path(request["model"])
    content, record = model.read_bytes(), json.loads(model.with_name("model.json").read_text(encoding="utf-8"))
    start = time.perf_counter()
    engine = open_engine(content, request["runtime"], request["precision"], request["threads"], notes.append, record)
    load_seconds = time.perf_counter() - start
    with np.load(request["pictures"]) as stored:
        pictures = {name: stored[name] for name in stored.files}
    answers: dict[str, Any] = {
        name: np.concatenate([engine.run(image[None]) for image in images]) for name, images in pictures.items()
    }
    np.savez(request["answers"], **answers)
    figures = [
        time_batch(engine, images[:batch], request["seconds"])
        for images in pictures.values()
        for batch in request["batches"]
    ]
    return {
        "runtime": engine.runtime,
        "precision": engine.precision,
        "threads": engine.threads,
        "note": "; ".join(notes),
        "load_seconds": load_seconds,
        "figures": figures,
    }


def time_batch(engine: Engine, batch: np.ndarray, seconds: float) -> dict[str, Any]:
    """Time runs of one batch after a run that is not counted."""
    engine.run(batch)
    runs: list[float] = []
    begin = time.perf_counter()
    while len(runs) < LEAST_RUNS or (len(runs) < MOST_RUNS and time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        engine.run(batch)
        runs.append(time.perf_counter() - start)
    median, high = np.percentile(runs, [50, 95]) * 1000
    count, height, width = batch.shape[:3]
    return {
        "height": height,
        "width": width,
        "batch": count,
        "runs": len(runs),
        "p50_ms": float(median),
        "p95_ms": float(high),
        "fps": float(count / median * 1000),
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
