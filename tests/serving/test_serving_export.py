"""Export: ONNX that answers as PyTorch did, its record, and what stops it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.errors import DataError, GateFailedError
from privseg.params import Params, load_params
from privseg.serving.artifact import read_artifact
from privseg.serving.export import export, export_module
from privseg.serving.golden import compare, draw_frame, golden_frame, run_onnx
from privseg.serving.parity_runtimes import own_triton
from privseg.serving.variants import check_parity
from privseg.training.onnx_file import to_onnx
from privseg.training.segmentor import load_segmentor

PROVENANCE = {"git_sha": "abc", "candidate": "tiny", "dataset_version": "d1", "metrics": {"iou": 0.5}}
ROOT = Path(__file__).parents[2]


class Tiny(nn.Module):
    """The shape of a real segmentor: normalise, shrink, classify, resize back."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.shrink = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.classify = nn.Conv2d(8, 2, 1)
        self.shift = shift

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        logits = self.classify(functional.relu(self.shrink(pixels)))
        logits = functional.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
        probability = logits.softmax(1)[:, 1] + self.shift
        return torch.round(probability.clamp(0, 1) * 255).clamp(min=1).to(torch.uint8)


@pytest.fixture(scope="module")
def params() -> Params:
    full = load_params(ROOT / "params.yaml")
    return full.model_copy(update={"image": full.image.model_copy(update={"size": 128})})


def test_the_artifact_answers_as_pytorch_did_and_says_where_it_came_from(tmp_path: Path, params: Params) -> None:
    module = Tiny()
    summary = export_module(module, tmp_path / "variants", params, provenance=PROVENANCE)
    folder = tmp_path / "variants" / summary["variant"]
    content = (folder / "model.onnx").read_bytes()
    record = json.loads((folder / "model.json").read_text())
    assert {entry.name for entry in folder.iterdir()} == {"model.onnx", "model.json"}
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert PROVENANCE.items() <= record.items()
    assert record["input_sizes"] == [[128, 128], [256, 320]]
    assert set(record["parity"]) == {"128x128", "256x320"}
    assert record["parity"]["128x128"]["mask_agreement"] >= params.export.min_mask_agreement

    model = onnx.load_from_string(content)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", params.export.opset)]
    (image,), (person,) = model.graph.input, model.graph.output
    assert (image.name, person.name) == ("IMAGE", "PERSON")
    assert [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim] == ["N", "H", "W", 3]
    assert [d.dim_param for d in person.type.tensor_type.shape.dim] == ["N", "H", "W"]
    assert image.type.tensor_type.elem_type == person.type.tensor_type.elem_type == onnx.TensorProto.UINT8

    pictures = np.stack([draw_frame(96, 160, seed) for seed in range(2)])
    with torch.inference_mode():
        expected = module(torch.from_numpy(pictures)).numpy()
    assert expected.std() > 0
    assert compare(expected, run_onnx(content, pictures)).within(1, 0.99)


def test_equal_weights_give_equal_bytes(params: Params) -> None:
    assert to_onnx(Tiny(), params.export.opset) == to_onnx(Tiny(), params.export.opset)


def test_a_model_that_answers_differently_is_stopped_with_figures(params: Params) -> None:
    content = to_onnx(Tiny(shift=0.05).eval(), params.export.opset)
    with pytest.raises(GateFailedError, match=r"differs from PyTorch at 128x128: mean difference 1\d\.") as caught:
        check_parity(Tiny().eval(), content, params)
    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_a_real_candidate_is_exported_and_served_as_it_was_trained(tmp_path: Path, params: Params) -> None:
    from privseg.training._mm import MODELS, quiet_build
    from privseg.training.configs import candidate_config
    from privseg.training.segmentor import inference_state

    torch.manual_seed(0)
    with quiet_build():
        trained = MODELS.build(candidate_config("stdc1", crop=64).model)
    folder = tmp_path / "stdc1"
    folder.mkdir()
    torch.save(inference_state(trained), folder / "checkpoint.pth")
    digest = hashlib.sha256((folder / "checkpoint.pth").read_bytes()).hexdigest()
    (folder / "training.json").write_text(json.dumps({"candidate": "stdc1", "crop": 64, "checkpoint_sha256": digest}))
    summary = export(params, folder, tmp_path / "variants", provenance=PROVENANCE)
    made = tmp_path / "variants" / summary["variant"]
    assert read_artifact(made).record["parameters"] > 5_000_000
    picture = draw_frame(96, 160, 4)[None]
    with own_triton(read_artifact(made)) as endpoint:
        person, _ = endpoint.infer(picture)
    with torch.inference_mode():
        expected = load_segmentor(folder)(torch.from_numpy(picture)).numpy()
    assert expected.std() > 0
    assert compare(expected, person).within(1.0, 0.99)


class FixedSize(Tiny):
    """Wrong on purpose: resizes to a number instead of the picture's size, so the trace fits one size only."""

    def forward(self, image: Tensor) -> Tensor:
        height, width = (int(side) for side in image.shape[1:3])
        return super().forward(image)[:, :height, :width].reshape(-1, height, width)


class Uncomputed(Tiny):
    """Wrong on purpose: answers 0, "not computed", where it is sure that nobody is there."""

    def forward(self, image: Tensor) -> Tensor:
        person = super().forward(image)
        return torch.where(image[..., 0] > 200, torch.zeros_like(person), person)


def test_a_graph_that_leaves_pixels_uncomputed_is_stopped_and_nothing_is_written(
    tmp_path: Path, params: Params
) -> None:
    with pytest.raises(GateFailedError, match=r"model\.onnx: answers 0, which means not computed, at \d+\.\d% of"):
        export_module(Uncomputed(), tmp_path / "out", params, provenance=PROVENANCE)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_fits_one_size_only_is_stopped_and_nothing_is_written(tmp_path: Path, params: Params) -> None:
    with pytest.raises(GateFailedError):
        export_module(FixedSize(), tmp_path / "out", params, provenance=PROVENANCE)
    assert not (tmp_path / "out").exists()


def test_a_module_that_cannot_be_exported_is_stopped(params: Params) -> None:
    class Inverting(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.linalg.eigvals(image[..., :2, :2, 0].to(torch.float32)).real.to(torch.uint8)

    with pytest.raises(GateFailedError, match="ONNX export"):
        to_onnx(Inverting(), params.export.opset)


def test_a_missing_candidate_is_named(tmp_path: Path, params: Params) -> None:
    with pytest.raises(DataError, match="nothing_here"):
        export(params, tmp_path / "nothing_here", tmp_path / "out", provenance=PROVENANCE)


def test_golden_frames_are_the_same_every_time_and_show_something() -> None:
    frame = golden_frame()
    assert frame.shape == (1, 256, 320, 3)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, golden_frame())
    assert frame.std() > 20


def test_agreement_counts_differences_and_decisions() -> None:
    left = np.array([[0, 127, 128, 255]], np.uint8)
    right = np.array([[0, 128, 128, 251]], np.uint8)
    agreement = compare(left, right)
    assert agreement.mean_difference == pytest.approx(5 / 4)
    assert agreement.mask_agreement == pytest.approx(3 / 4)
    assert not agreement.within(1.0, 0.5)
    assert not agreement.within(2.0, 0.8)
    assert agreement.within(2.0, 0.75)
