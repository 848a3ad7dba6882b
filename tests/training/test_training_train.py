from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from privseg.errors import DataError, GateFailedError, StorageError
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training import efficientnet_lite
from privseg.training._mm import Config
from privseg.training._runner import BudgetHook, learning_rate_factor
from privseg.training.segmentor import load_segmentor
from privseg.training.train import TrainingResult, train

FILES = ("checkpoint.pth", "config.py", "dvclive", "tensorboard", "train.log", "training.json")
# plain; with auxiliary and detail heads; with maps of outlines
TRAINED = ("efficientnet_lite0_fpn", "stdc1", "pidnet_s")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_dataset, budget) -> dict[str, tuple[TrainingResult, Path]]:
    """A few candidates of different make, trained for three iterations."""
    folder = tmp_path_factory.mktemp("models")
    return {name: (train(budget(), name, *tiny_dataset, folder / name), folder / name) for name in TRAINED}


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """One trained candidate that a test may break."""
    return shutil.copytree(trained["efficientnet_lite0_fpn"][1], tmp_path / "efficientnet_lite0_fpn")


@pytest.mark.parametrize("name", TRAINED)
def test_training_leaves_its_files_and_a_true_record(trained, name):
    result, folder = trained[name]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert not (folder.parent / f".{name}.training").exists()
    assert result.iterations == 3
    assert math.isfinite(result.final_loss)
    assert (result.train_images, result.train_people_images, result.train_sources) == (8, 6, {"tiny": 8})
    assert (result.device, result.precision, result.processes, result.accumulate) == ("cpu", "float32", 1, 1)
    assert (result.best_validation, result.best_iteration, result.early_stopped) == (None, None, False)
    assert json.loads((folder / "training.json").read_text()) == vars(result)
    assert "Initialized by" in (folder / "train.log").read_text()
    assert Config.fromfile(folder / "config.py").train_cfg.max_iters == 3


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 128, 64)])
def test_segmentor_gives_a_probability_a_pixel(trained, name, shape):
    segmentor = load_segmentor(trained[name][1])
    with torch.inference_mode():
        person = segmentor(torch.randint(0, 256, (*shape, 3), dtype=torch.uint8))
    assert (tuple(person.shape), person.dtype) == (shape, torch.uint8)
    assert segmentor.candidate == name
    assert not segmentor.training


def test_segmentor_keeps_the_order_of_colours_and_the_place_of_pixels(trained):
    segmentor = load_segmentor(trained["efficientnet_lite0_fpn"][1])
    image = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    segmentor.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image[0, 5, 9] = torch.tensor([255, 127, 0], dtype=torch.uint8)
    with torch.inference_mode():
        segmentor(image)
    assert seen[0][0, :, 5, 9].tolist() == pytest.approx([1.0, 0.0, -127 / 128])


def test_same_seed_same_weights_other_seed_others(tmp_path, tiny_dataset, budget, trained):
    name, weights, same = "efficientnet_lite0_fpn", [], budget().seed
    for run, seed in (("again", same), ("other", same + 1)):
        train(budget().model_copy(update={"seed": seed}), name, *tiny_dataset, tmp_path / run)
        weights.append(torch.load(tmp_path / run / "checkpoint.pth", weights_only=True))
    first = torch.load(trained[name][1] / "checkpoint.pth", weights_only=True)
    assert all(torch.equal(first[key], weights[0][key]) for key in first)
    assert not all(torch.equal(first[key], weights[1][key]) for key in first)


def test_learning_moves_the_pretrained_weights_and_lowers_the_loss(tmp_path, tiny_dataset, budget, capfd):
    result = train(
        budget(max_iterations=12, learning_rate=0.005), "efficientnet_lite0_fpn", *tiny_dataset, tmp_path / "out"
    )
    captured = capfd.readouterr()
    first_loss = float(captured.err.splitlines()[0].split("loss ")[1].split(",")[0])
    assert result.final_loss < 0.7 * first_loss
    assert "train efficientnet_lite0_fpn: iteration 12" in captured.err
    assert "Iter(train) [10/12]" in (tmp_path / "out" / "train.log").read_text()
    assert captured.out == "", "standard output belongs to the command's result"


def test_the_clock_ends_a_training_too(tmp_path, tiny_dataset, budget):
    result = train(budget(seconds=1e-6, max_iterations=1000), "efficientnet_lite0_fpn", *tiny_dataset, tmp_path)
    assert result.iterations == 1


