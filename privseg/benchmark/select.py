"""Choose the candidate to serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from privseg.datasets.manifest import write_atomic
from privseg.errors import DataError, GateFailedError, UsageError
from privseg.params import Params

__all__ = ["read_result", "select"]


def select(params: Params, results: list[Path], out_file: Path) -> dict[str, Any]:
    """Take the candidate with the highest F-beta of human pixels among those fast enough.

    Recall counts more than precision: a person left unprotected harms, a wall protected only looks odd. Equal scores
    go to the faster candidate.

    Args:
        params: The latency budget, beta and the least acceptable IoU.
        results: Files that ``evaluate`` wrote, one a candidate.
        out_file: The JSON file to write.

    Returns:
        What was written: the winner, the rule, and for every candidate its figures and why it was taken or not.

    Raises:
        UsageError: No results, or two of the same candidate.
        DataError: A result cannot be used.
        GateFailedError: No candidate is fast enough, or the best is not good enough; ``out_file`` stays as it was.
        StorageError: ``out_file`` cannot be written.
    """
    rules = params.select
    if not results:
        raise UsageError("select", "got no benchmark result", "dvc repro evaluate")
    measured = [read_result(path) for path in results]
    names = [result["candidate"] for result in measured]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError("select", f"got {repeated[0]} more than once", "name each candidate's result once")

    table = [_judge(result, rules.max_latency_ms, rules.beta) for result in measured]
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
    selection = {
        "winner": winner["candidate"],
        "rule": {
            "score": f"F-beta of human pixels, beta {rules.beta:g}",
            "beta": rules.beta,
            "max_latency_ms": rules.max_latency_ms,
            "min_iou": rules.min_iou,
        },
        "candidates": table,
    }
    write_atomic(out_file, (json.dumps(selection, indent=2) + "\n").encode())
    return selection


def read_result(path: Path) -> dict[str, Any]:
    """Read a file that ``evaluate`` wrote.

    Raises:
        DataError: It is missing, is no JSON, or lacks a figure.
    """
    again = "dvc repro evaluate"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        for section, names in {
            "accuracy": ("iou_human", "dice", "pixel_accuracy", "precision", "recall"),
            "complexity": ("parameters", "flops"),
            "speed": ("p50_ms", "p95_ms", "fps"),
        }.items():
            for name in names:
                float(result[section][name])
        str(result["candidate"])
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, TypeError) as error:
        raise DataError(path, f"is not a benchmark result ({error})", again) from error
    except KeyError as error:
        raise DataError(path, f"is not a benchmark result (it has no {error})", again) from error
    return dict(result)


def _judge(result: dict[str, Any], max_latency_ms: float, beta: float) -> dict[str, Any]:
    """Score one candidate from its own precision and recall, so that beta may change without measuring again."""
    accuracy, latency = result["accuracy"], float(result["speed"]["p50_ms"])
    precision, recall, weight = float(accuracy["precision"]), float(accuracy["recall"]), beta * beta
    below = weight * precision + recall
    fast = latency <= max_latency_ms
    return {
        "candidate": result["candidate"],
        "score": (1 + weight) * precision * recall / below if below else 0.0,
        "iou_human": float(accuracy["iou_human"]),
        "precision": precision,
        "recall": recall,
        "p50_ms": latency,
        "accepted": fast,
        "reason": "" if fast else f"too slow: {latency:.0f} ms of {max_latency_ms:g} ms",
    }
