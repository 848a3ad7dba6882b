"""The stages ``champion`` and ``select`` in a workspace: what is written in which order, and what a fault leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from privseg.benchmark import results as results_module
from privseg.benchmark.report import report
from privseg.benchmark.select import select
from privseg.errors import StorageError, UsageError
from privseg.model_stages import stage_champion, stage_select
from privseg.params import load_params
from privseg.testing.triton import make_person_model

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def root(tmp_path, write_result, monkeypatch):
    """A workspace of two trained and measured candidates, and nothing that serves."""
    root = tmp_path / "home" / "workspace"
    values = yaml.safe_load(PARAMS.read_text()) | {"candidates": ["one", "two"]}
    for name, recall in (("one", 0.9), ("two", 0.7)):
        (root / "models" / name).mkdir(parents=True)
        (root / "models" / name / "training.json").write_text(json.dumps({"checkpoint_sha256": f"weights of {name}"}))
        shutil.move(write_result(name, recall=recall).parent, root / "reports" / "benchmark" / name)
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    (root / "data").mkdir()
    (root / "data" / "validated.json").write_text('{"dataset_version": "ds-test"}')
    (root / "champion").mkdir()
    (root / "champion" / "champion.json").write_text('{"version": null, "sha256": null}')
    monkeypatch.chdir(root)
    stage_champion()
    return root


def test_the_selection_names_the_winners_weights(root):
    stage_select()
    selection = json.loads((root / "reports/selection.json").read_text())
    assert (selection["winner"], selection["winner_checkpoint_sha256"]) == ("one", "weights of one")
    (line,) = (root.parent / "out/decisions.jsonl").read_text().splitlines()
    assert selection.items() <= json.loads(line).items()
    assert (selection["rule"]["compared"], selection["rule"]["wins_asked"]) == (2, pytest.approx(0.975))


@pytest.mark.parametrize("blocked", ["../out", "reports/comparison"])
def test_a_selection_is_never_without_its_record(root, blocked):
    selection = root / "reports/selection.json"
    selection.write_text("the last one")
    (root / blocked).write_text("a file where the folder must go")
    with pytest.raises(StorageError):
        stage_select()
    assert selection.read_text() == "the last one"
    (root / blocked).unlink()
    stage_select()
    assert json.loads(selection.read_text())["winner"] == "one"


def test_figures_of_candidates_that_are_gone_go_last(params, write_result, tmp_path, monkeypatch):
    metrics = tmp_path / "comparison" / "metrics"
    metrics.mkdir(parents=True)
    (metrics / "gone.json").write_text("{}")
    results = [write_result("one"), write_result("two")]
    real = results_module.write_atomic

    def full(path, content):
        if path.name == "two.json":
            raise StorageError(path, "no space left on the disk", "free space")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(results_module, "write_atomic", full)
        with pytest.raises(StorageError):
            report(results, select(params, results), tmp_path / "page.html")
    assert (metrics / "gone.json").exists()
    report(results, select(params, results), tmp_path / "page.html")
    assert {path.name for path in metrics.iterdir()} == {"one.json", "two.json"}


def serve(root):
    make_person_model(root / "champion", kind="bright")
    (root / "champion" / "champion.json").write_text('{"version": 3, "sha256": null}')


def test_a_hash_that_differs_is_the_champions_fault(root, capfd):
    serve(root)
    with (root / "champion" / "model.onnx").open("ab") as file:
        file.write(b"0")
    stage_champion()
    assert "sha256" in json.loads((root / "reports/champion/result.json").read_text())["fault"]
    assert "version 3 cannot be measured" in capfd.readouterr().err
    stage_select()
    selection = json.loads((root / "reports/selection.json").read_text())
    assert (selection["outcome"], selection["champion"]["version"]) == ("promote", 3)


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_disk_that_does_not_give_the_file_is_not(root, name):
    serve(root)
    before = (root / "reports/champion/result.json").read_bytes()
    (root / "champion" / name).unlink()
    (root / "champion" / name).mkdir()  # reading it fails, as on a broken disk
    with pytest.raises(StorageError, match=f"{name}: cannot be read") as caught:
        stage_champion()
    assert caught.value.next_step.endswith("dvc repro --single-item champion")
    assert (root / "reports/champion/result.json").read_bytes() == before


def test_a_candidate_may_be_listed_once(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(PARAMS.read_text()) | {"candidates": ["stdc1", "unet", "stdc1"]}))
    with pytest.raises(UsageError, match=r"candidates: .*stdc1 is there more than once"):
        load_params(file)
