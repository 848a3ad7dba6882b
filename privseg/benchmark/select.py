"""Choose the candidate to serve, and whether it replaces the model that serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from privseg.benchmark.bootstrap import required_wins
from privseg.benchmark.challenge import challenge
from privseg.benchmark.champion import IMAGES_FILE
from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError, GateFailedError, UsageError
from privseg.params import Params

__all__ = ["read_result", "select", "write_selection"]


def select(
    params: Params,
    results: list[Path],
    *,
    champion: Path | None = None,
    checkpoints: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Take the candidate with the highest score among those fast enough, and hold it against the model that serves.

    Nothing is written: `write_selection` does that, once all that tells of the selection is.

    The score is the F-beta of human pixels, ``(1 + b²) · precision · recall / (b² · precision + recall)``. Recall
    counts more than precision: a person left unprotected harms, a wall protected only looks odd. Equal scores go to
    the faster candidate. The latency is the median for one picture of ``image.size`` squared in
    ``select.latency_runtime``.

    Args:
        params: The rules: ``select``, ``image.size`` and the seed.
        results: Files that ``evaluate`` wrote, one a candidate; each one's pixels by picture lie beside it.
        champion: Folder with the measurement of the model that serves; None: nothing serves.
        checkpoints: SHA-256 of the weights, by candidate; the model that serves never replaces itself.

    Returns:
        ``winner``, its name; ``winner_checkpoint_sha256``, of its weights, None where ``checkpoints`` has none;
        ``rule``; ``candidates``, each with its figures and why it was taken or not; ``failed``, those that could not be
        trained or measured, with the reason; and what `challenge` decided. ``rule`` says of how many candidates the
        winner is the best (``compared``) and which share of the resamples it therefore must win (``wins_asked``).

    Raises:
        UsageError: No results, or two of the same candidate.
        DataError: A result or the champion's measurement cannot be used.
        GateFailedError: Too few candidates are left, none is fast enough, or the best is not good enough, whatever
            serves.
    """
    rules = params.select
    if not results:
        raise UsageError("select", "got no benchmark result", "dvc repro evaluate")
    read = [read_result(path) for path in results]
    names = [result["candidate"] for result in read]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError("select", f"got {repeated[0]} more than once", "name each candidate's result once")
    failed = [{"candidate": r["candidate"], "reason": r["failed"]} for r in read if "failed" in r]
    checkpoints = checkpoints or {}
    _require_survivors(failed, len(results), rules.min_survivors, trained=set(checkpoints))

    table = [_judge(result, params) for result in read if "failed" not in result]
    table.sort(key=lambda row: (-row["score"], row["p50_ms"]))
    accepted = [row for row in table if row["accepted"]]
    if not accepted:
        fastest = min(table, key=lambda row: row["p50_ms"])
        raise GateFailedError(
            "select",
            f"no candidate is within {rules.max_latency_ms:g} ms; {fastest['candidate']} needs {fastest['p50_ms']:.0f}",
            "add a faster candidate or raise select.max_latency_ms in params.yaml",
        )
    winner = accepted[0]
    if winner["iou_human"] < rules.min_iou:
        raise GateFailedError(
            f"candidate {winner['candidate']}",
            f"is the best, but its human IoU {winner['iou_human']:.3f} is below {rules.min_iou:g}",
            "train longer or with more data; select.min_iou in params.yaml is the bar",
        )
    for row in accepted[1:]:
        row["reason"] = f"within the budget, but scores less than {winner['candidate']}"
    winner["reason"] = f"highest score within {rules.max_latency_ms:g} ms"
    name = winner["candidate"]
    images = results[names.index(name)].with_name(IMAGES_FILE)
    weights, compared = checkpoints.get(name), len(accepted)
    verdict = challenge(params, images, champion, candidates=compared, checkpoint_sha256=weights)
    return {
        "winner": name,
        "winner_checkpoint_sha256": weights,
        "rule": {
            "score": f"F-beta of human pixels, beta {rules.beta:g}",
            "beta": rules.beta,
            "max_latency_ms": rules.max_latency_ms,
            "latency_runtime": rules.latency_runtime,
            "min_iou": rules.min_iou,
            "min_gain": rules.min_gain,
            "confidence": rules.confidence,
            "compared": compared,
            "wins_asked": required_wins(rules.confidence, compared),
        },
        "candidates": table,
        "failed": failed,
        **verdict,
    }


def write_selection(selection: dict[str, Any], out_file: Path) -> None:
    """Write what ``select`` gave as JSON.

    Raises:
        StorageError: The disk is full or the file cannot be written.
    """
    write_atomic(out_file, (json.dumps(selection, indent=2) + "\n").encode())


def read_result(path: Path) -> dict[str, Any]:
    """Read a file that ``evaluate`` wrote: measurements, or ``{"candidate": …, "failed": reason}``.

    Raises:
        DataError: It is missing, is no JSON, or lacks a figure.
    """
    again = f"in the workspace: dvc repro --force --single-item evaluate@{path.parent.name}"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        str(result["candidate"])
        if "failed" in result:
            return dict(result)
        for section, names in {
            "accuracy": ("iou_human", "dice", "pixel_accuracy", "precision", "recall"),
            "complexity": ("parameters", "flops"),
            "speed": ("p50_ms", "p95_ms", "fps"),
        }.items():
            for name in names:
                float(result[section][name])
        for measurement in result.get("measurements", []):
            for name in ("height", "width", "batch", "p50_ms"):
                float(measurement[name])
            str(measurement["runtime"])
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(path, f"is not a benchmark result ({error})", again) from error
    except KeyError as error:
        raise DataError(path, f"is not a benchmark result (it has no {error})", again) from error
    return dict(result)


def _require_survivors(failed: list[dict[str, str]], asked: int, least: int, *, trained: set[str]) -> None:
    left, needed = asked - len(failed), min(least, asked)
    if left < needed:
        first = failed[0]["candidate"]
        step = "evaluate" if first in trained else "train"  # hours of training need not be repeated for a measurement
        reasons = "; ".join(f"{entry['candidate']}: {entry['reason']}" for entry in failed)
        raise GateFailedError(
            "select",
            f"{left} of {asked} candidates could be trained and measured, {needed} are needed ({reasons})",
            f"mend the cause, then in the workspace: dvc repro --force --single-item {step}@{first}",
        )


def _judge(result: dict[str, Any], params: Params) -> dict[str, Any]:
    """Score one candidate from its own precision and recall, so that beta may change without measuring again."""
    accuracy, rules = result["accuracy"], params.select
    precision, recall, weight = float(accuracy["precision"]), float(accuracy["recall"]), rules.beta * rules.beta
    below = weight * precision + recall
    latency = _latency(result, rules.latency_runtime, params.image.size)
    fast = latency <= rules.max_latency_ms
    return {
        "candidate": result["candidate"],
        "score": (1 + weight) * precision * recall / below if below else 0.0,
        "iou_human": float(accuracy["iou_human"]),
        "precision": precision,
        "recall": recall,
        "p50_ms": latency,
        "accepted": fast,
        "reason": "" if fast else f"too slow: {latency:.0f} ms of {rules.max_latency_ms:g} ms",
    }


def _latency(result: dict[str, Any], runtime: str, size: int) -> float:
    """Median for one picture in the runtime that counts; where that was not measured, in the result's first one."""
    wanted = (runtime, size, size, 1)
    for found in result.get("measurements", []):
        if (found["runtime"], found["height"], found["width"], found["batch"]) == wanted:
            return float(found["p50_ms"])
    return float(result["speed"]["p50_ms"])
