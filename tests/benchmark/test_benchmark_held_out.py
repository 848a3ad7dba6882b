"""``benchmarks/held_out.py`` replaces the committed figures only with the shipped model's."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from privseg.testing.triton import make_person_model

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "held_out.py"


@pytest.fixture
def held_out(tmp_path, monkeypatch):
    """The script, with a tiny shipped model and committed figures, run over one picture of each set."""
    spec = importlib.util.spec_from_file_location("held_out", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    make_person_model(tmp_path / "shipped", kind="bright")
    monkeypatch.setattr(script, "SHIPPED", tmp_path / "shipped" / "model.onnx")
    monkeypatch.setattr(script, "RESULT", tmp_path / "results" / "held_out.json")
    monkeypatch.setattr(script, "LONG_SIDE", 64)
    pairs = tmp_path / "data" / "pairs"
    for image, mask in (
        ("pennfudan/images/a.jpg", "pennfudan/masks/a_mask.png"),
        ("coco_person/val/images/a.jpg", "coco_person/val/masks/a.png"),
        ("camvid/test/a.png", "camvid/testannot/a.png"),
    ):
        for path, picture in ((image, np.full((64, 64, 3), 255)), (mask, np.ones((64, 64)))):
            (pairs / path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(pairs / path), picture.astype(np.uint8))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["held_out.py", "--data", str(tmp_path / "data"), *map(str, arguments)])
        script.main()
        return script.RESULT

    return run


def test_only_the_shipped_model_replaces_the_committed_figures(held_out, tmp_path, capsys):
    committed = held_out()
    figures = committed.read_bytes()
    assert json.loads(figures)["sets"]["coco_person_val"]["iou_human"] == 1
    make_person_model(tmp_path / "other", kind="inverse")
    other, out = tmp_path / "other" / "model.onnx", tmp_path / "elsewhere" / "figures.json"
    capsys.readouterr()
    held_out("--model", other)
    assert committed.read_bytes() == figures
    assert json.loads(capsys.readouterr().out)["sets"]["coco_person_val"]["iou_human"] == 0
    held_out("--model", other, "--out", out)
    assert committed.read_bytes() == figures
    assert json.loads(out.read_text())["sets"]["coco_person_val"]["iou_human"] == 0
