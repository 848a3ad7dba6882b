"""``privseg bench serve``: what is measured, what is chosen, and where the choice goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from privseg.errors import DataError, GateFailedError, UsageError
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.bench_measure import measure_way, parity_of, read_pictures, stacks
from privseg.serving.bench_serve import Effort, bench_serve, choose
from privseg.serving.config import SERVING_FILE, ensure_config, measured_choice
from privseg.serving.installation import find_installation
from privseg.serving.profiles import RuntimeChoice
from privseg.testing.triton import Kind, make_person_model

QUICK = Effort(sizes=((64, 96), (96, 64)), batches=(1, 2), pictures=3, seconds=0.01)


def figure(runtime: str, precision: str, threads: int, p50_ms: float, batch: int = 1) -> dict[str, Any]:
    where = {"height": 64, "width": 96, "batch": batch, "fps": 1000 * batch / p50_ms}
    return {"runtime": runtime, "precision": precision, "threads": threads, "p50_ms": p50_ms} | where


def holds(runtime: str, precision: str, *, held: bool = True) -> dict[str, Any]:
    return {"runtime": runtime, "precision": precision, "holds": held}


ALL_HOLD = [holds("onnxruntime", "f32"), holds("openvino", "f32"), holds("openvino", "bf16")]


def test_the_fastest_whose_answers_hold_is_chosen() -> None:
    figures = [
        figure("onnxruntime", "f32", 2, 50.0),
        figure("openvino", "f32", 2, 40.0),
        figure("openvino", "bf16", 2, 20.0),
        figure("onnxruntime", "f32", 2, 1.0, batch=2),  # one picture at a time decides
    ]
    assert choose(figures, ALL_HOLD, QUICK) == RuntimeChoice("openvino", "bf16", 2)
    figures += [figure("openvino", "bf16", 2, 39.0, batch=2), figure("openvino", "bf16", 1, 1.0, batch=2)]
    assert choose(figures, ALL_HOLD, QUICK).at_once == 1  # two together are hardly faster
    figures.append(figure("openvino", "bf16", 2, 40.0, batch=3))
    assert choose(figures, ALL_HOLD, QUICK) == RuntimeChoice("openvino", "bf16", 2, at_once=3)
    off = [*ALL_HOLD[:2], holds("openvino", "bf16"), holds("openvino", "bf16", held=False)]  # at another size
    assert choose(figures, off, QUICK) == RuntimeChoice("openvino", "f32", 2)


def test_of_equals_the_fewest_threads_then_the_reference_is_chosen() -> None:
    figures = [figure("openvino", "f32", 4, 40.0), figure("openvino", "f32", 2, 41.0)]
    assert choose(figures, ALL_HOLD, QUICK) == RuntimeChoice("openvino", "f32", 2)
    figures.append(figure("onnxruntime", "f32", 2, 41.5))
    assert choose(figures, ALL_HOLD, QUICK) == RuntimeChoice("onnxruntime", "f32", 2)


def test_one_picture_that_differs_is_not_hidden_by_many_that_agree() -> None:
    expected = np.full((50, 64, 96), 200, np.uint8)
    found = expected.copy()
    found[7, :2] = 100  # a strip in which nobody is seen any more: 3 % of this picture, 0.06 % of all
    way = {"runtime": "openvino", "precision": "bf16"}
    (row,) = parity_of(way, {"64x96": expected}, {"64x96": found})
    assert row["mask_agreement"] > 0.999
    assert row["worst_mask_agreement"] == pytest.approx(1 - 2 / 64)
    assert not row["holds"]
    uncomputed = expected.copy()
    uncomputed[0, 0, 0] = 0
    assert not parity_of(way, {"64x96": expected}, {"64x96": uncomputed})[0]["holds"]
    assert parity_of(way, {"64x96": expected}, {"64x96": expected})[0]["holds"]


def test_photographs_are_taken_from_all_over_a_folder_masks_are_not(tmp_path: Path) -> None:
    for number, name in enumerate(["one/a.jpg", "one/b.jpg", "one/c.jpg", "two/deep/d.jpeg", "masks/a.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / name), np.full((32, 48, 3), (0, 0, 40 * number), np.uint8))
    pictures = read_pictures(tmp_path, 3)
    assert [int(picture[0, 0].argmax()) for picture in pictures[1:]] == [0, 0]  # RGB
    assert sorted(round(float(picture[..., 0].mean()) / 40) for picture in pictures) == [0, 1, 3]
    with pytest.raises(UsageError, match="holds no photograph"):
        read_pictures(tmp_path / "masks", 3)
    (tmp_path / "one" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.jpg"):
        read_pictures(tmp_path, 3)


@pytest.mark.slow
def test_it_measures_every_way_through_the_backend_and_a_new_repository_uses_the_choice(tmp_path: Path) -> None:
    repository = tmp_path / "model_repository"
    make_person_model(repository / MODEL_NAME / "1")
    result = bench_serve(repository, tmp_path, effort=QUICK)
    measured = {(row["runtime"], row["precision"]) for row in result["figures"]}
    left_out = {(row["runtime"], row["precision"]) for row in result["left_out"]}
    assert measured | left_out == {("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16")}
    assert {("onnxruntime", "f32"), ("openvino", "f32")} <= measured
    shapes = {(row["height"], row["width"], row["batch"]) for row in result["figures"]}
    assert shapes == {(64, 96, 1), (64, 96, 2), (96, 64, 1), (96, 64, 2)}
    assert all(row["holds"] for row in result["parity"])
    assert {row["size"] for row in result["parity"]} == {"64x96", "96x64"}
    assert [row["clients"] for row in result["triton"]]

    assert json.loads((tmp_path / SERVING_FILE).read_text()) == result
    choice = measured_choice(tmp_path)
    assert choice == RuntimeChoice(**result["choice"])
    assert f'"{choice.runtime}"' in ensure_config(repository).read_text()


def test_a_runtime_that_answers_something_else_is_left_out_with_its_reason(tmp_path: Path) -> None:
    artifact = make_person_model(tmp_path / "random", kind="random")
    np.savez(tmp_path / "pictures.npz", **dict(stacks(None, QUICK)))
    way = {"runtime": "openvino", "precision": "f32", "threads": 1}
    measured = measure_way(find_installation(), artifact.directory / "model.onnx", tmp_path, way, QUICK)
    assert "its answer is off" in measured["fault"]


def test_what_the_parity_stage_refused_is_left_out_with_its_reason(tmp_path: Path) -> None:
    artifact = make_person_model(tmp_path / "bright")
    record = dict(artifact.record) | {"runtimes": {"openvino_float32": {"precision": "float32", "may_serve": False}}}
    (artifact.directory / "model.json").write_text(json.dumps(record))
    np.savez(tmp_path / "pictures.npz", **dict(stacks(None, QUICK)))
    way = {"runtime": "openvino", "precision": "f32", "threads": 1}
    measured = measure_way(find_installation(), artifact.directory / "model.onnx", tmp_path, way, QUICK)
    assert "openvino_float32 may not serve it" in measured["fault"]


@pytest.mark.parametrize(("kind", "fault"), [("garbage", "does not run"), ("nan", "not computed")])
def test_a_model_that_does_not_run_or_compute_is_named(tmp_path: Path, kind: Kind, fault: str) -> None:
    repository = tmp_path / "model_repository"
    make_person_model(repository / MODEL_NAME / "1", kind=kind)
    with pytest.raises(GateFailedError, match=fault):
        bench_serve(repository, tmp_path, effort=QUICK)
    assert not (tmp_path / SERVING_FILE).exists()


def test_the_command_is_there_without_loading_anything_heavy() -> None:
    program = (
        "import sys\nfrom privseg.cli import app\n"
        "from typer.testing import CliRunner\n"
        "done = CliRunner().invoke(app, ['bench', 'serve', '--help'])\n"
        "assert done.exit_code == 0 and 'serving.json' in done.output, done.output\n"
        "print(sorted({'cv2', 'numpy', 'onnxruntime', 'tritonclient'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
