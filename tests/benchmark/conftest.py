"""A tiny dataset with one trained candidate, and results to choose from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from privseg.params import Params, load_params
from privseg.testing.tiny_dataset import make_tiny_dataset
from privseg.training.train import train


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Pictures this small gain nothing from threads, and threads lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def params() -> Params:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    tiny = {"seconds": 600.0, "max_iterations": 3, "batch_size": 2, "crop": 64}
    little = {"max_test_images": 7, "timed_runs": 3, "warm_up_runs": 1, "timed_seconds": 1.0, "shapes": [(64, 96)]}
    effort = params.benchmark.smoke.model_copy(update=little)
    return params.model_copy(
        update={
            "image": params.image.model_copy(update={"size": 96}),
            "train": params.train.model_copy(update={"smoke": params.train.smoke.model_copy(update=tiny)}),
            "benchmark": params.benchmark.model_copy(update={"smoke": effort}),
        }
    )


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    splits = ("train",) * 4 + ("test",) * 8
    return make_tiny_dataset(tmp_path_factory.mktemp("tiny"), splits=splits)


@pytest.fixture(scope="session")
def candidate_dir(tmp_path_factory: pytest.TempPathFactory, params: Params, tiny_dataset: tuple[Path, Path]) -> Path:
    folder = tmp_path_factory.mktemp("models") / "efficientnet_lite0_fpn"
    train(params, "efficientnet_lite0_fpn", *tiny_dataset, folder)
    return folder


@pytest.fixture
def write_result(tmp_path: Path) -> Callable[..., Path]:
    """Write a result as ``evaluate`` does, with figures of one's choice."""

    def write(candidate: str, *, precision: float = 0.8, recall: float = 0.8, p50_ms: float = 100.0) -> Path:
        dice = 2 * precision * recall / (precision + recall)
        iou = dice / (2 - dice)
        timing = {"runtime": "pytorch", "device": "cpu", "precision": "float32", "height": 96, "width": 96, "batch": 1}
        timing |= {"threads": 1, "runs": 3, "p50_ms": p50_ms, "p95_ms": p50_ms * 1.2, "fps": 1000 / p50_ms}
        missed = {"people": 10, "missed": 2, "rate": 0.2}
        result: dict[str, Any] = {
            "candidate": candidate,
            "accuracy": {
                "iou_human": iou,
                "iou_background": 0.95,
                "mean_iou": (iou + 0.95) / 2,
                "dice": dice,
                "pixel_accuracy": 0.9,
                "precision": precision,
                "recall": recall,
                "boundary_f": 0.7,
                "person_miss_rate": dict.fromkeys(("all", "small", "medium"), missed)
                | {"large": {"people": 0, "missed": 0, "rate": None}},
                "person_height_buckets": {"small_below": 32, "large_above": 96},
            },
            "complexity": {
                "parameters": 1_000_000 + len(candidate),
                "size": 96,
                "flops": 3_000_000_000,
                "flops_by_shape": {"512x512": 3_000_000_000, "512x1024": 6_000_000_000},
                "flops_convention": "counted",
                "model_bytes": 4_000_000,
                "peak_memory_bytes": 90_000_000,
                "peak_memory_convention": "measured",
            },
            "speed": timing,
            "measurements": [timing],
            "load_average": 0.5,
            "images": 7,
            "people_images": 6,
            "threshold": 0.5,
            "training": {"iterations": 3, "seconds": 1.5, "batch_size": 2, "crop": 64, "pretrained": "", "seed": 7},
            "hardware": {
                "cpu": "some processor",
                "logical_cpus": 2,
                "threads": 1,
                "memory_bytes": 2**33,
                "gpu": None,
                "system": "Linux",
                "versions": {"torch": "2"},
            },
        }
        path = tmp_path / candidate / "result.json"
        path.parent.mkdir()
        path.write_text(json.dumps(result))
        return path

    return write
