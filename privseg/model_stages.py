"""The stages from training on: candidates, benchmark, champion, selection, export and parity; see `privseg.stages`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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

__all__ = ["stage_champion", "stage_evaluate", "stage_export", "stage_parity", "stage_select", "stage_train"]

FAILED = "failed.json"
VARIANTS = EXPORTED.with_name("variants")


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
    """Write the winner's variants as ONNX with their records, and say which is to be published."""
    from privseg.benchmark.accuracy import accuracy_figures, evenly_spaced, measure_accuracy, read_sample
    from privseg.benchmark.champion import UnusableModelError, onnx_predictor
    from privseg.serving.export import export
    from privseg.training.data import split_rows

    params = load_params()
    winner = str(read_json(SELECTION)["winner"])
    source = read_json(Path("source.json"))
    provenance = {
        "git_sha": source["git_sha"],
        "git_dirty": source["dirty"],
        "dvc_revision": workspace.record_run(Path.cwd(), "Candidates trained and compared"),
        "dvc_md5": _dvc_md5(MODELS / winner, MANIFEST),
        "dataset_version": read_json(VALIDATED)["dataset_version"],
        "candidate": winner,
        "checkpoint_sha256": read_json(MODELS / winner / "training.json")["checkpoint_sha256"],
        "profile": params.profile,
        "metrics": read_json(BENCHMARK / winner / "result.json")["accuracy"],
        "data_terms": sorted({source.terms for source in params.sources.values() if source.terms}),
    }
    training = split_rows(MANIFEST, INGESTED, "train")
    count = min(params.export_profile.calibration_pictures, len(training))
    pictures = [
        read_sample(INGESTED, str(row.image_path), str(row.mask_path))[0]
        for row in training.sample(count, random_state=params.seed).itertuples()
    ]
    test = evenly_spaced(split_rows(MANIFEST, INGESTED, "test"), params.benchmark_profile.max_test_images)

    def judge(onnx: bytes) -> dict[str, Any]:
        try:
            predict = onnx_predictor(onnx, "int8")
            found = measure_accuracy(predict, test, INGESTED, params.benchmark.threshold, label="int8")
        except UnusableModelError as error:
            raise GateFailedError("int8", str(error), "publish another variant: export.publish") from error
        return accuracy_figures(found, params.select.beta)

    made = export(params, MODELS / winner, VARIANTS, provenance=provenance, pictures=pictures, judge=judge)
    for name, outcome in made["variants"].items():
        size = f"{outcome['bytes'] / 1e6:.1f} MB" if "bytes" in outcome else "not made"
        print(f"export {name}: {size}{'' if outcome['offered'] else ', not offered: ' + outcome['reason']}", flush=True)
    print(f"export: {made['variant']} is to be published: {made['reason']}", flush=True)


def stage_parity() -> None:
    """Ask every runtime for the same test pictures; only what those that serve agree on is put up for publication.

    Otherwise what was put up last time stays where it is, and the report tells what is wrong.
    """
    import numpy as np

    from privseg.benchmark.accuracy import evenly_spaced, read_sample
    from privseg.serving.artifact import read_artifact
    from privseg.serving.export import read_chosen
    from privseg.serving.parity import compare_runtimes, put_forward
    from privseg.serving.parity_report import write_report
    from privseg.training.data import split_rows
    from privseg.training.segmentor import load_segmentor

    params, chosen = load_params(), read_chosen(VARIANTS)
    published = read_artifact(VARIANTS / chosen["variant"])
    made = {name: read_artifact(VARIANTS / name) for name, out in chosen["variants"].items() if "sha256" in out}
    test = evenly_spaced(split_rows(MANIFEST, INGESTED, "test"), params.export_profile.parity_pictures)
    pictures = np.stack(
        [read_sample(INGESTED, str(row.image_path), str(row.mask_path))[0] for row in test.itertuples()]
    )
    comparison = compare_runtimes(
        params,
        load_segmentor(MODELS / str(published.record["candidate"])),
        published,
        pictures,
        single=made.get("float32"),
        eight_bits=made.get("int8"),
    )
    write_report(params, published.record, comparison, REPORTS)
    for name, state in comparison.runtimes.items():
        if "fault" in state:
            print(f"parity {name}: may not serve: {state['fault']}", flush=True)
        elif "mean_difference" in state:
            verdict = "may serve" if state["may_serve"] else "may not serve"
            figures = f"mean difference {state['mean_difference']:.4f}, mask agreement {state['mask_agreement']:.5f}"
            print(f"parity {name} ({state['precision']}): {figures}: {verdict}", flush=True)
    put_forward(published, comparison, EXPORTED)


def _dvc_md5(*paths: Path) -> dict[str, str]:
    """What ``dvc.lock`` calls these results: by it, any DVC remote that has them finds them. Empty outside of DVC."""
    import yaml

    try:
        stages = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"].values()
    except FileNotFoundError:
        return {}
    outs = [out for stage in stages for out in stage.get("outs", [])]
    return {out["path"]: out["md5"] for out in outs if Path(out["path"]) in paths and "md5" in out}


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
