"""The main job, start to end: what ``privseg run`` and so ``make run`` do.

Local Triton up → one retraining run through Airflow → a clip protected by the published model → a short table.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import privseg
from privseg import pipeline, repro
from privseg.errors import DataError, PrivacyViolationPrevented, PrivsegError, StorageError, UsageError

__all__ = ["airflow_environment", "run_main_job"]

DAG_ID = "privseg_retrain"
CLIP_IN_DATA = Path("video/vtest.avi")


def run_main_job(home: Path, *, data: Path | None, overrides: dict[str, str]) -> dict[str, Any]:
    """Retrain through Airflow, publish to a local Triton, protect a clip; prints progress and a table.

    What has not changed since the last run is reused: an unchanged pipeline is not run again, an unchanged clip is
    not protected again.

    Raises:
        UsageError: Another run works in the same home.
        PrivsegError: The error that stopped the run, as its stage raised it.
        PrivacyViolationPrevented: The clip has blank frames; everything else is done and shown.
    """
    started = time.monotonic()
    home = home.resolve()
    data = data.resolve() if data else None
    with _only_run(home):
        _say("preparing the workspace")
        ready = pipeline.prepare(str(home), str(data) if data else None, overrides, local=True)
        root = Path(ready["path"])
        _say("starting Triton")
        triton = pipeline.start_triton(home)
        _say(f"Triton answers on {triton.grpc_url} (log {triton.log})")
        served = _reusable(home, root)
        if served is None:
            _retrain(home, data, overrides)
            published = _read(home / "out" / "published.json")
        else:
            _say("no source, parameter or code has changed since the last run: reusing its results")
            published = served
        clip = _clip(home, data)
        report = _protect(clip, home, triton.grpc_url, published)
    summary = _summary(home, root, published, report, triton.metrics_url, round(time.monotonic() - started, 1))
    _print_summary(summary)
    if report["frames_blanked"]:
        blank = f"{report['frames_blanked']} of {report['frames_out']} frames are blank ({report['blank_reason']})"
        raise PrivacyViolationPrevented(report["output"], blank, "privseg triton status, then run again")
    return summary


def airflow_environment(home: Path, *, data: Path | None) -> dict[str, str]:
    """Environment of an Airflow that runs privseg's DAGs on one small machine, on loopback, under ``home``."""
    home = home.resolve()
    return {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(pipeline.__file__).resolve().parents[1] / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PRIVSEG_HOME": str(home),
        "PRIVSEG_DATA": str(data.resolve()) if data else "",
    }


def _retrain(home: Path, data: Path | None, overrides: dict[str, str]) -> None:
    """One run of the DAG in a process of its own; the tasks' progress lines are shown as they come."""
    log = home / "out" / "run.log"
    progress = home / "out" / "progress.log"
    error_file = home / "out" / "error.json"
    log.parent.mkdir(parents=True, exist_ok=True)
    progress.write_text("")
    error_file.unlink(missing_ok=True)
    environment = os.environ | airflow_environment(home, data=data)
    # the main job is a local one, whatever servers the environment names for a deployment
    environment |= {"PRIVSEG_TRITON_ENDPOINTS": "", "PRIVSEG_MODEL_REPOSITORY": ""}
    environment |= {pipeline.PROGRESS_VARIABLE: str(progress), repro.ERROR_FILE_VARIABLE: str(error_file)}
    _say(f"retraining through Airflow (log {log})")
    with log.open("w", encoding="utf-8") as sink:
        for command in (["db", "migrate"], ["dags", "test", DAG_ID, "--conf", json.dumps({"overrides": overrides})]):
            with subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=environment,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            ) as process:
                _follow(progress, process)
            if process.returncode != 0:
                _raise_first_error(error_file, log)


def _follow(progress: Path, process: subprocess.Popen[bytes]) -> None:
    with progress.open(encoding="utf-8") as lines:
        lines.seek(0, os.SEEK_END if process.poll() is not None else os.SEEK_SET)
        while True:
            running = process.poll() is None
            for line in lines:
                print(f"  {line}", end="" if line.endswith("\n") else "\n", flush=True)
            if not running:
                return
            time.sleep(0.2)


def _raise_first_error(error_file: Path, log: Path) -> None:
    if error_file.is_file():
        raise PrivsegError.load(error_file)
    raise DataError("Airflow run", "failed without a privseg error", f"read {log}")


def _reusable(home: Path, root: Path) -> dict[str, Any] | None:
    """The last publication, if nothing changed since and that version is still the newest one served."""
    record = home / "out" / "published.json"
    if not record.is_file() or not repro.up_to_date(root):
        return None
    from privseg.serving.versions import current, read_record

    published = _read(record)
    repository = home / "model_repository"
    version = current(repository)
    if version is None or version != published["version"]:
        return None
    return published if read_record(repository, version)["sha256"] == published["sha256"] else None


