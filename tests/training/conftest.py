"""A tiny dataset and tiny budgets for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from privseg.params import Params, load_params
from privseg.testing.tiny_dataset import make_tiny_dataset

PARAMS_FILE = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Pictures this small gain nothing from threads, and threads lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_tiny_dataset(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def budget() -> Callable[..., Params]:
    """Parameters of a training of three iterations; options replace fields of the budget."""

    def build(**options: object) -> Params:
        params = load_params(PARAMS_FILE)
        tiny = {"seconds": 600.0, "max_iterations": 3, "batch_size": 2, "crop": 64} | options
        smoke = params.train.smoke.model_copy(update=tiny)
        return params.model_copy(
            update={
                "image": params.image.model_copy(update={"size": 96}),
                "train": params.train.model_copy(update={"smoke": smoke}),
            }
        )

    return build
