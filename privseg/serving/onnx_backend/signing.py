"""Sign and check the record of a model version: one piece of code for privseg and for Triton's backend.

It lies beside the backend and is copied with it, so it imports nothing of privseg. What signatures are for, and what
they do not protect against, is in ``privseg/serving/signature.py``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any

VERIFY_VARIABLE = "PRIVSEG_VERIFY_KEY"
SIGNATURE = "signature"
HMAC, ED25519 = "hmac-sha256", "ed25519"
MIN_SECRET = 32  # characters; a short secret could be guessed from any signature
PEM = "-----BEGIN"
CONTEXT = b"privseg model record 1\n"  # a signature made for something else is none of a record
FIELDS = {"algorithm", "key_id", "value"}


class UnusableKeyError(Exception):
    """A key that cannot be used; its text never quotes the key. ``next_step`` says what to do."""

    def __init__(self, fault: str, next_step: str) -> None:
        super().__init__(fault)
        self.next_step = next_step


def read_key(variable: str) -> str | None:
    """Read a key from the environment; none: the variable is not set. One that is set, but empty, was meant."""
    value = os.environ.get(variable)
    if value is None:
        return None
    value = value.strip()
    if not value:
        raise UnusableKeyError("is set, but empty", "give it a key, or unset it to do without signatures")
    if not value.startswith(PEM) and len(value) < MIN_SECRET:
        fault = f"is an HMAC secret of fewer than {MIN_SECRET} characters"
        raise UnusableKeyError(fault, "make a longer one: openssl rand -hex 32")
    return value


def parse(text: str) -> Any:
    """Parse JSON; raises ValueError, too, where an object names a field twice: two readers could see two values."""
    return json.loads(text, object_pairs_hook=_object)


def canonical(record: Mapping[str, Any]) -> bytes:
    """Return what a signature covers: the record without it, as JSON, keys sorted, no spaces, after a fixed line."""
    bare = {name: value for name, value in record.items() if name != SIGNATURE}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return CONTEXT + text.encode("utf-8", "surrogatepass")


def signature(record: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return the signature of a record: an HMAC with a secret, or Ed25519 with a private key in PEM."""
    message = canonical(record)
    if not key.startswith(PEM):
        return {"algorithm": HMAC, "key_id": _hmac_id(key), "value": _hmac(key, message)}
    private = _ed25519_key(key, private=True)
    return {
        "algorithm": ED25519,
        "key_id": _ed25519_id(private.public_key()),
        "value": private.sign(message).hex(),
    }


def fault(record: Mapping[str, Any], key: str) -> str | None:
    """Say why a record is not acceptable to who holds this verify key; none: its signature is good.

    The key alone decides the algorithm: a record that names another one is refused, whatever its value.
    """
    public = _ed25519_key(key, private=False) if key.startswith(PEM) else None
    found = record.get(SIGNATURE)
    if not isinstance(found, dict) or set(found) != FIELDS or not all(isinstance(v, str) for v in found.values()):
        return f"is not signed, and {VERIFY_VARIABLE} asks for it"
    algorithm, identity = (HMAC, _hmac_id(key)) if public is None else (ED25519, _ed25519_id(public))
    if (found["algorithm"], found["key_id"]) != (algorithm, identity):
        theirs = f"{found['algorithm'][:16]} key {found['key_id'][:16]}"
        return f"is signed with {theirs}, not with {algorithm} key {identity}"
    message, value = canonical(record), found["value"]
    if public is None:
        good = hmac.compare_digest(value.encode("utf-8", "surrogatepass"), _hmac(key, message).encode())
    else:
        good = _ed25519_verifies(public, value, message)
    return None if good else "was changed after it was signed: the signature does not fit"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is there twice")
    return found


def _hmac(secret: str, message: bytes) -> str:
    return hmac.digest(secret.encode(), message, "sha256").hex()


def _hmac_id(secret: str) -> str:
    return _hmac(secret, b"privseg key id")[:16]


def _ed25519_key(pem: str, *, private: bool) -> Any:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        missing = "is an Ed25519 key, and the package cryptography is not installed here"
        raise UnusableKeyError(missing, "pip install cryptography there, or use an HMAC secret") from None
    wanted = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    found: Any = None
    try:
        if private:
            found = serialization.load_pem_private_key(pem.encode(), password=None)
        else:
            found = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = None  # the error's text may quote the key
    if not isinstance(found, wanted):
        other = f"is PEM, but no Ed25519 {'private' if private else 'public'} key"
        raise UnusableKeyError(other, "openssl genpkey -algorithm ed25519, and openssl pkey -pubout of it")
    return found


def _ed25519_id(public: Any) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _ed25519_verifies(public: Any, value: str, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        found = bytes.fromhex(value)
        public.verify(found, message)
    except (ValueError, InvalidSignature):
        return False
    return found.hex() == value
