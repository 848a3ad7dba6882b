"""How a configuration and the command name a backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from privseg.errors import UsageError
from privseg.streaming.config import TritonConfig, load_config

CAMERA = "cameras: {hall: {source: a.mp4, output: b.mp4, method: blank, purpose: a test, retention_hours: 1}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "auto"),
        ("{shared_memory: auto}", "auto"),
        ("{shared_memory: off}", "off"),  # which YAML reads as false
        ("{shared_memory: 'off'}", "off"),
        ("{shared_memory: /dev/shm}", Path("/dev/shm")),
    ],
)
def test_where_the_memory_is(tmp_path: Path, text: str, expected: object) -> None:
    (tmp_path / "cameras.yaml").write_text(f"triton: {text}\n{CAMERA}\n")
    assert load_config(tmp_path / "cameras.yaml").triton.shared_memory == expected


@pytest.mark.parametrize("value", ["shm", "on", True, 3])
def test_what_names_no_memory_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="shared_memory"):
        TritonConfig(shared_memory=value)


def test_a_key_comes_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text("triton: {headers: {triton-grpc-protocol-key: '${KEY}'}}\n" + CAMERA)
    with pytest.raises(UsageError, match="KEY is not set"):
        load_config(file, {})
    triton = load_config(file, {"KEY": "s3cret"}).triton
    assert triton.headers["triton-grpc-protocol-key"].get_secret_value() == "s3cret"
    assert "s3cret" not in repr(triton)
