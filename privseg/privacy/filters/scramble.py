"""Scrambling: people become noise that the holder of the key, and nobody else, can turn back."""

from __future__ import annotations

import secrets as random_source
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel, ConfigDict, Field

from privseg.errors import DataError, PrivacyViolationPrevented
from privseg.privacy.filters.base import BoolMask, Context, Image, Method, MethodParams, PrivacyClass, Scene
from privseg.privacy.keys import Secrets, derive

__all__ = ["Scramble", "ScrambleParams", "ScrambleRecord", "ScrambledPerson", "decrypt"]

_SESSION_BYTES: Final = 16
_TAG_BYTES: Final = 16

Count = Annotated[int, Field(ge=0, lt=2**31)]
Runs = npt.NDArray[np.int64]


class ScrambleParams(MethodParams):
    """It has none: there is no weaker way to scramble."""


class ScrambledPerson(BaseModel):
    """Where one person's ciphertext lies in the picture, and the tag that proves it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    box: tuple[Count, Count, Count, Count] = Field(description="top, left, height, width, pixels")
    runs: tuple[Count, ...] = Field(description="lengths of the runs in the box, row by row: uncovered, covered, …")
    tag: str = Field(pattern=rf"^[0-9a-f]{{{2 * _TAG_BYTES}}}$")


class ScrambleRecord(BaseModel):
    """What must be kept beside a scrambled frame to recover it; it holds no pixel and no key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: str
    session: str = Field(pattern=rf"^[0-9a-f]{{{2 * _SESSION_BYTES}}}$")
    camera: str
    number: int = Field(ge=0, lt=2**63, description="the frame's number within its source")
    height: Count
    width: Count
    people: tuple[ScrambledPerson, ...]


