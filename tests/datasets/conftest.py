"""Small made-up datasets in real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from privseg.params import Params, read_params_file

MakeParams = Callable[..., Params]
MakePairs = Callable[..., Path]
PAIR_SIZE = (24, 16)  # of the pair in ``root``: width, height
PARAMS_FILE = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="session")
def make_params() -> MakeParams:
    """The project's parameters with other sources and sections: ``make_params(raw_root, sources, image={...})``."""

    def make(raw_root: Path, sources: dict[str, dict[str, Any]], **sections: dict[str, Any]) -> Params:
        data = read_params_file(PARAMS_FILE)
        for name, values in sections.items():
            data[name] = {**data[name], **values}
        return Params.model_validate({**data, "raw_root": str(raw_root), "sources": sources})

    return make


@pytest.fixture(scope="session")
def make_pairs() -> MakePairs:
    """Write image and mask files: random blocks, one person (value 1) a picture, a strip of 255."""

    def make(folder: Path, names: list[str], *, height: int = 150, width: int = 200, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        for sub in ("images", "masks"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        for name in names:
            blocks = rng.integers(0, 256, (15, 20, 3), np.uint8)
            mask = np.zeros((height, width), np.uint8)
            top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
            mask[top : top + height // 3, left : left + width // 5] = 1
            mask[-5:] = 255
            Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).save(
                folder / "images" / f"{name}.jpg", quality=95
            )
            Image.fromarray(mask).save(folder / "masks" / f"{name}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def pairs_source() -> dict[str, Any]:
    """Source parameters that fit what ``make_pairs`` writes into ``train`` and ``test``."""
    return {
        "kind": "pairs",
        "human": [1],
        "ignore": [255],
        "partitions": [
            {"pool": "train", "images": "train/images", "masks": "train/masks"},
            {"pool": "test", "images": "test/images", "masks": "test/masks"},
        ],
    }


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proxies of this machine: servers of tests are on loopback."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A source of one intact pair: ``images/a.jpg`` and ``masks/a.png``, whose left half is human."""
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    labels = np.zeros(PAIR_SIZE[::-1], np.uint8)
    labels[:, : PAIR_SIZE[0] // 2] = 1
    noise = np.random.default_rng(0).integers(0, 256, (*PAIR_SIZE[::-1], 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "data/images/a.jpg", quality=95)
    Image.fromarray(labels).save(tmp_path / "data/masks/a.png")
    return tmp_path / "data"


@pytest.fixture
def image(root: Path) -> Path:
    return root / "images/a.jpg"


@pytest.fixture
def mask(root: Path) -> Path:
    return root / "masks/a.png"
