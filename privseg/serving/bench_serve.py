"""``privseg bench serve``: which runtime, precision, threads, pictures at once and instances serve best here.

Every way is measured in a process of the Triton environment, by the code of the backend. The fastest at the first size,
one picture at a time, is chosen of those whose answers hold the bounds of a publication against ONNX Runtime in
float32; then a throw-away Triton serves it, and tells whether more instances answer more pictures.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from privseg.errors import GateFailedError, ServerUnavailableError, StorageError, UsageError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME, ONNX_FILE, Artifact, read_artifact
from privseg.serving.bench_measure import Effort, Pictures, Row, measure_way, parity_of, stacks
from privseg.serving.config import SERVING_FILE, hardware, write_config
from privseg.serving.golden import require_computed
from privseg.serving.installation import find_installation
from privseg.serving.local_triton import LocalTriton
from privseg.serving.profiles import RuntimeChoice, render_config
from privseg.serving.shipped import SHIPPED
from privseg.serving.versions import Store, accepted

__all__ = ["Effort", "bench_serve", "choose"]

CLOSE: Final = 1.05  # times so near to each other are the same
WORTH: Final = 1.1  # so many times the pictures a second are worth another instance's memory, or a later answer
CLIENTS: Final = 4
BUSY: Final = 0.5  # processes that want a processor, for each processor
REFERENCE: Final = ("onnxruntime", "f32")
WAYS: Final = (REFERENCE, ("openvino", "f32"), ("openvino", "bf16"))
_MOST_PICTURES: Final = 400  # through Triton, one way


def bench_serve(
    repository: Path,
    home: Path,
    *,
    data: Path | None = None,
    effort: Effort | None = None,
    say: Callable[[str], Any] = lambda line: None,
) -> Row:
    """Measure, choose, and write ``serving.json`` into the home, where the next new repository finds the choice.

    Args:
        repository: The model repository; its newest version is measured, or where it has none the shipped model.
        home: Folder of everything a run makes.
        data: Folder with photographs somewhere below it; None: pictures are drawn.
        effort: How much is measured.
        say: Gets a line for each way that was measured.

    Returns:
        What ``serving.json`` holds: ``created``, ``hardware``, ``model``, ``pictures``, ``figures``, ``parity``,
        ``left_out``, ``triton``, ``choice``.

    Raises:
        UsageError: There is no model, or no photograph.
        GateFailedError: The model is damaged, not even ONNX Runtime runs it, or it leaves pixels uncomputed.
        ServerUnavailableError: Triton is not installed or does not start.
        StorageError: The disk is full or ``home`` cannot be written.
    """
    effort = effort or Effort()
    artifact, installation = _model(repository), find_installation()
    load_average = os.getloadavg()[0]
    if load_average > BUSY * len(os.sched_getaffinity(0)):
        say(f"this machine is busy (load average {load_average:.1f}): these are figures of now; measure again later")
    figures: list[Row] = []
    left_out: list[Row] = []
    parity: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="privseg-bench-") as place:
        folder = Path(place)
        pictures = dict(stacks(data, effort))
        np.savez(folder / "pictures.npz", **pictures)  # type: ignore[arg-type]  # its names are data
        expected: dict[str, Pictures] = {}
        for runtime, precision in WAYS:
            for threads in _thread_counts():
                way = {"runtime": runtime, "precision": precision, "threads": threads}
                measured = measure_way(installation, artifact.directory / ONNX_FILE, folder, way, effort)
                if "fault" in measured:
                    if (runtime, precision) == REFERENCE:
                        fault = f"does not run ({measured['fault']})"
                        raise GateFailedError(artifact.directory, fault, "publish another model")
                    left_out.append({"runtime": runtime, "precision": precision, "reason": measured["fault"]})
                    say(f"{runtime} {precision} is left out: {measured['fault']}")
                    break
                figures += [way | figure for figure in measured["figures"]]
                p50 = measured["figures"][0]["p50_ms"]
                say(f"{runtime} {precision}, threads: {threads}: {p50:.1f} ms a picture of {next(iter(pictures))}")
                if not expected:
                    expected = measured["answers"]
                    for answer in expected.values():
                        require_computed(str(artifact.directory), answer)
                if threads == 1:  # their number changes no answer
                    parity += parity_of(way, expected, measured["answers"])
        choice, triton = _through_triton(artifact, folder, choose(figures, parity, effort), pictures, effort)
    for row in triton:
        say("Triton, {instances} instance(s): {p50_ms:.1f} ms, {clients} clients {fps:.1f} pictures/s".format(**row))
    result = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware() | {"load_average_before": load_average},
        "model": {"directory": str(artifact.directory), "sha256": artifact.sha256},
        "pictures": {"source": str(data) if data else "drawn", "count": len(next(iter(pictures.values())))},
        "figures": figures,
        "parity": parity,
        "left_out": left_out,
        "triton": triton,
        "choice": asdict(choice),
    }
    _write(home / SERVING_FILE, result)
    return result


def choose(figures: list[Row], parity: list[Row], effort: Effort) -> RuntimeChoice:
    """Choose the fastest way whose answers hold; of those as good as equal the fewest threads, then ONNX Runtime.

    Args:
        figures: Rows with ``runtime``, ``precision``, ``threads``, ``height``, ``width``, ``batch``, ``p50_ms``,
            ``fps``.
        parity: Rows with ``runtime``, ``precision``, ``holds``.
        effort: Its first size decides, at one picture at a time. More go together where that is worth it.
    """
    broken = {(row["runtime"], row["precision"]) for row in parity if not row["holds"]}
    rows = [
        row
        for row in figures
        if (row["runtime"], row["precision"]) not in broken and (row["height"], row["width"]) == effort.sizes[0]
    ]
    alone = [row for row in rows if row["batch"] == min(effort.batches)]
    fastest = min(row["p50_ms"] for row in alone)
    close = [row for row in alone if row["p50_ms"] <= fastest * CLOSE]
    best = min(close, key=lambda row: (row["threads"], WAYS.index((row["runtime"], row["precision"]))))
    way = ("runtime", "precision", "threads")
    together = max((row for row in rows if all(row[key] == best[key] for key in way)), key=lambda row: row["fps"])
    at_once = together["batch"] if together["fps"] > best["fps"] * WORTH else best["batch"]
    return RuntimeChoice(best["runtime"], best["precision"], best["threads"], at_once=at_once)


def _model(repository: Path) -> Artifact:
    for place in (repository, SHIPPED):
        version = accepted(place)
        if version is not None:
            return read_artifact(place / MODEL_NAME / str(version))
    raise UsageError(repository, "holds no model version", "publish one: privseg run")


def _thread_counts() -> list[int]:
    cores = len(os.sched_getaffinity(0))
    return sorted({1, cores, *(2**k for k in range(1, 4) if 2**k <= cores)})


def _through_triton(
    artifact: Artifact, folder: Path, choice: RuntimeChoice, pictures: dict[str, Pictures], effort: Effort
) -> tuple[RuntimeChoice, list[Row]]:
    """Serve the chosen way by a real Triton, with one instance and with as many as there are processors for."""
    rows: list[Row] = []
    for instances in sorted({1, max(1, len(os.sched_getaffinity(0)) // choice.threads)}):
        way = replace(choice, instances=instances)
        repository = folder / f"instances-{instances}"
        write_config(repository, render_config("local", way))
        store = Store(repository)
        with store.locked():
            store.add(artifact)
            store.accept()
        with LocalTriton(repository, folder / f"triton-{instances}") as server:
            running = server.status()
            if running is None:
                raise ServerUnavailableError("the throw-away Triton", "ended at once", "run `privseg triton up`")
            if not running.runtime.startswith(f"{way.runtime} {way.inference_precision},"):
                raise GateFailedError(way, f"Triton runs {running.runtime}", "read what openvino says, measure again")
            ask = partial(_ask, running.grpc_url, next(iter(pictures.values())), effort.seconds)
            alone = ask()
            begin = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                asked = [future.result() for future in [pool.submit(ask) for _ in range(CLIENTS)]]
            seconds = time.perf_counter() - begin
        rows.append(
            {
                "instances": instances,
                "runtime": running.runtime,
                "p50_ms": float(np.median(alone) * 1000),
                "p95_ms": float(np.percentile(alone, 95) * 1000),
                "clients": CLIENTS,
                "fps": sum(map(len, asked)) / seconds,
            }
        )
    best = rows[-1] if rows[-1]["fps"] > rows[0]["fps"] * WORTH else rows[0]
    return replace(choice, instances=best["instances"]), rows


def _ask(url: str, images: Pictures, seconds: float) -> list[float]:
    """Ask for one picture after the other, as a camera does; return the seconds of each."""
    times: list[float] = []
    with Endpoint(url) as endpoint:
        begin = time.perf_counter()
        for image in itertools.islice(itertools.cycle(images), _MOST_PICTURES):
            start = time.perf_counter()
            endpoint.infer(image[None])
            times.append(time.perf_counter() - start)
            if time.perf_counter() - begin > seconds:
                break
    return times


def _write(path: Path, result: Row) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError.from_os_error(path, error) from error