def test_training_reads_images_in_other_processes(tmp_path, tiny_dataset, budget):
    assert train(budget(workers=1), "efficientnet_lite0_fpn", *tiny_dataset, tmp_path).iterations == 3


def test_learning_rate_warms_up_then_falls():
    factors = [learning_rate_factor(step / 200) for step in range(301)]
    peak = factors.index(max(factors))
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0, abs=0.001)
    assert 0 < peak < 10
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[200] == factors[300] == pytest.approx(0.01)


def test_learning_rate_follows_whichever_budget_is_used_up_sooner():
    class Runner:
        class optim_wrapper:  # noqa: N801
            param_groups = [{"lr": 0.2}, {"lr": 0.02}]  # noqa: RUF012

    hook = BudgetHook(seconds=100, max_iterations=100)
    hook.before_train(Runner)
    for hook.elapsed, hook.iterations in ((50.0, 10), (10.0, 50)):
        hook.before_train_iter(Runner, hook.iterations)
        half = learning_rate_factor(0.5)
        assert [group["lr"] for group in Runner.optim_wrapper.param_groups] == pytest.approx([0.2 * half, 0.02 * half])


def test_failure_touches_nothing_that_was_there(copy, tiny_dataset, budget, monkeypatch):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    spoilt = {key: value * math.nan for key, value in efficientnet_lite.imagenet_weights("lite0").items()}
    monkeypatch.setattr(efficientnet_lite, "imagenet_weights", lambda variant: spoilt)
    with pytest.raises(GateFailedError, match="diverged"):
        train(budget(), "efficientnet_lite0_fpn", *tiny_dataset, copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_training_again_replaces_what_was_there(copy, tiny_dataset, budget, trained):
    (copy / "dvclive" / "stale").write_text("from before")
    train(budget(), "efficientnet_lite0_fpn", *tiny_dataset, copy)
    assert sorted(path.name for path in copy.iterdir()) == sorted(FILES)
    assert not (copy / "dvclive" / "stale").exists()
    assert load_segmentor(copy).candidate == "efficientnet_lite0_fpn"


def test_empty_train_split_is_bad_data(tmp_path, budget):
    with pytest.raises(DataError, match="no kept image in its train split"):
        train(budget(), "stdc1", *make_tiny_dataset(tmp_path, splits=("test",) * 2), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_place_that_cannot_be_written(tmp_path, tiny_dataset, budget):
    (tmp_path / "models").write_text("a file, no folder")
    with pytest.raises(StorageError, match="models/stdc1: cannot be written"):
        train(budget(), "stdc1", *tiny_dataset, tmp_path / "models" / "stdc1")


def test_image_missing_from_the_dataset_is_named(tmp_path, budget):
    manifest, root = make_tiny_dataset(tmp_path)
    (root / "train_002_mask.png").unlink()
    with pytest.raises(DataError, match=r"train_002_mask\.png: is named by the manifest but missing"):
        train(budget(), "stdc1", manifest, root, tmp_path / "out")


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_image_is_named_whichever_process_reads_it(tmp_path, budget, workers):
    manifest, root = make_tiny_dataset(tmp_path, splits=("train",) * 2)
    (root / "train_001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot be read: .*train_001\.png") as raised:
        train(budget(workers=workers), "efficientnet_lite0_fpn", manifest, root, tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_checkpoint_missing(copy):
    (copy / "checkpoint.pth").unlink()
    with pytest.raises(DataError, match=r"checkpoint\.pth: does not exist\. Next: dvc repro train@efficientnet"):
        load_segmentor(copy)


def test_checkpoint_damaged(copy):
    data = bytearray((copy / "checkpoint.pth").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "checkpoint.pth").write_bytes(data)
    with pytest.raises(DataError, match="sha256 differs"):
        load_segmentor(copy)


def test_checkpoint_of_another_model(copy, trained):
    shutil.copy(trained["stdc1"][1] / "checkpoint.pth", copy)
    record = json.loads((copy / "training.json").read_text())
    record["checkpoint_sha256"] = trained["stdc1"][0].checkpoint_sha256
    (copy / "training.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="does not hold the weights of efficientnet_lite0_fpn"):
        load_segmentor(copy)


@pytest.mark.parametrize("text", ["", "{}", '{"candidate": 1}', "[]"])
def test_record_broken(copy, text):
    (copy / "training.json").write_text(text)
    with pytest.raises(DataError, match=r"training\.json: is not a training record"):
        load_segmentor(copy)
