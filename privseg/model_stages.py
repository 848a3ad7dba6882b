"""The stages from training on: candidates, benchmark, champion, selection and export; see `privseg.stages`."""

from __future__ import annotations

import sys
from pathlib import Path

from privseg import workspace
from privseg.errors import GateFailedError
from privseg.params import load_params
from privseg.stage_files import (
    BENCHMARK,
    CHAMPION,
    EXPORTED,
    INGESTED,
    MANIFEST,
    MODELS,
    REPORTS,
    SELECTION,
    VALIDATED,
    read_json,
    record_decision,
    write_json,
)

__all__ = ["stage_champion", "stage_evaluate", "stage_export", "stage_select", "stage_train"]

FAILED = "failed.json"


def stage_train(candidate: str) -> None:
    """Train one candidate; one that cannot be trained leaves ``failed.json`` and does not stop the others."""
    from privseg.training.train import train

    failure = MODELS / candidate / FAILED
    try:
        train(load_params(), candidate, MANIFEST, INGESTED, MODELS / candidate)
    except GateFailedError as error:
        reason = f"{error.subject}: {error.fault}"
        print(f"train {candidate}: failed, the others go on: {error}", file=sys.stderr, flush=True)
        write_json(failure, {"candidate": candidate, "reason": reason, "next_step": error.next_step})
        return
    failure.unlink(missing_ok=True)


def stage_evaluate(candidate: str) -> None:
    """Measure accuracy, speed and complexity of one trained candidate, or say why it has none."""
    from privseg.benchmark.evaluate import evaluate, write_failed

    out, failure = BENCHMARK / candidate / "result.json", MODELS / candidate / FAILED
    if failure.is_file():
        reason = str(read_json(failure)["reason"])
    else:
        try:
            evaluate(load_params(), MODELS / candidate, MANIFEST, INGESTED, out)
        except GateFailedError as error:
            reason = f"{error.subject}: {error.fault}"
        else:
            return
    print(f"evaluate {candidate}: nothing to measure: {reason}", file=sys.stderr, flush=True)
    write_failed(out, candidate, reason)


def stage_champion() -> None:
    """Measure the model that serves, on the test pictures of the candidates."""
    from privseg.benchmark.challenge import measure_champion, write_champion
    from privseg.serving.artifact import read_artifact

    version = read_json(workspace.CHAMPION / workspace.CHAMPION_FILE)["version"]
    identity = {"version": version}
    if version is None:
        write_champion(CHAMPION, identity)
        return
    try:
        artifact = read_artifact(workspace.CHAMPION)
        names = ("candidate", "dataset_version", "sha256", "checkpoint_sha256")
        identity |= {name: artifact.record.get(name) for name in names}
        measure_champion(load_params(), identity, artifact.onnx, MANIFEST, INGESTED, CHAMPION)
    except GateFailedError as error:
        print(f"champion: version {version} cannot be measured: {error}", file=sys.stderr, flush=True)
        write_champion(CHAMPION, identity | {"fault": f"{error.subject}: {error.fault}"})


def stage_select() -> None:
    """Choose the winner, hold it against the model that serves, record the decision, write the comparison page."""
    from privseg.benchmark.report import report
    from privseg.benchmark.select import select

    params = load_params()
    results = {candidate: BENCHMARK / candidate / "result.json" for candidate in params.candidates}
    trained = {name: MODELS / name / "training.json" for name in results}
    checkpoints = {name: str(read_json(file)["checkpoint_sha256"]) for name, file in trained.items() if file.is_file()}
    try:
        selection = select(params, list(results.values()), SELECTION, champion=CHAMPION, checkpoints=checkpoints)
    except GateFailedError as error:
        record_decision(Path.cwd(), {"outcome": "refused", "reason": f"{error.subject}: {error.fault}"})
        raise
    report(list(results.values()), SELECTION, REPORTS / "benchmark.html")
    record_decision(Path.cwd(), selection)


def stage_export() -> None:
    """Write the winner as ONNX with its record."""
    from privseg.serving.export import export

    params = load_params()
    selection = read_json(SELECTION)
    winner = str(selection["winner"])
    source = read_json(Path("source.json"))
    provenance = {
        "git_sha": source["git_sha"],
        "git_dirty": source["dirty"],
        "dvc_revision": workspace.record_run(Path.cwd(), "Candidates trained and compared"),
        "dataset_version": read_json(VALIDATED)["dataset_version"],
        "candidate": winner,
        "checkpoint_sha256": read_json(MODELS / winner / "training.json")["checkpoint_sha256"],
        "profile": params.profile,
        "metrics": read_json(BENCHMARK / winner / "result.json")["accuracy"],
        "data_terms": sorted({source.terms for source in params.sources.values() if source.terms}),
    }
    export(params, MODELS / winner, EXPORTED, provenance=provenance)
