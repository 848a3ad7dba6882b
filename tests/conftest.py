"""Fixtures that every test may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says something about the machine, not about the code
settings.register_profile("privseg", deadline=None)
settings.load_profile("privseg")


@pytest.fixture(scope="session")
def privseg_data() -> Path:
    """Folder with real datasets and clips; tests that need it are skipped where there is none."""
    folder = os.environ.get("PRIVSEG_DATA")
    if not folder:
        pytest.skip("PRIVSEG_DATA is not set: no real data here")
    return Path(folder).resolve()


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a real file system of so many MiB; where that is not permitted, the test is skipped."""
    folder = tmp_path / "disk"

    def make(mebibytes: int) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        if mounted.returncode:
            folder.rmdir()
            pytest.skip(f"cannot mount a small file system here ({mounted.stderr.strip()})")
        return folder

    yield make
    if folder.exists():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(make_disk: Callable[[int], Path]) -> Path:
    """A file system of 1 MiB."""
    return make_disk(1)


@pytest.fixture(scope="session")
def tiny_overrides() -> dict[str, str]:
    """Parameters of a whole pipeline that runs in seconds: few small scenes, a handful of iterations."""
    profile = "{seconds: 20, max_iterations: 3, batch_size: 2, crop: 64, learning_rate: 0.001, workers: 0}"
    return {
        "image.size": "128",
        "sources.scenes.count": "48",
        "sources.scenes.test_share": "0.3",
        "train.smoke": profile,
        "benchmark.smoke": "{max_test_images: 6, timed_runs: 3, warm_up_runs: 0, shapes: [[128, 128]]}",
        "select.max_latency_ms": "60000",
        "publish": "{min_found: 0, max_called: 1, min_spread: 0}",  # hardly trained, a candidate sees nobody or all
        # tiny pictures hold tiny people
        "cleanse": "{min_original_side: 32, min_component_height: 2, min_human_ratio: 0.0, min_pixel_std: 0.5}",
        "gate": "{min_images: 20, min_train_images: 8, min_test_images: 2, min_human_share: 0.1, "
        "min_mean_human_ratio: 0.0001}",
    }
