"""What a training says while it runs."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from privseg.training._hooks import AverageHook, ValidationHook
from privseg.training._logging import CurvesHook, ProgressHook
from privseg.training._runner import BudgetHook


def curves(folder: Path, budget: BudgetHook) -> tuple[CurvesHook, ValidationHook]:
    validation = ValidationHook(None, 1, 0, AverageHook(0.0))
    return CurvesHook(folder, budget, validation), validation


def steps(hook: CurvesHook, budget: BudgetHook, first: int, last: int) -> None:
    runner = SimpleNamespace(optim_wrapper=SimpleNamespace(param_groups=[{"lr": 0.1}, {"lr": 0.2}]))
    for iteration in range(first, last + 1):
        budget.step_loss = float(iteration)
        hook.after_train_iter(runner, iteration - 1)


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def table(folder: Path, name: str) -> str:
    return (folder / "dvclive" / "plots" / "metrics" / f"{name}.tsv").read_text()


def test_a_run_that_goes_on_has_every_point_once(tmp_path):
    budget = BudgetHook(seconds=100, max_iterations=100)
    killed, validation = curves(tmp_path, budget)
    killed.before_train_epoch(None)
    steps(killed, budget, 1, 15)
    validation.scores.append((15, 0.5))
    remembered = copy.deepcopy(killed.state())
    steps(killed, budget, 16, 24)
    killed.close()
    resumed, validation = curves(tmp_path, budget)
    resumed.restore(remembered)
    validation.scores.append((15, 0.5))
    resumed.before_train_epoch(None)
    steps(resumed, budget, 16, 30)
    resumed.after_train(None)
    assert table(tmp_path, "loss") == "step\tloss\n10\t5.5\n20\t15.5\n30\t25.5\n"
    assert table(tmp_path, "validation_iou") == "step\tvalidation_iou\n15\t0.5\n"
    assert points(tmp_path, "loss") == [(10, 5.5), (20, 15.5), (30, 25.5)]
    assert points(tmp_path, "learning_rate") == [
        (10, pytest.approx(0.2)),
        (20, pytest.approx(0.2)),
        (30, pytest.approx(0.2)),
    ]


def test_dvclive_leaves_the_repository_around_it_alone(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    budget = BudgetHook(seconds=100, max_iterations=100)
    hook, _ = curves(tmp_path / "out", budget)
    hook.before_train_epoch(None)
    steps(hook, budget, 1, 10)
    hook.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", "out"]
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name for name in written if name.startswith("dvclive")} == {
        "dvclive/metrics.json",
        "dvclive/plots/metrics/learning_rate.tsv",
        "dvclive/plots/metrics/loss.tsv",
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def say(hook: ProgressHook, budget: BudgetHook, *elapsed: float) -> None:
    runner = SimpleNamespace(train_loop=SimpleNamespace(stop_training=False))
    hook.before_train_epoch(runner)
    for seconds in elapsed:
        budget.iterations, budget.elapsed, budget.step_loss = budget.iterations + 1, seconds, 0.5
        hook.after_train_iter(runner, budget.iterations - 1)
    hook.close()


def test_a_line_every_five_seconds_where_there_is_no_terminal(capsys):
    budget = BudgetHook(seconds=20, max_iterations=100)
    say(ProgressHook("stdc1", budget, shown=True), budget, 1, 3, 6.5, 7, 20)
    assert capsys.readouterr().err.splitlines() == [
        "train stdc1: iteration 1, loss 0.5000, 19 s left at most",
        "train stdc1: iteration 3, loss 0.5000, 14 s left at most",
        "train stdc1: iteration 5, loss 0.5000, done",
    ]


def test_one_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    budget = BudgetHook(seconds=20, max_iterations=100)
    say(ProgressHook("stdc1", budget, shown=True), budget, 1, 3, 20)
    shown = terminal.getvalue()
    assert "train stdc1" in shown
    assert "iteration 3, loss 0.5000, done" in shown
    assert "━" in shown


def test_only_the_first_of_several_processes_speaks(capsys):
    budget = BudgetHook(seconds=20, max_iterations=100)
    say(ProgressHook("stdc1", budget, shown=False), budget, 1, 20)
    assert capsys.readouterr().err == ""
