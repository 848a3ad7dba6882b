"""The stages from training on: candidates, benchmark, champion, selection and export; see `privseg.stages`."""

from __future__ import annotations

import sys
from pathlib import Path

from privseg import workspace
from privseg.errors import GateFailedError, StorageError
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
    """Train one candidate; one that cannot be trained leaves ``failed.json`` and does not stop the others.

    Of several processes that train it together, the first writes the file.
    """
    from privseg.training.train import is_first, train

    failure = MODELS / candidate / FAILED
    try:
        train(load_params(), candidate, MANIFEST, INGESTED, MODELS / candidate)
    except GateFailedError as error:
        reason = f"{error.subject}: {error.fault}"
        print(f"train {candidate}: failed, the others go on: {error}", file=sys.stderr, flush=True)
        if is_first():
            write_json(failure, {"candidate": candidate, "reason": reason, "next_step": error.next_step})
        return
    if is_first():
        failure.unlink(missing_ok=True)


def stage_evaluate(candidate: str) -> None:
    """Measure accuracy, speed and complexity of one trained candidate, or say why it has none.

    The result of one that failed, here or in training, says so, and does not stop the others.
    """
    from privseg.benchmark.evaluate import evaluate, write_failed
    from privseg.training.memory import is_out_of_memory

    out, failure = BENCHMARK / candidate / "result.json", MODELS / candidate / FAILED
    if failure.is_file():
        reason = str(read_json(failure)["reason"])
    else:
        try:
            evaluate(load_params(), MODELS / candidate, MANIFEST, INGESTED, out)
        except GateFailedError as error:
            reason = f"{error.subject}: {error.fault}"
        except Exception as error:  # memory runs out under many names
            if not is_out_of_memory(error):
                raise
            said = next(iter(str(error).strip().splitlines()), "no more to be had")
            reason = (
                f"candidate {candidate}: does not fit into memory when it is measured ({said}); "
                f"free memory, then dvc repro --single-item --force evaluate@{candidate}, or take it out of candidates"
            )
        else:
            return
    print(f"evaluate {candidate}: nothing to measure: {reason}", file=sys.stderr, flush=True)
    write_failed(out, candidate, reason)


def stage_champion() -> None:
    """Measure the model that serves, on the test pictures of the candidates.

    What cannot be used for good (a failed SHA-256, no valid ONNX, a broken contract) is written as its fault, and the
    winner replaces it; any other fault may pass, and fails the stage.
    """
    from privseg.benchmark.champion import measure_champion, write_champion
    from privseg.serving.artifact import read_artifact

    version = read_json(workspace.CHAMPION / workspace.CHAMPION_FILE)["version"]
    identity = {"version": version}
    if version is None:
        write_champion(CHAMPION, identity)
        return
    _require_readable(workspace.CHAMPION)
    try:
        artifact = read_artifact(workspace.CHAMPION)
    except GateFailedError as error:
        measured = write_champion(CHAMPION, identity | {"fault": f"{error.subject}: {error.fault}"})
    else:
        names = ("candidate", "dataset_version", "sha256", "checkpoint_sha256")
        identity |= {name: artifact.record.get(name) for name in names}
        measured = measure_champion(load_params(), identity, artifact.onnx, MANIFEST, INGESTED, CHAMPION)
    if "fault" in measured:
        print(f"champion: version {version} cannot be measured: {measured['fault']}", file=sys.stderr, flush=True)


def stage_select() -> None:
    """Choose the winner, hold it against the model that serves, write the comparison page, record the decision.

    The selection goes last: whatever stops the stage before, nothing is published that the record does not tell of.
    """
    from privseg.benchmark.report import report
    from privseg.benchmark.select import select, write_selection

    params = load_params()
    results = {candidate: BENCHMARK / candidate / "result.json" for candidate in params.candidates}
    trained = {name: MODELS / name / "training.json" for name in results}
    checkpoints = {name: str(read_json(file)["checkpoint_sha256"]) for name, file in trained.items() if file.is_file()}
    try:
        selection = select(params, list(results.values()), champion=CHAMPION, checkpoints=checkpoints)
    except GateFailedError as error:
        record_decision(Path.cwd(), {"outcome": "refused", "reason": f"{error.subject}: {error.fault}"})
        raise
    report(list(results.values()), selection, REPORTS / "benchmark.html")
    record_decision(Path.cwd(), selection)
    write_selection(selection, SELECTION)


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


def _require_readable(folder: Path) -> None:
    """Raise StorageError if a model's file is there, but the disk does not give it: no fault of the model's."""
    from privseg.serving.artifact import ONNX_FILE, RECORD_FILE

    for path in (folder / ONNX_FILE, folder / RECORD_FILE):
        try:
            path.read_bytes()
        except FileNotFoundError:
            continue  # what is not there cannot be loaded either; `read_artifact` names it
        except OSError as error:
            again = "mend the disk or the permissions, then in the workspace: dvc repro --single-item champion"
            raise StorageError(path, f"cannot be read ({error.strerror})", again) from error
