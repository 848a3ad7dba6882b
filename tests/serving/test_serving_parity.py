"""Runtimes against each other: agreement, breaches, what serves, what only might, and what is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from privseg.errors import GateFailedError, ServerUnavailableError
from privseg.params import Params, load_params
from privseg.serving import parity, parity_runtimes
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import Artifact, read_artifact
from privseg.serving.export import export_module
from privseg.serving.golden import draw_frame
from privseg.serving.parity import Comparison, compare_runtimes, put_forward
from privseg.serving.parity_report import write_report

ROOT = Path(__file__).parents[2]
PICTURES = np.stack([draw_frame(64, 96, seed) for seed in range(2)])


class Small(nn.Module):
    """Colour scaling, two layers, resizing, softmax; ``shift`` makes another model of it."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.classify = nn.Conv2d(8, 2, 1)
        self.shift = shift

    def forward(self, image: Tensor) -> Tensor:
        pixels = (image.permute(0, 3, 1, 2).to(torch.float32) - 120) / 60
        logits = self.classify(functional.relu(self.stem(pixels))) * 4
        logits = functional.interpolate(logits, size=image.shape[1:3], mode="bilinear", align_corners=False)
        return torch.round((logits.softmax(1)[:, 1] + self.shift) * 255).clamp(1, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def params() -> Params:
    full = load_params(ROOT / "params.yaml")
    return full.model_copy(update={"image": full.image.model_copy(update={"size": 64})})


@pytest.fixture(scope="module")
def alone(params: Params) -> Params:
    """Without Triton."""
    return params.model_copy(update={"export": params.export.model_copy(update={"parity_triton": False})})


@pytest.fixture(scope="module")
def made(params: Params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("variants")
    pictures = [draw_frame(64, 96, seed) for seed in range(5, 8)]
    summary = export_module(Small(), folder, params, provenance={"candidate": "small"}, pictures=pictures)
    return {name: read_artifact(folder / name) for name in summary["variants"]}


@pytest.mark.slow
def test_every_runtime_a_real_triton_included_answers_the_same_pictures(
    params: Params, made: dict[str, Artifact], tmp_path: Path
) -> None:
    found = compare_runtimes(
        params, Small().eval(), made["float16"], PICTURES, single=made["float32"], eight_bits=made["int8"]
    )
    assert list(found.runtimes) == ["pytorch", "onnxruntime", "openvino_float32", "openvino_default", "triton"]
    assert {pair.size for pair in found.pairs} == {"64x96", "256x320"}
    one_size = [(pair.left, pair.right) for pair in found.pairs if pair.size == "64x96"]
    assert len(one_size) == len(set(one_size)) == 11
    assert ("onnxruntime", "triton") in one_size
    assert ("onnxruntime_float32", "onnxruntime_int8") in one_size
    for name in ("onnxruntime", "triton", "openvino_float32"):
        assert found.runtimes[name]["may_serve"], found.runtimes[name]
        assert found.runtimes[name]["precision"] == "float32"
    assert found.runtimes["openvino_default"]["precision"] in {"float32", "bfloat16"}
    assert {name for name, state in found.runtimes.items() if state["serves"]} == {"onnxruntime", "triton"}
    np.testing.assert_array_equal(found.answers["triton"], found.answers["onnxruntime"])

    record = put_forward(made["float16"], found, tmp_path / "person_segmentation")
    artifact = read_artifact(tmp_path / "person_segmentation")
    assert artifact.record == record == json.loads(json.dumps(record))
    assert (artifact.sha256, record["runtimes"]) == (made["float16"].sha256, found.runtimes)

    report = write_report(params, record, found, tmp_path)
    assert report == json.loads((tmp_path / "parity.json").read_text())
    assert report["passed"]
    assert (report["pictures"], report["sha256"]) == (2, artifact.sha256)
    page = (tmp_path / "parity.html").read_text()
    assert "may be published" in page
    assert page.count("<figure>") == 11
    assert "http" not in page, "self-contained"


def test_an_export_that_answers_otherwise_is_a_breach_and_the_old_one_stays(
    alone: Params, made: dict[str, Artifact], tmp_path: Path
) -> None:
    good = compare_runtimes(alone, Small().eval(), made["float16"], PICTURES)
    put_forward(made["float16"], good, tmp_path / "person_segmentation")
    before = read_artifact(tmp_path / "person_segmentation")
    broken = compare_runtimes(alone, Small(shift=0.05).eval(), made["float16"], PICTURES)
    report = write_report(alone, made["float16"].record, broken, tmp_path)
    assert not report["passed"]
    assert "is not put forward for publication" in (tmp_path / "parity.html").read_text()
    fault = r"onnxruntime may not serve it: pytorch and onnxruntime at 64x96: mean difference 1\d\."
    with pytest.raises(GateFailedError, match=fault) as caught:
        put_forward(made["float16"], broken, tmp_path / "person_segmentation")
    assert caught.value.exit_code == 4
    assert read_artifact(tmp_path / "person_segmentation").record == before.record


def with_triton(monkeypatch: pytest.MonkeyPatch, params: Params, artifact: Artifact, change: Any) -> Comparison:
    """Compare with a server whose answers are ONNX Runtime's, changed."""

    class Server:
        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def answer(_: object, images: np.ndarray) -> np.ndarray:
        return np.asarray(change(parity_runtimes.onnxruntime_answer(artifact.onnx, images)), np.uint8)

    monkeypatch.setattr(parity, "own_triton", lambda _: Server())
    monkeypatch.setattr(parity, "triton_answer", answer)
    return compare_runtimes(params, Small().eval(), artifact, PICTURES)


def test_a_triton_that_answers_otherwise_is_a_breach(
    params: Params, made: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = with_triton(monkeypatch, params, made["float16"], lambda levels: np.maximum(levels[:, ::-1], 1))
    assert found.runtimes["onnxruntime"]["may_serve"], "what Triton does says nothing of it"
    with pytest.raises(GateFailedError, match=r"triton may not serve it: .*onnxruntime and triton at 64x96"):
        found.require_serving()


def test_pixels_that_triton_did_not_compute_are_a_breach(
    params: Params, made: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def holed(levels: np.ndarray) -> np.ndarray:
        levels = levels.copy()
        levels[0, 0, 0] = 0  # one: far within every bound
        return levels

    found = with_triton(monkeypatch, params, made["float16"], holed)
    with pytest.raises(GateFailedError, match=r"triton may not serve it: leaves .*% of the pixels uncomputed"):
        found.require_serving()


def test_an_openvino_that_fails_is_written_down_and_stops_nothing(
    alone: Params, made: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such\n  processor")

    monkeypatch.setattr(parity, "openvino_engine", fail)
    found = compare_runtimes(alone, Small().eval(), made["float16"], PICTURES)
    assert found.runtimes["openvino_float32"] == {"fault": "no such processor", "serves": False, "may_serve": False}
    found.require_serving()
    write_report(alone, made["float16"].record, found, tmp_path)
    assert "may not serve: no such processor" in (tmp_path / "parity.html").read_text()


def test_eight_bits_that_are_published_have_bounds_of_their_own(alone: Params, made: dict[str, Artifact]) -> None:
    loose = alone.export.int8.model_copy(update={"max_mean_difference": 20.0, "min_mask_agreement": 0.8})
    tight = alone.export.int8.model_copy(update={"max_mean_difference": 0.0, "min_mask_agreement": 1.0})
    for bounds, may in ((loose, True), (tight, False)):
        asked = alone.model_copy(update={"export": alone.export.model_copy(update={"int8": bounds})})
        found = compare_runtimes(asked, Small().eval(), made["int8"], PICTURES)
        assert found.runtimes["onnxruntime"]["may_serve"] is may
        assert found.runtimes["onnxruntime"]["precision"] == "int8"


def test_the_worst_picture_is_the_one_with_most_decisions_apart(alone: Params, made: dict[str, Artifact]) -> None:
    class Second(Small):
        def forward(self, image: Tensor) -> Tensor:
            person = super().forward(image)
            # wrong on the second picture only, which is brighter or darker than the first
            return 256 - person if bool((image.float().mean() - float(PICTURES[1].mean())).abs() < 1) else person

    found = compare_runtimes(alone, Second().eval(), made["float16"], PICTURES)
    pair = next(
        pair for pair in found.pairs if (pair.left, pair.right, pair.size) == ("pytorch", "onnxruntime", "64x96")
    )
    assert pair.worst == 1
    assert pair.worst_mask_agreement < 0.1


def test_without_triton_the_error_says_what_to_do(
    params: Params, made: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise ServerUnavailableError("tritonserver", "is not installed here", "run `make setup`")

    monkeypatch.setattr(parity_runtimes, "find_installation", missing)
    with pytest.raises(ServerUnavailableError, match=r"is not installed.*export\.parity_triton: false") as caught:
        compare_runtimes(params, Small().eval(), made["float16"], PICTURES)
    assert caught.value.exit_code == 5


@pytest.mark.slow
def test_the_throw_away_triton_is_ended_when_the_comparison_fails(made: dict[str, Artifact]) -> None:
    class BrokenOffError(Exception):
        pass

    urls = []

    def break_off() -> None:
        with parity_runtimes.own_triton(made["float32"]) as endpoint:
            urls.append(endpoint.url)
            assert endpoint.infer(PICTURES)[0].shape == (2, 64, 96)
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        break_off()
    with Endpoint(urls[0]) as after, pytest.raises(ServerUnavailableError):
        after.require_live()
