"""The model that serves is measured as the candidates are; only what is wrong with the model itself is its fault."""

from __future__ import annotations

import json
import re

import onnx
import onnxruntime
import pandas as pd
import pytest
from onnx import TensorProto, helper

from privseg.benchmark.challenge import challenge
from privseg.benchmark.champion import measure_champion
from privseg.errors import GateFailedError
from privseg.testing.triton import make_person_model


@pytest.fixture
def measure(params, tiny_dataset, tmp_path):
    def run(content, out=tmp_path / "champion", **rules):
        chosen = params.model_copy(update={"select": params.select.model_copy(update=rules)})
        return measure_champion(chosen, {"version": 7}, content, *tiny_dataset, out)

    return run


def model(output="PERSON", kind=TensorProto.UINT8, cast=None, shape=("N", "H", "W")):
    """A model that answers the red channel, at least 1, under this name, type and shape."""
    nodes = [
        helper.make_node("Gather", ["IMAGE", "red"], ["plane"], axis=3),
        helper.make_node("Clip", ["plane", "least"], ["level"]),
        helper.make_node("Cast", ["level"], ["typed"], to=cast or kind),
        helper.make_node("Identity" if len(shape) == 3 else "Flatten", ["typed"], [output]),
    ]
    constants = [
        helper.make_tensor("red", TensorProto.INT64, [], [0]),
        helper.make_tensor("least", TensorProto.UINT8, [], [1]),
    ]
    picture = helper.make_tensor_value_info("IMAGE", TensorProto.UINT8, ["N", "H", "W", 3])
    graph = helper.make_graph(
        nodes, "odd", [picture], [helper.make_tensor_value_info(output, kind, list(shape))], constants
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def test_the_champion_is_measured_on_the_candidates_pictures(params, measure, tmp_path):
    # the drawn people are bright, so `bright` finds them all and nothing else, and `inverse` the contrary
    made = {}
    for kind in ("bright", "inverse"):
        out = tmp_path / f"champion_{kind}"
        made[kind] = measure(make_person_model(tmp_path / kind, kind=kind).onnx, out)
        assert json.loads((out / "result.json").read_text()) == made[kind]
    assert made["bright"]["accuracy"]["iou_human"] == 1
    assert made["inverse"]["accuracy"]["recall"] == 0
    assert (made["bright"]["version"], made["bright"]["images"]) == (7, 7)
    pixels = pd.read_parquet(tmp_path / "champion_bright" / "images.parquet")
    assert list(pixels.columns) == ["sample_id", "tp", "fp", "fn", "tn"]
    assert pixels["sample_id"].is_unique
    images = tmp_path / "champion_bright" / "images.parquet"
    found = challenge(params, images, tmp_path / "champion_inverse", candidates=1)
    assert found["outcome"] == "promote"
    assert found["champion"]["score"] == 0


@pytest.mark.parametrize(
    ("budgeted", "measured"),
    [("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("pytorch", "onnxruntime")],
)
def test_its_latency_is_that_of_the_runtime_that_counts(params, measure, tmp_path, budgeted, measured):
    content = make_person_model(tmp_path / "bright", kind="bright").onnx
    speed = measure(content, latency_runtime=budgeted)["speed"]
    size = params.image.size
    assert (speed["runtime"], speed["height"], speed["width"], speed["batch"]) == (measured, size, size, 1)
    assert speed["p50_ms"] > 0


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"no model at all" * 100, "is no valid ONNX model"),
        (b"", "is no valid ONNX model"),
        (model()[:-40], "is no valid ONNX model"),
        (model(output="SOMEBODY"), "gives .*SOMEBODY"),
        (model(kind=TensorProto.FLOAT), "gives .*float"),
        (model(shape=("N", "P")), r"answers uint8 \(1, \d+\) to a picture"),
    ],
)
def test_what_is_no_model_or_breaks_the_contract_cannot_be_used(measure, tmp_path, content, fault):
    found = measure(content)
    assert found.keys() == {"version", "fault"}
    assert re.match(f"model.onnx: .*{fault}", found["fault"])
    assert json.loads((tmp_path / "champion" / "result.json").read_text()) == found


def test_pixels_that_are_not_computed_break_the_contract(measure, tmp_path):
    found = measure(make_person_model(tmp_path / "zeros", kind="zeros").onnx)
    assert found["fault"] == "model.onnx: answers 0, which means not computed, at 100.0% of a picture"


def test_pictures_of_a_size_it_refuses_break_the_contract(measure, tmp_path):
    made = onnx.load_model_from_string(make_person_model(tmp_path / "bright", kind="bright").onnx)
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    assert "refuses a picture (96, 96, 3)" in measure(made.SerializeToString())["fault"]


class Crashing:
    """A session of ONNX Runtime that fails as one without memory does."""

    def __init__(self, session, error):
        self.session, self.error = session, error

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, *_):
        raise self.error


LACKING = onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException("Failed to allocate memory for 99999 bytes")


@pytest.mark.parametrize("error", [MemoryError("no room"), LACKING])
@pytest.mark.parametrize("moment", ["load", "run", "timing"])
def test_what_the_machine_does_wrong_is_not_the_models_fault(measure, tmp_path, monkeypatch, error, moment):
    content = make_person_model(tmp_path / "bright", kind="bright").onnx
    real, loads = onnxruntime.InferenceSession, []

    def load(*args, **options):
        loads.append(1)
        if moment == "load":
            raise error
        session = real(*args, **options)
        return Crashing(session, error) if (moment == "timing") == (len(loads) == 2) else session

    monkeypatch.setattr(onnxruntime, "InferenceSession", load)
    with pytest.raises(GateFailedError, match=r"version 7, which serves: could not be measured.*") as caught:
        measure(content, latency_runtime="onnxruntime")
    assert str(error) in caught.value.fault
    assert caught.value.next_step.endswith("dvc repro --single-item champion")
    assert not (tmp_path / "champion").exists()


def test_the_runtimes_errors_are_told_apart_by_asking_onnx(measure, tmp_path, monkeypatch):
    """A model that ONNX finds whole is not refused because a session of it could not be made."""

    def fail(*_):
        raise LACKING

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    assert "is no valid ONNX model" in measure(b"garbage")["fault"]
    with pytest.raises(GateFailedError):
        measure(model())
