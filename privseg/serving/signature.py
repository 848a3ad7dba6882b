"""Signatures of model versions: who exported a model, not only which bytes it has.

``model.json`` names the SHA-256 of ``model.onnx``, so the pair is bound together; but whoever can write both can write
a pair that fits. With a signing key, the exporter signs the record, and with a verify key every reader (publisher,
pipeline, Triton's backend) refuses a version whose record is unsigned or was changed. Both keys are optional and come
from the environment::

    PRIVSEG_SIGNING_KEY   signs: an HMAC secret of 32 characters or more, or an Ed25519 private key (PEM)
    PRIVSEG_VERIFY_KEY    checks: the same HMAC secret, or the Ed25519 public key (PEM)

A key that begins with ``-----BEGIN`` is PEM, anything else an HMAC secret: the verify key alone says which algorithm a
version must be signed with, never the record. The record holds ``signature: {algorithm, key_id, value}``, made over
the canonical form of everything else in it.

What it protects against: somebody who can write the model repository, the DVC remote or a volume on the way, but does
not hold the signing key, and puts a model there that misses people (or changes what its record says of it).

What it does not: whoever holds the signing key (with HMAC every reader does, the server included: use Ed25519 where
readers are not trusted); whoever can change the code, the environment or ``config.pbtxt``, for that is code execution
in the server: mount the repository read-only there; and an older version with a good signature that is put back: a
signature has no date of expiry. Take such a key out of use. Nor does the compiled ONNX Runtime backend of the official
container check anything: there, what guards the repository is that only the publisher may write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from privseg.errors import GateFailedError, UsageError
from privseg.serving.onnx_backend import signing
from privseg.serving.onnx_backend.signing import VERIFY_VARIABLE

__all__ = ["SIGNING_VARIABLE", "VERIFY_VARIABLE", "require_signature", "sign"]

SIGNING_VARIABLE: Final = "PRIVSEG_SIGNING_KEY"
_AGAIN: Final = f"export it again with {SIGNING_VARIABLE} set; use no version of unknown origin"


def sign(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with the signature of ``PRIVSEG_SIGNING_KEY``; without a key, with none.

    Raises:
        UsageError: The key is empty, too short, or no Ed25519 private key; or ``cryptography`` is not installed.
    """
    bare = {name: value for name, value in record.items() if name != signing.SIGNATURE}
    try:
        key = signing.read_key(SIGNING_VARIABLE)
        return bare if key is None else bare | {signing.SIGNATURE: signing.signature(bare, key)}
    except signing.UnusableKeyError as error:
        raise UsageError(SIGNING_VARIABLE, str(error), error.next_step) from None


def require_signature(path: Path, record: Mapping[str, Any]) -> None:
    """Refuse a record that is not signed with the key of ``PRIVSEG_VERIFY_KEY``; without a key, anything passes.

    Args:
        path: The record's file, for messages.
        record: Its content.

    Raises:
        GateFailedError: The record is unsigned, changed, or signed with another key or algorithm.
        UsageError: The verify key cannot be used, or ``cryptography``, which checks Ed25519, is not installed.
    """
    try:
        key = signing.read_key(VERIFY_VARIABLE)
        fault = None if key is None else signing.fault(record, key)
    except signing.UnusableKeyError as error:
        raise UsageError(VERIFY_VARIABLE, str(error), error.next_step) from None
    if fault is not None:
        raise GateFailedError(path, fault, _AGAIN)
