"""Challenger against champion: whether the winner replaces the model that serves.

The winner is the best of several candidates on the very pictures on which it meets the champion. What it must win is
therefore raised with their number (`privseg.benchmark.bootstrap.required_wins`).
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from privseg.benchmark.bootstrap import f_beta, paired_bootstrap, required_samples, required_wins
from privseg.benchmark.champion import IMAGES_FILE, RESULT_FILE
from privseg.errors import DataError
from privseg.params import Params

__all__ = ["challenge"]

_COUNTED = ("tp", "fp", "fn")
_FIGURES = ("iou_human", "precision", "recall")
_AGAIN = "in the workspace: dvc repro --force --single-item"


def challenge(
    params: Params,
    images: Path,
    champion_dir: Path | None,
    *,
    candidates: int,
    checkpoint_sha256: str | None = None,
) -> dict[str, Any]:
    """Decide whether the winner replaces the model that serves.

    It does if nothing serves or what serves cannot be used; else if its score is higher in a share of
    ``1 - (1 - select.confidence) / candidates`` of the resamples of the test pictures (`privseg.benchmark.bootstrap`),
    and by ``select.min_gain`` on the pictures as they are. The same weights never replace themselves, and a tie keeps
    what serves. That what serves is slower than the latency budget is said, but is no reason to replace it.

    Args:
        params: Beta, the rules of ``select`` and the seed.
        images: The winner's pixels by picture, ``images.parquet`` as ``evaluate`` wrote it in the candidate's folder.
        champion_dir: What ``measure_champion`` or ``write_champion`` wrote; None: nothing serves.
        candidates: Of how many the winner is the best, itself included.
        checkpoint_sha256: Of the winner's weights, where they are known.

    Returns:
        ``outcome`` (``promote`` or ``keep``), ``reason``, ``champion`` (None, or its version and figures;
        ``within_budget`` says whether it is fast enough) and ``bootstrap`` (None where none was needed).

    Raises:
        DataError: A file cannot be used, or the two were measured on different pictures.
    """
    rules = params.select
    champion: dict[str, Any] = _read_champion(champion_dir / RESULT_FILE) if champion_dir else {"version": None}
    version = champion["version"]
    if champion_dir is None or version is None:
        return _verdict("promote", "no model serves yet", None)
    if "fault" in champion:
        return _verdict("promote", f"version {version}, which serves, cannot be used: {champion['fault']}", champion)
    champion["within_budget"] = champion["speed"]["p50_ms"] <= rules.max_latency_ms
    theirs = _read_images(champion_dir / IMAGES_FILE, f"{_AGAIN} champion")
    champion["score"] = float(f_beta(theirs.to_numpy(np.float64).sum(axis=0), rules.beta))
    slow = _slow(champion, rules.max_latency_ms)
    if checkpoint_sha256 and checkpoint_sha256 == champion.get("checkpoint_sha256"):
        return _verdict("keep", f"the winner is the model that serves as version {version}{slow}", champion)
    measured = f"evaluate@{images.parent.name}"
    ours = _read_images(images, f"{_AGAIN} {measured}")
    if list(ours.index) != list(theirs.index):
        fault = "counts other pictures than the champion's measurement"
        raise DataError(images, fault, f"{_AGAIN} champion {measured}")
    asked = required_wins(rules.confidence, candidates)
    found = paired_bootstrap(
        ours.to_numpy(np.int64),
        theirs.to_numpy(np.int64),
        beta=rules.beta,
        samples=required_samples(rules.bootstrap_samples, rules.confidence, candidates),
        confidence=rules.confidence,
        seed=params.seed,
    )
    bootstrap = asdict(found) | {"confidence": rules.confidence, "interval": list(found.interval)}
    resamples = f"{found.samples} resamples of the test pictures"
    better = f"the winner is better than version {version} in {_percent(found.wins)} of {resamples}"
    if found.wins < asked:
        of = f" of the best of {candidates}" if candidates > 1 else ""
        return _verdict("keep", f"{better}; {_percent(asked)} is asked{of}{slow}", champion, bootstrap)
    gain = f"by {found.difference:.4f}"
    if found.difference < rules.min_gain:
        return _verdict("keep", f"{better}, but {gain}; {rules.min_gain:g} is asked{slow}", champion, bootstrap)
    return _verdict("promote", f"{better}, {gain}{slow}", champion, bootstrap)


def _percent(share: float) -> str:
    """A share with the digits by which 99.75 % and 99.8 % differ."""
    return f"{share * 100:.5g}%"


def _slow(champion: dict[str, Any], budget: float) -> str:
    if champion["within_budget"]:
        return ""
    speed = champion["speed"]
    needs = f"version {champion['version']} itself needs {speed['p50_ms']:.0f} ms in {speed['runtime']}"
    return f"; {needs}, more than the {budget:g} ms that a candidate may"


def _verdict(
    outcome: str, reason: str, champion: dict[str, Any] | None, bootstrap: dict[str, Any] | None = None
) -> dict[str, Any]:
    if champion is not None:
        measured = {"accuracy", "speed", "images", "threshold"}
        accuracy, speed = champion.get("accuracy", {}), champion.get("speed", {})
        identity = {key: value for key, value in champion.items() if key not in measured}
        champion = identity | {name: accuracy[name] for name in _FIGURES if name in accuracy}
        champion |= {name: speed[name] for name in ("p50_ms", "runtime") if name in speed}
    return {"outcome": outcome, "reason": reason, "champion": champion, "bootstrap": bootstrap}


def _read_champion(path: Path) -> dict[str, Any]:
    again = f"{_AGAIN} champion"
    try:
        champion = json.loads(path.read_text(encoding="utf-8"))
        version = champion["version"]
        if version is not None and "fault" not in champion:
            for name in _FIGURES:
                float(champion["accuracy"][name])
            float(champion["speed"]["p50_ms"]), str(champion["speed"]["runtime"])
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(path, f"is not a measurement of a champion ({error})", again) from None
    return dict(champion)


def _read_images(path: Path, again: str) -> pd.DataFrame:
    """Read pixels by picture, ordered by ``sample_id``, which becomes the index; ``again`` makes the file anew."""
    try:
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
        counts = table.set_index("sample_id")[list(_COUNTED)].sort_index()
    except FileNotFoundError:
        raise DataError(path, "does not exist", again) from None
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(path, f"does not hold pixels by picture ({error})", again) from None
    if counts.empty or counts.index.has_duplicates:
        raise DataError(path, "counts no picture, or one twice", again)
    return counts
