"""What sets two versions apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from privseg.cli import app
from privseg.errors import GateFailedError, UsageError
from privseg.serving.artifact import MODEL_NAME, write_artifact
from privseg.serving.differences import diff
from privseg.testing.triton import make_person_model


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Versions 1 and 3 are one model, trained twice; 2 is its inverse."""
    repository = tmp_path / "repository"
    bright = make_person_model(tmp_path / "bright", kind="bright")
    inverse = make_person_model(tmp_path / "inverse", kind="inverse")
    origins = [
        (bright, {"candidate": "stdc1", "dataset_version": "ds-1", "metrics": {"iou_human": 0.7, "images": 10}}),
        (inverse, {"candidate": "bisenetv2", "dataset_version": "ds-1", "metrics": {"iou_human": 0.6, "images": 10}}),
        (bright, {"candidate": "stdc1", "dataset_version": "ds-2", "metrics": {"iou_human": 0.7, "images": 10}}),
    ]
    for version, (artifact, origin) in enumerate(origins, start=1):
        write_artifact(repository / MODEL_NAME / str(version), artifact.onnx, origin)
    return repository


def test_records_and_answers_are_compared(repository: Path) -> None:
    found = diff(repository, 1, 2)
    assert not found.same_model
    assert found.record.keys() == {"candidate", "metrics.iou_human", "sha256"}
    assert found.record["candidate"] == ("stdc1", "bisenetv2")
    assert found.record["metrics.iou_human"] == (0.7, 0.6)
    assert found.mask_agreement == 0.0  # where red is under 128, its inverse is not
    np.testing.assert_allclose(np.add(*found.found), 1.0)
    np.testing.assert_allclose(np.add(*found.called), 1.0)


def test_the_same_model_from_other_data_decides_alike(repository: Path) -> None:
    found = diff(repository, 1, 3)
    assert found.same_model
    assert found.record == {"dataset_version": ("ds-1", "ds-2")}
    assert (found.mean_difference, found.mask_agreement) == (0.0, 1.0)


def test_the_command_shows_it_to_people_and_programs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(repository))
    table = CliRunner().invoke(app, ["model", "diff", "1", "2"], catch_exceptions=False).stdout
    assert "bisenetv2" in table
    assert "masks agree on 0.000% of the pixels" in table
    found = json.loads(CliRunner().invoke(app, ["model", "diff", "1", "2", "--json"]).stdout)
    assert found["record"]["candidate"] == ["stdc1", "bisenetv2"]


def test_what_cannot_be_compared_is_named(repository: Path) -> None:
    with pytest.raises(UsageError, match="has no version 9"):
        diff(repository, 1, 9)
    (repository / MODEL_NAME / "2" / "model.onnx").write_bytes(b"rot")
    with pytest.raises(GateFailedError, match="version 2: its sha256"):
        diff(repository, 1, 2)
