"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def privseg_data() -> Path:
    """Folder with real datasets and clips; tests that need it are skipped where there is none."""
    folder = os.environ.get("PRIVSEG_DATA")
    if not folder:
        pytest.skip("PRIVSEG_DATA is not set: no real data here")
    return Path(folder).resolve()
