"""What a training really learns from: the pictures, cut-outs and augmentation that its parameters ask for."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from privseg.params import AugmentParams, Params, SourceParams
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training._stream import SeededDataset
from privseg.training.augment import CameraLook, PersonCrop
from privseg.training.copy_paste import CopyPaste
from privseg.training.person_model import PersonModel
from privseg.training.train import TrainingResult, train

CANDIDATE = "efficientnet_lite0_fpn"
# none like another one, nor like a default
AUGMENT = AugmentParams(
    min_scale=0.41,
    max_scale=1.72,
    person_share=0.53,
    copy_paste=0.34,
    photometric=0.85,
    night=0.16,
    blur=0.17,
    compression=0.28,
    low_resolution=0.19,
    grey=0.11,
)
DRAWN, RARE, NO_HUMAN = 1, 2, 1.6  # the drawn and the rare picture; the weight of those without people


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three splits; of the train split, one picture is drawn, one of a rare source, and every fourth shows nobody."""
    splits = ("train",) * 8 + ("validation",) * 3 + ("test",) * 3
    manifest, root = make_tiny_dataset(tmp_path_factory.mktemp("inputs"), splits=splits)
    rows = pd.read_parquet(manifest)
    for place, source in ((DRAWN, "scenes"), (RARE, "rare")):
        rows.loc[rows["sample_id"] == f"tiny/train_{place:03d}", "source"] = source
    rows.to_parquet(manifest)
    return manifest, root


@pytest.fixture(scope="module")
def learnt(
    tmp_path_factory: pytest.TempPathFactory, dataset: tuple[Path, Path], budget: Any
) -> tuple[Any, TrainingResult]:
    """The dataset that the loop of a training reads, and the training's record."""
    out, seen = tmp_path_factory.mktemp("models") / "out", []
    real = SeededDataset.__getitem__

    def reading(stream: SeededDataset, sample: tuple[int, int]) -> Any:
        seen.append(stream.dataset)
        return real(stream, sample)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeededDataset, "__getitem__", reading)
        weights = {"source_weights": {"rare": 3.0}, "no_human_weight": NO_HUMAN}
        result = train(with_training(budget(max_iterations=1), augment=AUGMENT, **weights), CANDIDATE, *dataset, out)
    assert vars(result) == json.loads((out / "training.json").read_text())
    return seen[-1], result


def with_training(params: Params, **fields: object) -> Params:
    sources = {
        "tiny": SourceParams(kind="pairs"),
        "rare": SourceParams(kind="voc"),
        "scenes": SourceParams(kind="synthetic"),
    }
    return params.model_copy(update={"sources": sources, "train": params.train.model_copy(update=fields)})


def step(dataset: Any, kind: type) -> Any:
    (found,) = (transform for transform in dataset.pipeline.transforms if isinstance(transform, kind))
    return found


def names(dataset: Any) -> Counter[str]:
    return Counter(Path(dataset.get_data_info(i)["img_path"]).stem for i in range(len(dataset)))


def test_people_are_cut_out_of_photographs_of_the_train_split(learnt: tuple[Any, TrainingResult]) -> None:
    people = step(learnt[0], CopyPaste).people
    shown = [f"train_{place:03d}" for place in range(8) if place % 4 != 3 and place != DRAWN]
    assert [Path(image).stem for image, _ in people] == shown
    assert [Path(mask).stem for _, mask in people] == [f"{name}_mask" for name in shown]


def test_the_shares_of_augmentation_are_those_asked_for(learnt: tuple[Any, TrainingResult]) -> None:
    crop, look = step(learnt[0], PersonCrop), step(learnt[0], CameraLook)
    assert crop.size == 64
    assert np.exp(crop.log_scales) == pytest.approx((AUGMENT.min_scale, AUGMENT.max_scale))
    assert crop.person_share == AUGMENT.person_share
    assert step(learnt[0], CopyPaste).share == AUGMENT.copy_paste
    shares = {function.__name__.strip("_"): share for function, share in look.steps}
    assert shares == AUGMENT.model_dump(exclude={"min_scale", "max_scale", "person_share", "copy_paste"})


def test_pictures_are_drawn_as_often_as_the_weights_say(learnt: tuple[Any, TrainingResult]) -> None:
    drawn = names(learnt[0])
    assert drawn.pop(f"train_{RARE:03d}") == 15
    assert drawn == {f"train_{place:03d}": 8 if place % 4 == 3 else 5 for place in range(8) if place != RARE}


def test_the_record_says_what_was_learnt_from(learnt: tuple[Any, TrainingResult]) -> None:
    result = learnt[1]
    assert result.augment == AUGMENT.model_dump()
    assert (result.source_weights, result.no_human_weight) == ({"rare": 3.0}, NO_HUMAN)
    assert result.loss["human_weight"] == 3.0


def test_the_model_sees_the_augmented_crops(tmp_path: Path, budget: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey always, people pasted into every picture without: both show in what the model is given."""
    manifest, root = make_tiny_dataset(tmp_path, splits=("train",) * 8)
    none = dict.fromkeys(("photometric", "night", "blur", "compression", "low_resolution"), 0.0)
    augment = AugmentParams(**none, grey=1.0, copy_paste=1.0, person_share=1.0, min_scale=1.0, max_scale=1.0)
    real, crops, shown = PersonModel.loss, [], []

    def loss(model: Any, inputs: Any, data_samples: Any) -> Any:
        crops.append(inputs)
        shown.extend(bool((sample.gt_sem_seg.data == 1).any()) for sample in data_samples)
        return real(model, inputs, data_samples)

    monkeypatch.setattr(PersonModel, "loss", loss)
    params = with_training(budget(max_iterations=2, batch_size=8), augment=augment)
    train(params, CANDIDATE, manifest, root, tmp_path / "out")
    assert [len(inputs) for inputs in crops] == [8, 8]
    for inputs in crops:
        assert (inputs[:, 0] == inputs[:, 1]).all()
        assert (inputs[:, 0] == inputs[:, 2]).all()
    assert shown == [True] * 16
