"""Where keyed methods get their keys."""

from __future__ import annotations

import secrets
from typing import Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["Secrets", "SessionSecrets", "derive"]


class Secrets(Protocol):
    """A source of keys: the same for the same purpose and camera, unrelated for any other."""

    @property
    def epoch(self) -> str:
        """Which of its owner's keys they come from; kept beside what must be recovered one day."""
        ...

    def key(self, purpose: str, camera: str) -> bytes:
        """32 bytes for one purpose (a method's name) of one camera."""
        ...


class SessionSecrets:
    """Keys drawn from the system's random source when this is made, and never written anywhere.

    What is made with them can be linked with nothing of another camera, nor of this one after a restart.
    """

    epoch = "session"

    def __init__(self) -> None:
        self._master = secrets.token_bytes(32)

    def key(self, purpose: str, camera: str) -> bytes:
        """See :class:`Secrets`."""
        return derive(self._master, purpose, camera)


def derive(master: bytes, *context: str) -> bytes:
    """32 bytes that depend on every part of ``context``, and tell nothing of ``master`` (HKDF-SHA256, RFC 5869)."""
    info = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in ("privseg", *context))
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
