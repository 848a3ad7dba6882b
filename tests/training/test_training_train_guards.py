"""What keeps a training on its way: averaged weights, looks at the validation split, divergence, short memory."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from privseg.errors import GateFailedError, UsageError
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training import efficientnet_lite
from privseg.training._hooks import AverageHook
from privseg.training._loop import more_parts
from privseg.training._runner import learning_rate_factor
from privseg.training._validation import Validation
from privseg.training.person_model import PersonModel
from privseg.training.segmentor import load_segmentor
from privseg.training.train import train

CANDIDATE = "efficientnet_lite0_fpn"


@pytest.fixture(scope="module")
def validated(tmp_path_factory) -> tuple[Path, Path]:
    """A dataset with a validation split."""
    return make_tiny_dataset(tmp_path_factory.mktemp("validated"), splits=("train",) * 6 + ("validation",) * 3)


def curve(folder: Path, name: str) -> dict[int, float]:
    with (folder / "dvclive" / "plots" / "metrics" / f"{name}.tsv").open() as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file, delimiter="\t")}


def spoil_loss(monkeypatch, *steps: int) -> None:
    """Make the loss of some steps, counted from 1, no number."""
    real, calls = PersonModel.loss, []

    def loss(self, inputs, data_samples):
        calls.append(inputs)
        factor = math.nan if len(calls) in steps else 1.0
        return {name: value * factor for name, value in real(self, inputs, data_samples).items()}

    monkeypatch.setattr(PersonModel, "loss", loss)


def need_memory(monkeypatch, images: int, error: Exception) -> list[int]:
    """Let so many images at a time fit into memory; gives the number of each attempt as they come."""
    real, attempts = PersonModel.loss, []

    def loss(self, inputs, data_samples):
        attempts.append(len(inputs))
        if len(inputs) > images:
            raise error
        return real(self, inputs, data_samples)

    monkeypatch.setattr(PersonModel, "loss", loss)
    return attempts


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


def test_a_loss_that_is_no_number_costs_half_the_learning_rate_once(tmp_path, tiny_dataset, budget, monkeypatch, capfd):
    spoil_loss(monkeypatch, 4)
    params = budget(max_iterations=10)
    result = train(params, CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert (result.iterations, result.diverged_at) == (10, 4)
    assert math.isfinite(result.final_loss)
    said = capfd.readouterr().err
    assert "the loss became nan at iteration 4; goes on with the weights of iteration 0 at half the learning" in said
    peak = params.train.smoke.learning_rate
    assert curve(tmp_path / "out", "learning_rate")[10] == pytest.approx(peak * learning_rate_factor(0.9) / 2)
    assert math.isfinite(curve(tmp_path / "out", "loss")[10])


def test_a_second_loss_that_is_no_number_fails_the_gate(tmp_path, tiny_dataset, budget, monkeypatch):
    spoil_loss(monkeypatch, 2, 3)
    with pytest.raises(
        GateFailedError,
        match=r"the loss became nan at iteration 3, at half the learning rate.*iteration 2.*learning_rate",
    ):
        train(budget(max_iterations=10), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_spoilt_from_the_start_fail_the_gate(tmp_path, tiny_dataset, budget, monkeypatch):
    spoilt = {key: value * math.nan for key, value in efficientnet_lite.imagenet_weights("lite0").items()}
    monkeypatch.setattr(efficientnet_lite, "imagenet_weights", lambda variant: spoilt)
    with pytest.raises(
        GateFailedError,
        match=r"efficientnet_lite0_fpn: diverged: the loss became nan at iteration 1\. Next: lower learn",
    ):
        train(budget(), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_spoilt_by_the_last_step_fail_the_gate(tmp_path, tiny_dataset, budget, monkeypatch):
    def spoil(hook, runner):
        hook.model(runner).decode_head.conv_seg.bias.data[0] = math.inf

    monkeypatch.setattr(AverageHook, "after_train", spoil)
    with pytest.raises(GateFailedError, match=r"decode_head\.conv_seg\.bias is not finite"):
        train(budget(), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu", "cublas"])
def test_short_memory_is_answered_by_smaller_parts_of_the_same_batch(
    tmp_path, tiny_dataset, budget, monkeypatch, capfd, error
):
    attempts = need_memory(monkeypatch, 2, error)
    result = train(budget(max_iterations=2, batch_size=8), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert attempts == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert (result.iterations, result.batch_size, result.accumulate) == (2, 8, 4)
    said = capfd.readouterr().err
    assert "memory is short, from now on 4 images at a time" in said
    assert "memory is short, from now on 2 images at a time" in said


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu", "cublas"])
def test_too_little_memory_for_two_images_fails_the_gate(tmp_path, tiny_dataset, budget, monkeypatch, error):
    attempts = need_memory(monkeypatch, 0, error)
    with pytest.raises(
        GateFailedError, match=r"does not fit into memory, even 2 images at a time\. Next: lower crop or batch_size"
    ):
        train(budget(batch_size=6), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert attempts == [6, 3, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled, but CUDA is not available")
def test_mixed_precision_trains_and_is_recorded(tmp_path, tiny_dataset, budget, monkeypatch):
    """A CPU computes in bfloat16 as a GPU would; there is no GPU to ask."""
    seen: list[torch.dtype] = []
    real = PersonModel.loss

    def loss(self, inputs, data_samples):
        seen.append(self.decode_head(self.backbone(inputs)).dtype)
        return real(self, inputs, data_samples)

    monkeypatch.setattr(PersonModel, "loss", loss)
    monkeypatch.setattr("privseg.training.train._precision", lambda params, device: "bfloat16")
    monkeypatch.setattr("mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available", lambda: True)
    result = train(budget(batch_size=4, accumulate=2), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert result.precision == "bfloat16"
    assert seen == [torch.bfloat16] * 6
    assert math.isfinite(result.final_loss)
    written = torch.load(tmp_path / "out" / "checkpoint.pth", weights_only=True)
    assert {value.dtype for value in written.values() if value.is_floating_point()} == {torch.float32}


def test_memory_that_runs_out_beside_the_steps_fails_the_gate(tmp_path, validated, budget, monkeypatch):
    def score(validation, model):
        raise OUT_OF_MEMORY[0]

    monkeypatch.setattr(Validation, "score", score)
    with pytest.raises(GateFailedError, match=r"does not fit into memory \(CUDA out of memory\. Tried"):
        train(budget(validate_every=1), CANDIDATE, *validated, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_runtime_error_stays_what_it_is(tmp_path, tiny_dataset, budget, monkeypatch):
    need_memory(monkeypatch, 0, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        train(budget(), CANDIDATE, *tiny_dataset, tmp_path / "out")


@given(st.integers(1, 64), st.integers(1, 64))
def test_more_parts_divide_the_images_and_leave_two_in_each(images, parts):
    more = more_parts(images, parts)
    fitting = [n for n in range(parts + 1, images + 1) if images % n == 0 and images // n >= 2]
    if more is None:
        assert fitting == []
    else:
        assert more in fitting
        assert more >= 2 * parts or more == max(fitting)
        assert not [n for n in fitting if 2 * parts <= n < more]


def test_a_batch_that_cannot_be_divided_is_refused_before_anything_is_done(tmp_path, tiny_dataset, budget):
    with pytest.raises(
        UsageError, match=r"batch_size 6: cannot be divided.*accumulates 4 parts.*a multiple of 4, 8 at least"
    ):
        train(budget(batch_size=6, accumulate=4), CANDIDATE, *tiny_dataset, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(tmp_path, validated, budget):
    params = budget(max_iterations=50, validate_every=1, patience=2, learning_rate=1e-12)
    params = params.model_copy(update={"train": params.train.model_copy(update={"ema": 0.0})})
    result = train(params, CANDIDATE, *validated, tmp_path / "out")
    assert result.early_stopped
    scores = curve(tmp_path / "out", "validation_iou")
    assert list(scores) == list(range(1, result.iterations + 1))
    assert result.best_iteration == result.iterations - 2
    assert result.best_validation == scores[result.best_iteration] == max(scores.values())
    assert human_iou(tmp_path / "out", validated[1]) == pytest.approx(result.best_validation)


def human_iou(model: Path, images: Path) -> float:
    """Intersection over union of a written model, over all pixels of the validation images."""
    segmentor = load_segmentor(model)
    found, truth = [], []
    for mask in sorted(images.glob("validation_*_mask.png")):
        image = cv2.cvtColor(cv2.imread(str(mask).replace("_mask", "")), cv2.COLOR_BGR2RGB)
        with torch.inference_mode():
            found.append(segmentor(torch.from_numpy(image)[None])[0].numpy() > 127)
        truth.append(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED))
    people, labels = np.stack(found), np.stack(truth)
    people &= labels != 255
    return (people & (labels == 1)).sum() / (people | (labels == 1)).sum()


def test_weights_and_running_statistics_are_averaged():
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    runner, hook, share = SimpleNamespace(model=model), AverageHook(0.7), 0.7
    hook.before_train(runner)
    expected: dict[str, torch.Tensor] = {}
    for step in range(60):
        for value in (*model.parameters(), model[1].running_mean, model[1].running_var):
            value.data.copy_(torch.randn(value.shape, generator=generator))
        now = {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}
        weight = max(share, 100 / (100 + step))
        expected = {name: (1 - weight) * expected.get(name, value) + weight * value for name, value in now.items()}
        hook.after_train_iter(runner, step)
    averaged = hook.model(runner).state_dict()
    for name, value in expected.items():
        assert torch.allclose(averaged[name], value, atol=1e-5), name


def test_a_short_training_is_not_held_back_by_its_beginning():
    model = nn.Linear(1, 1, bias=False)
    runner, hook = SimpleNamespace(model=model), AverageHook(0.001)
    hook.before_train(runner)
    for step in range(1, 121):
        model.weight.data.fill_(float(step))
        hook.after_train_iter(runner, step)
    assert 115 < hook.model(runner).weight.item() < 120


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_average_is_the_model_itself(share):
    runner, hook = SimpleNamespace(model=nn.Linear(1, 1)), AverageHook(share)
    hook.before_train(runner)
    assert hook.model(runner) is runner.model
