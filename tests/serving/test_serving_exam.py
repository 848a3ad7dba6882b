"""The exam of a candidate: whoever answers without looking is refused; how good it is was decided elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from privseg.errors import GateFailedError
from privseg.serving.artifact import MODEL_NAME, read_artifact
from privseg.serving.exam import Exam, Limits, golden_scenes
from privseg.serving.shipped import SHIPPED
from privseg.testing.bad_models import BadKind, make_bad_model
from privseg.testing.triton import Kind, make_person_model

REFUSED: dict[BadKind, str] = {
    "nobody": r"finds 0\.0% of the people",
    "everybody": r"calls 100\.0% of what shows nobody a person",
    "same": "answers every picture alike",
    "nan": "answers 0, which means not computed",
    "shape": r"answers uint8 \(1, 255, 320\)",
    "signature": "Invalid output name",
    "truncated": "ONNX Runtime refuses it",
}


def test_scenes_with_and_without_people_are_always_the_same() -> None:
    pictures, people = golden_scenes()
    assert pictures.shape == (4, 256, 320, 3)
    assert [bool(mask.any()) for mask in people] == [True, True, True, False]
    golden_scenes.cache_clear()
    assert (golden_scenes()[0] == pictures).all()


@pytest.mark.parametrize("kind", get_args(BadKind))
def test_what_does_not_look_is_refused(kind: BadKind, tmp_path: Path) -> None:
    onnx = make_bad_model(tmp_path, kind).onnx
    if kind not in REFUSED:
        Exam.of(onnx).require_attentive()
        return
    with pytest.raises(GateFailedError, match=REFUSED[kind]) as caught:
        Exam.of(onnx).require_attentive()
    assert caught.value.subject == "model.onnx"


@pytest.mark.parametrize("kind", ["bright", "inverse"])
def test_simple_models_that_look_pass(kind: Kind, tmp_path: Path) -> None:
    Exam.of(make_person_model(tmp_path, kind=kind).onnx).require_attentive()


def test_a_model_is_judged_at_the_threshold_it_was_measured_at(tmp_path: Path) -> None:
    unsure = make_bad_model(tmp_path, "nobody").onnx  # never above an eighth
    Exam.of(unsure, Limits(threshold=0.05)).require_attentive()
    with pytest.raises(GateFailedError, match=r"threshold 0\.5"):
        Exam.of(unsure).require_attentive()


def test_the_limits_can_be_set_for_models_that_are_hardly_trained(tmp_path: Path) -> None:
    for kind in ("nobody", "everybody", "same"):
        Exam.of(make_bad_model(tmp_path, kind).onnx, Limits(0.5, 0, 1, 0)).require_attentive()  # type: ignore[arg-type]


def test_the_shipped_model_passes_with_room_to_spare() -> None:
    if not SHIPPED.is_dir():
        pytest.skip("no shipped model in this checkout")
    exam = Exam.of(read_artifact(SHIPPED / MODEL_NAME / "1").onnx)
    exam.require_attentive()
    people = golden_scenes()[1]
    found = exam.expected[1] >= 128
    assert found[people].mean() > 0.5
    assert found[~people].mean() < 0.1
