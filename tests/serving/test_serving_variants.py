"""Variants of one model: which may be published, which is, and what is written down about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.errors import DataError, GateFailedError
from privseg.params import Params, VariantName, load_params
from privseg.serving.artifact import read_artifact
from privseg.serving.export import export_module, read_chosen
from privseg.serving.golden import draw_frame
from privseg.serving.variants import accuracy_fault, check_parity
from privseg.training.onnx_file import to_onnx

ROOT = Path(__file__).parents[2]
PICTURES = [draw_frame(64, 96, seed) for seed in range(3)]


def figures(recall: float, missed: float | None) -> dict[str, Any]:
    return {"recall": recall, "person_miss_rate": {"all": {"rate": missed}}}


PROVENANCE = {"candidate": "tiny", "metrics": figures(0.9, 0.2)}


@pytest.fixture(scope="module")
def params() -> Params:
    full = load_params(ROOT / "params.yaml")
    return full.model_copy(update={"image": full.image.model_copy(update={"size": 64})})


def asking(params: Params, publish: VariantName) -> Params:
    return params.model_copy(update={"export": params.export.model_copy(update={"publish": publish})})


class Wide(nn.Module):
    """Enough weights to store them in half precision, and answers that it does not change."""

    fine = 0.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.shrink = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.grow = nn.Conv2d(8, 8, 3, padding=1)
        self.classify = nn.Conv2d(8, 2, 1)
        self.sums = nn.Conv2d(3, 64, 5, stride=4, padding=2, bias=False)
        self.sums.weight.data.fill_(1 + self.fine)
        self.sum = nn.Conv2d(3, 1, 5, stride=4, padding=2, bias=False)
        self.sum.weight.data.fill_(1)

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        logits = self.classify(functional.relu(self.grow(functional.relu(self.shrink(pixels)))))
        rest = (self.sums(pixels) - self.sum(pixels)).mean(1, keepdim=True)  # what the weights have beyond 1
        both = torch.cat([logits, 40 * rest], 1)
        both = functional.interpolate(both, size=image.shape[1:3], mode="bilinear", align_corners=False)
        probability = both[:, :2].softmax(1)[:, 1]
        level = torch.round(probability * 255) + 250 * both[:, 2]
        return level.clamp(1, 255).round().to(torch.uint8)


class Delicate(Wide):
    """Answers hang on a part of the weights that half precision does not hold."""

    fine = 2.0**-12


@pytest.mark.parametrize("wanted", ["float16", "float32"])
def test_weights_are_stored_as_asked_for(tmp_path: Path, params: Params, wanted: VariantName) -> None:
    summary = export_module(Wide(), tmp_path, asking(params, wanted), provenance=PROVENANCE)
    assert (summary["variant"], summary["reason"]) == (wanted, "export.publish asks for it")
    assert read_chosen(tmp_path) == summary
    for name, halved in (("float32", False), ("float16", True)):
        artifact = read_artifact(tmp_path / name)
        kinds = {tensor.data_type for tensor in onnx.load_from_string(artifact.onnx).graph.initializer}
        assert (onnx.TensorProto.FLOAT16 in kinds) == halved
        assert (artifact.record["variant"], artifact.record["weights"], artifact.record["offered"]) == (
            name,
            name,
            True,
        )
        because = "export.publish asks for it" if name == wanted else "another variant is published"
        assert artifact.record["variant_reason"] == because


def test_weights_that_half_precision_would_spoil_are_published_in_single(tmp_path: Path, params: Params) -> None:
    half = to_onnx(Delicate().eval(), params.export.opset, half_weights=True)
    with pytest.raises(GateFailedError, match="differs from PyTorch"):
        check_parity(Delicate().eval(), half, params)
    summary = export_module(Delicate(), tmp_path, asking(params, "float16"), provenance=PROVENANCE)
    assert summary["variant"] == "float32"
    assert summary["reason"].startswith("float16 was asked for, but it differs from PyTorch at 64x64")
    assert not summary["variants"]["float16"]["offered"]
    record = read_artifact(tmp_path / "float32").record
    assert (record["variant"], record["variant_reason"]) == ("float32", summary["reason"])


@pytest.mark.parametrize(
    ("measured", "published", "reason"),
    [
        (figures(0.899, 0.2), "int8", "export.publish asks for it"),
        (figures(0.95, 0.1), "int8", "export.publish asks for it"),
        (figures(0.7, 0.2), "float16", "int8 was asked for, but its human recall falls from 0.9000 to 0.7000"),
        (figures(0.9, 0.4), "float16", "int8 was asked for, but its person miss rate rises from 0.2000 to 0.4000"),
        (figures(float("nan"), 0.2), "float16", "int8 was asked for, but its human recall falls from 0.9000 to nan"),
    ],
)
def test_eight_bits_are_published_only_where_they_find_people_as_well(
    tmp_path: Path, params: Params, measured: dict[str, Any], published: str, reason: str
) -> None:
    asked = []

    def judge(content: bytes) -> dict[str, Any]:
        asked.append(content)
        return measured

    summary = export_module(
        Wide(), tmp_path, asking(params, "int8"), provenance=PROVENANCE, pictures=PICTURES, judge=judge
    )
    assert (summary["variant"], summary["reason"]) == (published, reason)
    eight = read_artifact(tmp_path / "int8")
    assert asked == [eight.onnx], "what was measured is what was written"
    if measured["recall"] == measured["recall"]:
        assert eight.record["metrics"] == measured, "its own figures, not those of the trained model"
    assert read_artifact(tmp_path / published).record["variant_reason"] == reason
    assert read_artifact(tmp_path / "float16").record["metrics"] == PROVENANCE["metrics"]


def test_eight_bits_that_nobody_measured_or_that_cannot_be_made_are_not_offered(tmp_path: Path, params: Params) -> None:
    unmeasured = export_module(Wide(), tmp_path, asking(params, "int8"), provenance=PROVENANCE, pictures=PICTURES)
    assert unmeasured["variant"] == "float16"
    assert unmeasured["variants"]["int8"]["reason"] == "nobody measured how well it finds people"
    assert (tmp_path / "int8").is_dir()
    unmade = export_module(Wide(), tmp_path, asking(params, "int8"), provenance=PROVENANCE)
    assert "there is no picture" in unmade["reason"]
    assert not (tmp_path / "int8").exists(), "what an earlier export made of other weights is gone"

    def refuse(content: bytes) -> dict[str, Any]:
        raise GateFailedError("model.onnx", "does not run", "publish another variant")

    refused = export_module(
        Wide(), tmp_path, asking(params, "int8"), provenance=PROVENANCE, pictures=PICTURES, judge=refuse
    )
    assert refused["reason"] == "int8 was asked for, but it does not run"


@pytest.mark.parametrize(
    ("after", "fault"),
    [(figures(0.89, 0.21), None), (figures(0.89, 0.2101), "miss rate"), (figures(0.8899, 0.2), "recall")],
)
def test_the_bounds_themselves_are_kept(params: Params, after: dict[str, Any], fault: str | None) -> None:
    limits = params.export.int8.model_copy(update={"max_recall_loss": 0.01 + 1e-12, "max_miss_rate_gain": 0.01 + 1e-12})
    found = accuracy_fault(limits, figures(0.9, 0.2), after)
    assert found is None if fault is None else fault in str(found)


def test_where_there_is_nobody_to_miss_recall_decides(params: Params) -> None:
    assert accuracy_fault(params.export.int8, figures(0.9, None), figures(0.9, None)) is None


@pytest.mark.parametrize("text", [None, "no json", "[]", '{"variant": "float16"}'])
def test_an_export_that_did_not_end_is_no_export(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "chosen.json").write_text(text)
    with pytest.raises(DataError, match=r"chosen\.json"):
        read_chosen(tmp_path)


def test_what_was_exported_before_counts_no_more_once_another_export_has_begun(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_module(Wide(), tmp_path, params, provenance=PROVENANCE)
    monkeypatch.setenv("PRIVSEG_SIGNING_KEY", "")  # the first record that is written stops it
    with pytest.raises(Exception, match="is set, but empty"):
        export_module(Delicate(), tmp_path, params, provenance=PROVENANCE)
    assert not (tmp_path / "chosen.json").exists()
    assert json.loads((tmp_path / "float32/model.json").read_text())


def test_a_real_answer_survives_eight_bits(tmp_path: Path, params: Params) -> None:
    summary = export_module(Wide(), tmp_path, params, provenance=PROVENANCE, pictures=PICTURES)
    record = read_artifact(tmp_path / "int8").record
    assert summary["variants"]["int8"]["bytes"] > 0
    assert set(record["parity"]) == {"64x64", "256x320"}
    assert all(np.isfinite(found["mean_difference"]) for found in record["parity"].values())
