"""What keyed drawing methods share: a key for each camera, and numbers that only its holder can foresee."""

from __future__ import annotations

import abc
import hmac

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from pydantic import Field

from privseg.privacy.filters.base import Image, Method, MethodParams, Scene
from privseg.privacy.keys import Secrets, SessionSecrets

__all__ = ["KeyedMethod", "SessionParams", "keyed_hash", "keystream"]


class SessionParams(MethodParams):
    """Whether what the key decides outlives a session."""

    stable: bool = Field(
        False, description="draw the same in every session, from the key ring; else every session draws its own"
    )


class KeyedMethod(Method):
    """A method that draws by a key: :meth:`rekey` is called before the first person, and when the key changes.

    A session is the life of one object of this class. With :class:`SessionParams` the key is the session's own, even
    where there is a key ring, unless ``stable`` asks for the ring's: what is drawn today is not to be linked with what
    was drawn yesterday.
    """

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        if isinstance(self.params, SessionParams) and not self.params.stable:
            # Keys of a session already are nobody else's.
            self.secrets = self.secrets if isinstance(self.secrets, SessionSecrets) else SessionSecrets()
        self._key: bytes | None = None

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        key = self.secrets.key(self.name, scene.camera)
        if key != self._key:
            self._key = key
            self.rekey(key)

    @abc.abstractmethod
    def rekey(self, key: bytes) -> None:
        """Draw from now on by this key, 32 bytes."""


def keystream(key: bytes, count: int, *numbers: int) -> Image:
    """Bytes that look random to all who have not the key (AES-256 in counter mode, NIST SP 800-38A).

    Args:
        key: 32 bytes.
        count: How many bytes, at most 64 GiB.
        numbers: What they are for, as a frame's number, 0 to 2**64, and a person's index, 0 to 2**32. Other numbers
            give unrelated bytes.

    Returns:
        uint8 ``(count,)``, each value equally likely.
    """
    first, second = (*numbers, 0, 0)[:2]
    # The last four bytes count the blocks of one stream, so that no two streams meet.
    start = first.to_bytes(8, "big") + second.to_bytes(4, "big") + bytes(4)
    return np.frombuffer(Cipher(AES(key), CTR(start)).encryptor().update(bytes(count)), np.uint8)


def keyed_hash(key: bytes, *numbers: int) -> bytes:
    """32 bytes that only a holder of the key can link with the numbers (HMAC-SHA256, RFC 2104)."""
    return hmac.digest(key, b"".join(number.to_bytes(8, "big", signed=True) for number in numbers), "sha256")
