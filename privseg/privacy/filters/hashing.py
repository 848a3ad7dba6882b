"""Hashing: a texture that a key makes of where a person is, or of who is followed; never of a pixel."""

from __future__ import annotations

from typing import ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Context, Image, MethodParams, Person, PrivacyClass, Scene
from privseg.privacy.filters.keyed import KeyedMethod, SessionParams, keyed_hash, keystream
from privseg.privacy.keys import Secrets
from privseg.privacy.tracks import Tracks

__all__ = ["Hashing", "HashingParams"]

#: tiles of a person's texture, across the longer side; half of them across are mirrored
_TILES = 8
#: blocks of the frame's texture, across its shorter side
_BLOCKS = 45


class HashingParams(SessionParams):
    """What is hashed, and for how long."""

    of: Literal["person", "block"] = Field(
        "person", description="person: a texture for each who is followed; block: one for each place in the frame"
    )
    epoch: int = Field(0, ge=0, le=1_000_000, description="frames after which all textures change; 0: never")


class Hashing(KeyedMethod):
    """Draw the texture that a keyed hash (HMAC-SHA256) of a track or of a place in the frame decides.

    A hash of what a pixel looks like would be the same for the same look, and so a table to look people up in.
    Therefore nothing of the picture is hashed: the number of a track and where it began, or a block's place, and the
    epoch.
    """

    name: ClassVar[str] = "hash"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = (
        "the outline, the way of walking; of a person: that it is the same one while followed, within an epoch"
    )
    params_type: ClassVar[type[SessionParams]] = HashingParams
    params: HashingParams

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        self._tracker = Tracks()
        self._seeds: list[bytes] = []
        self._blocks: Image | None = None
        self._blocks_for: tuple[int, int, int] | None = None

    def rekey(self, key: bytes) -> None:
        """See :class:`~privseg.privacy.filters.keyed.KeyedMethod`."""
        self._hash_key = key
        self._blocks = self._blocks_for = None

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        super().begin(scene)
        epoch = scene.sequence // self.params.epoch if self.params.epoch else 0
        if self.params.of == "block":
            self._lay(epoch, scene.height, scene.width)
            return
        begun = [(track.first, track.origin) for track in self._tracker.update(scene)]
        self._seeds = [
            keyed_hash(self._hash_key, epoch, first, at.top, at.left, at.height, at.width) for first, at in begun
        ]

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        if self._blocks is not None:
            return self._of_blocks(self._blocks, context)
        return _texture(self._seeds[context.person.index], *mask.shape)

    def _lay(self, epoch: int, height: int, width: int) -> None:
        """Have the whole frame's texture ready, a pixel a block: uint8 ``(r, c, 3)``."""
        if self._blocks_for == (epoch, height, width):
            return
        side = _side(height, width)
        rows, columns = -(-height // side), -(-width // side)
        stream = keystream(keyed_hash(self._hash_key, epoch, height, width), rows * columns * 3)
        self._blocks, self._blocks_for = stream.reshape(rows, columns, 3), (epoch, height, width)

    def _of_blocks(self, blocks: Image, context: Context) -> Image:
        """The part of the frame's texture that a person stands before."""
        person: Person = context.person
        side = _side(context.scene.height, context.scene.width)
        bottom, right = person.top + person.height, person.left + person.width
        part = blocks[person.top // side : -(-bottom // side), person.left // side : -(-right // side)]
        size = (part.shape[1] * side, part.shape[0] * side)
        drawn = cv2.resize(part, size, interpolation=cv2.INTER_NEAREST)
        top, left = person.top % side, person.left % side
        covered: Image = drawn[top : top + person.height, left : left + person.width]
        return covered


def _side(height: int, width: int) -> int:
    """Pixels of a block along each side."""
    return max(min(height, width) // _BLOCKS, 1)


def _texture(seed: bytes, height: int, width: int) -> Image:
    """Mirrored tiles in two colours and a ground, as large as the person's box; uint8 ``(height, width, 3)``."""
    stream = keystream(seed, 3 + _TILES * _TILES)
    hue = int(stream[0]) * 180 // 256
    tints = np.array([[(hue, 150, 90), (hue, 140, 170), ((hue + 30 + int(stream[1]) % 120) % 180, 130, 235)]], np.uint8)
    colors = cv2.cvtColor(tints, cv2.COLOR_HSV2RGB)[0]
    half = colors[stream[3:].reshape(_TILES, _TILES) % 3][:, : _TILES // 2]
    whole = np.concatenate([half, half[:, ::-1]], axis=1)
    side = max(-(-max(height, width) // _TILES), 1)
    rows, columns = max(-(-height // side), 1), max(-(-width // side), 1)
    # A slim person shows the middle of the pattern, where its two halves meet.
    first = (_TILES - columns) // 2
    part = np.ascontiguousarray(whole[:rows, first : first + columns])
    drawn = cv2.resize(part, (columns * side, rows * side), interpolation=cv2.INTER_NEAREST)
    left, top = (columns * side - width) // 2, (rows * side - height) // 2
    covered: Image = drawn[top : top + height, left : left + width]
    return covered
