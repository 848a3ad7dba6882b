"""The dataset's stages in a workspace, called as DVC calls them; the gate against the version before."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from privseg import stages, workspace
from privseg.errors import GateFailedError, UsageError
from privseg.testing.datasets import make_tiny_pairs

STEPS = ("isolate", "add_no_human", "ingest", "analyse", "cleanse", "merge", "split", "reevaluate", "validate")
MANY = 100_000  # so many that no chance explains a difference


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose dataset is finished; the current folder."""
    make_tiny_pairs(tmp_path / "data" / "people", images=24, size=96)
    partitions = ", ".join(
        f"{{pool: {pool}, images: {pool}/images, masks: {pool}/masks}}" for pool in ("train", "test")
    )
    source = f"{{kind: pairs, path: people, human: [1], ignore: [255], terms: generated, partitions: [{partitions}]}}"
    overrides = {
        "sources": f"{{people: {source}}}",
        "image.size": "96",
        "cleanse": "{min_original_side: 32, min_component_height: 2, min_human_ratio: 0, min_surveillance_score: 0}",
        "merge.no_human_share": "1.0",
        "gate": "{min_images: 4, min_train_images: 2, min_test_images: 1, min_human_share: 0.1}",
    }
    ready = workspace.prepare(tmp_path / "home", data=tmp_path / "data", overrides=overrides)
    monkeypatch.chdir(ready.path)
    stages.run_stage("identify", "people")
    for step in STEPS:
        stages.run_stage(step, "people" if step == "ingest" else None)
    return ready.path


def record(root: Path, version: str, summary: dict[str, Any]) -> None:
    """Make ``summary`` what a version says of itself, as a recorded dataset does."""
    (root / "reports/dataset.json").write_text(json.dumps(summary | {"dataset_version": version}))
    workspace.record_run(root, version)
    identity = ("-c", "user.name=privseg", "-c", "user.email=privseg@localhost")
    subprocess.run(["git", *identity, "tag", "-a", f"dataset/{version}", "-m", version], cwd=root, check=True)


def measures(summary: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in summary["distribution"].values() if isinstance(value, dict)]


def test_the_gate_compares_with_the_version_before(made: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = json.loads((made / "reports/validation/validation.json").read_text())
    summary = json.loads((made / "reports/dataset.json").read_text())
    assert first["success"]
    assert first["baseline"] == ""

    record(made, summary["dataset_version"], summary)
    stages.run_stage("validate", None)  # the version itself is not the version before
    assert json.loads((made / "reports/validation/validation.json").read_text())["baseline"] == ""

    record(made, "ds-aaaaaaaaaaaa", summary)
    stages.run_stage("validate", None)
    assert json.loads((made / "reports/validation/validation.json").read_text())["baseline"] == "ds-aaaaaaaaaaaa"

    other = json.loads(json.dumps(summary))
    for measure in measures(other):  # as many pictures, but all in the first bin
        measure["counts"] = [MANY, *[0] * (len(measure["counts"]) - 1)]
    record(made, "ds-bbbbbbbbbbbb", other)
    with pytest.raises(GateFailedError, match=r"check drift_\w+ failed .* since ds-bbbbbbbbbbbb"):
        stages.run_stage("validate", None)

    for measure in measures(other):
        measure["edges"] = [0.0, 1.0]
        measure["counts"] = [MANY]
    record(made, "ds-cccccccccccc", other)
    capfd.readouterr()
    stages.run_stage("validate", None)
    assert "no drift check: the version before counts" in capfd.readouterr().err


def test_every_step_leaves_its_report(made: Path) -> None:
    reports = [
        *("data/identified/people/report.json", "data/isolated/report.json", "data/chosen/report.json"),
        *("data/ingested/people/report.json", "reports/analysis/index.html", "reports/cleansing/index.html"),
        *("reports/merge.json", "reports/split.json", "reports/dataset/index.html", "reports/dataset/README.md"),
        *("reports/validation/validation.html", "reports/validation/data_docs/index.html"),
    ]
    assert [report for report in reports if not (made / report).is_file()] == []
    kept = json.loads((made / "reports/split.json").read_text())["people"]
    assert sum(kept["splits"].values()) == kept["kept_with_people"] + kept["kept_without_people"] > 0


def test_a_shard_that_does_not_exist_is_refused(made: Path) -> None:
    with pytest.raises(UsageError, match="people:2/2"):
        stages.run_stage("ingest_shard", "people:2/2")
