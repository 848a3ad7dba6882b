"""``privseg benchmark`` shows the last comparison; terminal, page, file and saved masks say the same."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from privseg.benchmark.evaluate import evaluate, write_failed
from privseg.benchmark.report import report
from privseg.benchmark.select import select

RECOMPUTE = Path(__file__).parents[2] / "benchmarks" / "recompute_iou.py"


def privseg(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "privseg", "benchmark", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def home(params, candidate_dir, tiny_dataset, tmp_path_factory) -> Path:
    """A home whose workspace has compared two trained candidates; a third one failed."""
    home = tmp_path_factory.mktemp("home")
    manifest, root = tiny_dataset
    workspace = home / "workspace"
    shutil.copytree(root, workspace / "data" / "ingested")
    shutil.copy(manifest, workspace / "data" / "manifest.parquet")
    reports, results = workspace / "reports", []
    for threshold, name in ((0.5, "careful"), (0.05, "anxious")):
        rules = params.benchmark.model_copy(update={"threshold": threshold})
        result = reports / "benchmark" / name / "result.json"
        evaluate(params.model_copy(update={"benchmark": rules}), candidate_dir, manifest, root, result)
        result.write_text(json.dumps(json.loads(result.read_text()) | {"candidate": name}))
        results.append(result)
    results.append(reports / "benchmark" / "broken" / "result.json")
    write_failed(results[-1], "broken", "loss is not a number")
    report(results, select(params, results), reports / "benchmark.html")
    return home


def test_json_is_results_json(home):
    done = privseg("--home", str(home), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((home / "workspace" / "reports" / "results.json").read_text())


def test_terminal_page_and_file_agree(home):
    text = privseg("--home", str(home)).stdout
    reports = home / "workspace" / "reports"
    results = json.loads((reports / "results.json").read_text())
    page = (reports / "benchmark.html").read_text()
    for row in results["candidates"]:
        line = next(line for line in text.splitlines() if row["candidate"] in line)
        for figure in ("iou_human", "recall", "precision"):
            shown = f"{row['accuracy'][figure]:.3f}"
            assert shown in line
            assert f">{shown}<" in page
        assert ("★" in line) == (row["candidate"] == results["winner"])
    assert "broken failed: loss is not a number" in text
    assert f"{results['winner']} is to serve: no model serves yet." in text
    assert text.splitlines()[-1] == f"page: {reports / 'benchmark.html'}"


def test_counting_again_from_the_saved_masks_gives_the_same(home, capsys):
    recompute = runpy.run_path(str(RECOMPUTE))["main"]
    workspace = home / "workspace"
    assert recompute(workspace, ["careful", "anxious"]) == 0
    assert capsys.readouterr().out.count("counted") == 2
    file = workspace / "reports" / "results.json"
    before = file.read_text()
    results = json.loads(before)
    results["candidates"][0]["accuracy"]["iou_human"] += 1e-4
    file.write_text(json.dumps(results))
    assert recompute(workspace, []) == 1
    assert "DIFFERENT" in capsys.readouterr().out
    file.write_text(before)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "there is no benchmark here yet"),
        ("{", "is not a benchmark"),
        ("[]", "is not a benchmark"),
        ('{"schema_version": 0}', "is of another version"),
        ('{"schema_version": 1}', "is not a benchmark (it has no 'candidates')"),
        ('{"schema_version": 1, "candidates": ["a"], "winner": "a"}', "is not a benchmark"),
    ],
)
def test_no_benchmark_is_one_line(tmp_path, content, fault):
    file = tmp_path / "workspace" / "reports" / "results.json"
    if content is not None:
        file.parent.mkdir(parents=True)
        file.write_text(content)
    done = privseg("--home", str(tmp_path))
    assert done.returncode == 3
    assert fault in done.stderr
    assert "Next: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    if content is not None:
        assert done.stderr.strip().endswith("Next: in the workspace: dvc repro --force --single-item select")
