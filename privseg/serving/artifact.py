"""A model artifact: one directory with exactly ``model.onnx`` and ``model.json``, and the contract both obey.

The same two files are what ``export`` writes, what a version directory of the Triton model repository holds, and
what the server's backend checks before it loads. ``model.json`` carries the SHA-256 of ``model.onnx``; a pair that
does not match is refused everywhere, and so is one without a good signature where a verify key is set
(`privseg.serving.signature`).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from privseg.errors import GateFailedError, StorageError, UsageError
from privseg.serving.onnx_backend.signing import parse
from privseg.serving.signature import SIGNING_VARIABLE, require_signature, sign

__all__ = [
    "INPUT_NAME",
    "MODEL_NAME",
    "ONNX_FILE",
    "OUTPUT_NAME",
    "RECORD_FILE",
    "SIZE_MULTIPLE",
    "Artifact",
    "read_artifact",
    "read_artifact_record",
    "sign_artifact",
    "write_artifact",
]

MODEL_NAME: Final = "person_segmentation"
INPUT_NAME: Final = "IMAGE"  # uint8 [N,H,W,3] RGB
OUTPUT_NAME: Final = "PERSON"  # uint8 [N,H,W], person probability × 255, at least 1; 0: not computed
SIZE_MULTIPLE: Final = 32
ONNX_FILE: Final = "model.onnx"
RECORD_FILE: Final = "model.json"
_AGAIN: Final = "run `dvc repro export` and publish what it writes"


@dataclass(frozen=True)
class Artifact:
    """A model whose record and file belong together.

    Attributes:
        directory: Where the two files lie.
        onnx: The bytes of ``model.onnx``, as they were when their hash was checked.
        record: The content of ``model.json``.
    """

    directory: Path
    onnx: bytes
    record: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The hash that names the model."""
        return str(self.record["sha256"])

    @property
    def record_bytes(self) -> bytes:
        """The record as ``model.json`` holds it."""
        return (json.dumps(self.record, indent=2, sort_keys=True) + "\n").encode()


def read_artifact(directory: Path) -> Artifact:
    """Read an artifact and check that ``model.onnx`` is the file its record was written for.

    Raises:
        GateFailedError: A file is missing, the record is not JSON, the SHA-256 differs, or the signature that
            ``PRIVSEG_VERIFY_KEY`` asks for is missing or does not fit.
        UsageError: The verify key cannot be used.
    """
    return _with_model(directory, read_artifact_record(directory))


def sign_artifact(directory: Path) -> Artifact:
    """Sign what lies there as it is, unsigned or signed with an old key: whoever calls this vouches for its origin.

    Raises:
        GateFailedError: The two files do not belong together.
        UsageError: There is no signing key, or it cannot be used.
        StorageError: The record cannot be written.
    """
    artifact = _with_model(directory, _parsed(directory))
    signed = Artifact(directory, artifact.onnx, sign(artifact.record))
    if "signature" not in signed.record:
        raise UsageError(SIGNING_VARIABLE, "is not set", "set it to the key to sign with")
    try:
        _replace(directory / RECORD_FILE, signed.record_bytes)
    except OSError as error:
        raise StorageError.from_os_error(directory, error) from error
    return signed


def _with_model(directory: Path, record: dict[str, Any]) -> Artifact:
    path = directory / ONNX_FILE
    try:
        onnx = path.read_bytes()
    except OSError as error:
        raise GateFailedError(path, f"cannot be read ({error.strerror})", _AGAIN) from None
    found = hashlib.sha256(onnx).hexdigest()
    if record["sha256"] != found:
        fault = f"its sha256 {found[:12]}… is not the {record['sha256'][:12]}… that {RECORD_FILE} records"
        raise GateFailedError(path, fault, _AGAIN)
    return Artifact(directory, onnx, record)


def read_artifact_record(directory: Path) -> dict[str, Any]:
    """Read ``model.json`` alone.

    Raises:
        GateFailedError: It is missing, is not JSON, names a field twice or no SHA-256, or is not signed as
            ``PRIVSEG_VERIFY_KEY`` asks.
        UsageError: The verify key cannot be used.
    """
    record = _parsed(directory)
    require_signature(directory / RECORD_FILE, record)
    return record


def _parsed(directory: Path) -> dict[str, Any]:
    path = directory / RECORD_FILE
    try:
        record = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GateFailedError(path, f"cannot be read ({error.strerror})", _AGAIN) from None
    except ValueError as error:
        raise GateFailedError(path, f"is not valid JSON ({error})", _AGAIN) from None
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise GateFailedError(path, "names no sha256", _AGAIN)
    return record


def write_artifact(directory: Path, onnx: bytes, record: dict[str, Any]) -> Artifact:
    """Write ``model.onnx`` and ``model.json`` by replacement; the record gets ``sha256`` and ``created``.

    With ``PRIVSEG_SIGNING_KEY`` set, the record is signed; a signature it had before goes in any case. The record is
    written last: a reader that comes in between finds a pair that does not match and refuses it.

    Raises:
        StorageError: The disk is full or the directory cannot be written.
        UsageError: The signing key cannot be used; nothing is written.
    """
    full = sign(
        {
            **record,
            "sha256": hashlib.sha256(onnx).hexdigest(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    artifact = Artifact(directory, onnx, full)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _replace(directory / ONNX_FILE, onnx)
        _replace(directory / RECORD_FILE, artifact.record_bytes)
    except OSError as error:
        raise StorageError.from_os_error(directory, error) from error
    return artifact


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
