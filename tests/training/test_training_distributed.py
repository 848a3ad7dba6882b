"""Two processes train as one does with the same batches."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training.candidates import CANDIDATES, Candidate
from privseg.training.train import train

# Gradients, order, augmentation and learning rate are to be compared; batch statistics, which two CPUs do not share,
# are kept out by a model whose normalisation does not depend on the batch.
NAME = "batchless"
MODEL = {
    "type": "EncoderDecoder",
    "backbone": {"type": "EfficientNetLite", "variant": "lite0"},
    "decode_head": {
        "type": "FCNHead",
        "in_channels": 320,
        "in_index": 3,
        "channels": 16,
        "num_convs": 1,
        "concat_input": False,
        "dropout_ratio": 0.0,
        "num_classes": 2,
        "norm_cfg": {"type": "GN", "num_groups": 4},
        "loss_decode": {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0},
    },
    "train_cfg": {},
    "test_cfg": {"mode": "whole"},
}
SCRIPT = """
import json, sys, warnings
from pathlib import Path
import torch
torch.set_num_threads(1)
warnings.simplefilter("error")
from privseg.params import Params
from privseg.training.candidates import CANDIDATES, Candidate
from privseg.training.train import train

folder, name, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
model = json.loads((folder / "model.json").read_text())
CANDIDATES[name] = Candidate(summary="", family="", model=model, backbone_learning_rate=0.05)
params = Params.model_validate_json((folder / "params.json").read_text())
result = train(params, name, folder / "manifest.parquet", folder / "data", folder / out)
sys.stdout.write(f"{result.processes} {result.checkpoint_sha256}\\n")
"""
STEPS = 10
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def curve(folder: Path, name: str) -> list[float]:
    with (folder / "dvclive" / "plots" / "metrics" / f"{name}.tsv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file, delimiter="\t")]


def test_two_processes_have_the_loss_of_one(tmp_path, budget, monkeypatch):
    manifest, root = make_tiny_dataset(tmp_path, splits=("train",) * 7 + ("validation",) * 3)
    params = budget(max_iterations=STEPS, batch_size=4, learning_rate=1e-3, validate_every=5)
    (tmp_path / "params.json").write_text(params.model_dump_json())
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    (tmp_path / "script.py").write_text(SCRIPT)
    candidate = Candidate(summary="", family="", model=MODEL, backbone_learning_rate=0.05)
    monkeypatch.setitem(CANDIDATES, NAME, candidate)
    train(params, NAME, manifest, root, tmp_path / "alone")
    together = subprocess.run(
        [sys.executable, *TORCHRUN, str(tmp_path / "script.py"), str(tmp_path), NAME, "together"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert together.returncode == 0, together.stderr
    said = together.stdout.splitlines()
    assert len(said) == 2
    assert said[0] == said[1], "every process knows the result"
    assert said[0].startswith("2 ")
    assert together.stderr.count(f"train {NAME}: iteration {STEPS}, loss") == 1, "one process speaks"
    for name in ("loss", "learning_rate", "validation_iou"):
        assert curve(tmp_path / "together", name) == pytest.approx(curve(tmp_path / "alone", name), rel=1e-5), name
    one, two = (torch.load(tmp_path / name / "checkpoint.pth", weights_only=True) for name in ("alone", "together"))
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)
    assert not list(tmp_path.glob(".*.training"))