def _clip(home: Path, data: Path | None) -> Path:
    if data is not None:
        clip = data / CLIP_IN_DATA
        if not clip.is_file():
            raise DataError(clip, "does not exist", f"put a clip there, or run without {data}")
        return clip
    clip = home / "out" / "scene.mp4"
    if not clip.is_file():
        from privseg.datasets.sources.synthetic import write_video

        _say("rendering a clip")
        write_video(clip, seed=13, frames=150, height=432, width=768, frame_rate=10.0)
    return clip


def _protect(clip: Path, home: Path, triton: str, published: dict[str, Any]) -> dict[str, Any]:
    """Protect the clip with the published model, unless exactly that was done before."""
    from privseg.privacy.filters.registry import create_method
    from privseg.streaming.anonymize import anonymize_file

    out = home / "out" / "protected.mp4"
    report_file = home / "out" / "protected.json"
    method = create_method("silhouette")
    with clip.open("rb") as file:
        clip_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    stamp = {
        "clip_sha256": clip_sha256,
        "model_sha256": published["sha256"],
        "method": method.name,
        "method_params": method.params.model_dump(),
        "version": privseg.__version__,
    }
    if out.is_file() and report_file.is_file():
        report = _read(report_file)
        if report.get("made_from") == stamp and not report["frames_blanked"]:
            _say("the clip is already protected by this model: reusing it")
            return report
    _say(f"protecting {clip.name} through Triton")
    report = anonymize_file(
        str(clip),
        out,
        method=method,
        triton=triton,
        metrics_file=home / "out" / "gateway-metrics.prom",
        metrics_port=0,
        say=_say,
    )
    report["made_from"] = stamp
    report_file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _summary(
    home: Path, root: Path, published: dict[str, Any], clip: dict[str, Any], metrics_url: str, seconds: float
) -> dict[str, Any]:
    validation = _read(root / "reports/validation/validation.json")
    selection = _read(root / "reports/selection.json")
    candidates = [
        entry | {"fps": _read(root / "reports/benchmark" / entry["candidate"] / "result.json")["speed"]["fps"]}
        for entry in selection["candidates"]
    ]
    summary = {
        "dataset_version": validation["dataset_version"],
        "gate": "passed" if validation["success"] else "failed",
        "expectations": len(validation["expectations"]),
        "candidates": candidates,
        "failed": selection["failed"],
        "winner": selection["winner"],
        "outcome": published["outcome"],
        "reason": published["reason"],
        "version": published["version"],
        "model": published["candidate"],
        "clip": clip,
        "protected_video": str(home / "out" / "protected.mp4"),
        "report": str(root / "reports" / "benchmark.html"),
        "gate_report": str(root / "reports/validation/validation.html"),
        "triton_metrics": metrics_url,
        "gateway_metrics": str(home / "out" / "gateway-metrics.prom"),
        "seconds": seconds,
    }
    (home / "out" / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, show_edge=False, title="privseg", title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    kept = summary["outcome"] == "keep"
    table.add_row("dataset", summary["dataset_version"])
    table.add_row("gate (Great Expectations)", f"{summary['gate']}, {summary['expectations']} expectations")
    for entry in summary["candidates"]:
        mark = "" if entry["candidate"] != summary["winner"] else "  ← best" if kept else "  ← published"
        table.add_row(
            f"candidate {entry['candidate']}", f"human IoU {entry['iou_human']:.3f}   {entry['fps']:.1f} FPS{mark}"
        )
    for entry in summary["failed"]:
        table.add_row(f"candidate {entry['candidate']}", f"failed: {entry['reason']}")
    stays = "champion stays: " if kept else ""
    table.add_row(
        "model version", f"person_segmentation {summary['version']} ({summary['model']})\n{stays}{summary['reason']}"
    )
    clip = summary["clip"]
    counts = f"{clip['frames_out']} frames, {clip['frames_blanked']} blank, {clip['fps']:.1f} FPS"
    table.add_row("protected video", f"{summary['protected_video']}\n{counts}")
    table.add_row("report", summary["report"])
    table.add_row("gate report", summary["gate_report"])
    table.add_row(
        "live metrics", f"{summary['triton_metrics']} (Triton, until `make stop`)\n{summary['gateway_metrics']}"
    )
    table.add_row("time", f"{summary['seconds']:.0f} s")
    print()
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@contextmanager
def _only_run(home: Path) -> Iterator[None]:
    try:
        (home / "out").mkdir(parents=True, exist_ok=True)
        with (home / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(home, "another run works there", "wait for it, or choose another --home") from None
            yield
    except PermissionError as error:
        raise StorageError.from_os_error(home, error) from None


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _say(line: str) -> None:
    print(f"▸ {line}", flush=True)