class Scramble(Method):
    """Encrypt each person's pixels in place with AES-256-GCM (NIST SP 800-38D).

    The ciphertext is as long as the plaintext, so the picture itself holds it; the tags are kept beside it, in
    :meth:`record`. The key is one camera's and one session's, a session being the life of one object of this class;
    the nonce is the frame's number and the person's place in it. No two people are ever encrypted with the same two:
    a number that does not rise is refused.
    """

    name: ClassVar[str] = "scramble"
    privacy_class: ClassVar[PrivacyClass] = "reversible with key"
    does_not_hide: ClassVar[str] = (
        "that someone is there, the outline, the way of walking; from the holder of the key: anything"
    )
    params_type: ClassVar[type[MethodParams]] = ScrambleParams
    params: ScrambleParams
    needs_keys: ClassVar[bool] = True
    lossless: ClassVar[bool] = True

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        self._session = random_source.token_hex(_SESSION_BYTES)
        self._ciphers: dict[str, AESGCM] = {}
        self._latest: dict[str, int] = {}
        self._scene: Scene | None = None
        self._people: list[dict[str, Any]] = []

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`.

        Raises:
            PrivacyViolationPrevented: The frame's number is not above the one before.
        """
        self._people, self._scene = [], None
        if scene.sequence <= self._latest.get(scene.camera, -1):
            fault = f"frame {scene.sequence} came after frame {self._latest[scene.camera]}"
            step = "the frame leaves as a slate; a nonce must never be used twice"
            raise PrivacyViolationPrevented(self.name, fault, step)
        if scene.camera not in self._ciphers:
            self._ciphers[scene.camera] = _cipher(self.secrets, scene.camera, self._session)
        self._latest[scene.camera] = scene.sequence
        self._scene = scene

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        scene, person = context.scene, context.person
        box = (person.top, person.left, person.height, person.width)
        runs = _runs(mask)
        sealed = self._ciphers[scene.camera].encrypt(
            _nonce(scene.sequence, person.index),
            _pixels(image)[mask].tobytes(),
            _bound(scene.camera, scene.sequence, scene.height, scene.width, box, runs),
        )
        covered = np.zeros_like(image)
        _pixels(covered)[mask] = np.frombuffer(sealed, "V3", (len(sealed) - _TAG_BYTES) // 3)
        self._people.append({"box": box, "runs": runs.tolist(), "tag": sealed[-_TAG_BYTES:].hex()})
        return covered

    def record(self) -> Mapping[str, Any] | None:
        """What :func:`decrypt` needs for the frame just covered: the fields of :class:`ScrambleRecord`."""
        if self._scene is None:
            return None
        return {
            "epoch": self.secrets.epoch,
            "session": self._session,
            "camera": self._scene.camera,
            "number": self._scene.sequence,
            "height": self._scene.height,
            "width": self._scene.width,
            "people": self._people,
        }


def decrypt(picture: Image, record: ScrambleRecord, secrets: Secrets) -> Image:
    """Bring the people of one frame back: the result is the raw picture.

    Args:
        picture: uint8 ``(H, W, 3)`` RGB, bit for bit as :class:`Scramble` left it.
        record: What was kept beside it.
        secrets: The keys of the record's epoch.

    Returns:
        uint8 ``(H, W, 3)`` RGB, writable.

    Raises:
        DataError: The key is another one, or the picture or the record was changed since. Nothing is returned then,
            not even those people whose pixels are intact.
    """
    subject = f"frame {record.number} of {record.camera or 'the camera'}"
    if picture.shape != (record.height, record.width, 3):
        raise DataError(subject, "has another size than its record", "name the video as privseg wrote it")
    cipher = _cipher(secrets, record.camera, record.session)
    restored = np.array(picture, np.uint8, order="C")
    for index, person in enumerate(record.people):
        top, left, height, width = person.box
        runs = np.array(person.runs, np.int64)
        fits = top + height <= record.height and left + width <= record.width and min(height, width) > 0
        if not fits or runs.sum() != height * width:
            raise DataError(subject, "has a damaged record", "restore the record from where it was written")
        mask = _mask(runs, height, width)
        window = _pixels(np.ascontiguousarray(picture[top : top + height, left : left + width]))
        sealed = window[mask].tobytes() + bytes.fromhex(person.tag)
        bound = _bound(record.camera, record.number, record.height, record.width, person.box, runs)
        try:
            opened = cipher.decrypt(_nonce(record.number, index), sealed, bound)
        except InvalidTag:
            fault = "cannot be unscrambled: the key is another one, or the picture or its record was changed"
            raise DataError(subject, fault, "use the key ring and the lossless file it was written with") from None
        target = restored[top : top + height, left : left + width]
        target[mask] = np.frombuffer(opened, np.uint8).reshape(-1, 3)
    return restored


def _cipher(secrets: Secrets, camera: str, session: str) -> AESGCM:
    return AESGCM(derive(secrets.key(Scramble.name, camera), "session", session))


def _nonce(number: int, index: int) -> bytes:
    return number.to_bytes(8, "big") + index.to_bytes(4, "big")


def _bound(camera: str, number: int, height: int, width: int, box: tuple[int, int, int, int], runs: Runs) -> bytes:
    """What the tag vouches for beside the pixels: whose they are, of which frame, and where in it."""
    name = camera.encode()
    numbers = (len(name), number, height, width, *box)
    return b"".join(part.to_bytes(8, "big") for part in numbers) + name + runs.astype(">i8").tobytes()


def _runs(mask: BoolMask) -> Runs:
    """Lengths of the runs of a mask, bool ``(h, w)``, row by row; the first one is of uncovered pixels, maybe of 0."""
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    first = [0, 0] if flat[0] else [0]
    return np.diff(np.concatenate((first, changes, [flat.size]))).astype(np.int64)


def _mask(runs: Runs, height: int, width: int) -> BoolMask:
    """The mask whose runs these are; bool ``(height, width)``."""
    covered = np.arange(runs.size) % 2 == 1
    return np.repeat(covered, runs).reshape(height, width)


def _pixels(image: Image) -> npt.NDArray[np.void]:
    """The same memory, ``(h, w)``, a pixel an item: thirty times faster to pick from than three bytes each."""
    return image.view("V3")[..., 0]
