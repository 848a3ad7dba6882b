"""A recipe is a file of changes to params.yaml; the shipped model's own is one that works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from privseg.params import load_params

CHECKOUT = Path(__file__).parents[1]


def prepare(tmp_path: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "privseg", "workspace", "--data", str(data), "--home", str(tmp_path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)


def test_the_shipped_recipe_changes_the_workspace_and_set_goes_on_top(tmp_path: Path, privseg_data: Path) -> None:
    done = prepare(tmp_path, privseg_data, "--recipe", "recipes/shipped.yaml", "--set", "train.full.seconds=9")
    assert done.returncode == 0, done.stderr
    params = load_params(tmp_path / "workspace" / "params.yaml")
    assert params.profile == "full"
    assert params.candidates == ["efficientnet_lite2_fpn"]
    assert params.train_profile.seconds == 9
    assert params.train_profile.crop == 320
    assert params.sources["pennfudan"].partitions[0].hold_out_every == 4
    assert params.train.source_weights["coco_person"] == 4


def test_a_recipe_with_an_unknown_parameter_is_one_line(tmp_path: Path, privseg_data: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("train.speed: 3\n", encoding="utf-8")
    done = prepare(tmp_path / "home", privseg_data, "--recipe", str(recipe))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "train.speed" in done.stderr
