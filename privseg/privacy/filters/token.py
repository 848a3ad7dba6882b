"""Tokens: a plain shape with a badge, the same as long as a person is followed, and another in the next session."""

from __future__ import annotations

import base64
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Final

import cv2
import numpy as np
from pydantic import Field

from privseg.privacy.filters.base import BoolMask, Color, Context, Image, MethodParams, PrivacyClass, Scene, fill, rgb
from privseg.privacy.filters.keyed import KeyedMethod, SessionParams, keyed_hash
from privseg.privacy.keys import Secrets
from privseg.privacy.tracks import Track, Tracks

__all__ = ["Token", "TokenParams", "VaultEntry"]

_LENGTH: Final = 4
_CAPACITY: Final = 4096
_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_INK: Final = (20, 24, 28)


class TokenParams(SessionParams):
    """What the shape looks like, and how long a token lasts."""

    color: Color = Field("#5b6773", description="fill colour, #rrggbb")
    size: float = Field(0.09, ge=0.03, le=0.3, description="height of the badge as a share of the person's height")
    patience: int = Field(15, ge=1, le=250, description="frames after which somebody who vanished is forgotten")
    lifetime: int = Field(9000, ge=1, le=1_000_000, description="frames after which a person gets another token")


@dataclass(slots=True)
class VaultEntry:
    """What the vault knows of a token: no pixel, no look.

    Attributes:
        track: Number of the track in this session.
        camera: The camera's name.
        first, last: The frames in which it was first and last drawn.
    """

    track: int
    camera: str
    first: int
    last: int


class Token(KeyedMethod):
    """Draw a token for every tracked person.

    A token is made by key from where and when the track began, so it tells nothing, and nobody without the key can
    foresee or link it. With ``stable`` and a key ring, the same recording is given the same tokens again; equal tokens
    of two recordings mean nothing. The vault is in memory, holds the last few thousand tokens and ends with the
    session.
    """

    name: ClassVar[str] = "token"
    privacy_class: ClassVar[PrivacyClass] = "irreversible"
    does_not_hide: ClassVar[str] = (
        "that it is the same person while followed, and so the way through the picture; the outline, the way of walking"
    )
    params_type: ClassVar[type[SessionParams]] = TokenParams
    params: TokenParams

    def __init__(self, params: MethodParams | None = None, secrets: Secrets | None = None) -> None:
        super().__init__(params, secrets)
        self._tracker = Tracks(self.params.patience, self.params.lifetime)
        self._tokens: dict[int, str] = {}
        self._vault: OrderedDict[str, VaultEntry] = OrderedDict()
        self._drawn: list[str] = []

    @property
    def vault(self) -> dict[str, VaultEntry]:
        """Token and what is known of it, the least recently drawn first; at most 4096."""
        return dict(self._vault)

    def rekey(self, key: bytes) -> None:
        """See :class:`~privseg.privacy.filters.keyed.KeyedMethod`."""
        self._token_key = key
        self._tokens.clear()

    def begin(self, scene: Scene) -> None:
        """See :class:`~privseg.privacy.filters.base.Method`."""
        super().begin(scene)
        tracks = self._tracker.update(scene)
        live = {track.number for track in self._tracker.live()}
        self._tokens = {number: token for number, token in self._tokens.items() if number in live}
        self._drawn = [self._token(track, scene.camera) for track in tracks]

    def protect(self, image: Image, mask: BoolMask, context: Context) -> Image:
        """Cover the masked pixels; see :class:`~privseg.privacy.filters.base.Method`."""
        shape = fill(image, mask, rgb(self.params.color))
        _badge(shape, mask, self._drawn[context.person.index], self.params.size)
        return shape

    def _token(self, track: Track, camera: str) -> str:
        """The track's token, noted in the vault."""
        token = self._tokens.get(track.number)
        if token is None:
            begun = (track.first, track.origin.top, track.origin.left, track.origin.height, track.origin.width)
            taken = set(self._tokens.values())
            attempts = (_text(keyed_hash(self._token_key, *begun, attempt)) for attempt in range(len(taken) + 1000))
            token = self._tokens[track.number] = next(text for text in attempts if text not in taken)
            self._vault.pop(token, None)  # one that an earlier track had
        self._vault.setdefault(token, VaultEntry(track.number, camera, track.first, track.last)).last = track.last
        self._vault.move_to_end(token)
        while len(self._vault) > _CAPACITY:
            self._vault.popitem(last=False)
        return token


def _text(digest: bytes) -> str:
    """Four of A to Z and 2 to 7, about a million tokens (base32, RFC 4648)."""
    return base64.b32encode(digest[:5]).decode("ascii")[:_LENGTH]


def _badge(shape: Image, mask: BoolMask, token: str, size: float) -> None:
    """Draw a token on a light card where the chest would be, as large as fits the person."""
    height = mask.shape[0]
    row = min(round(0.3 * height), height - 1)
    columns = np.flatnonzero(mask[row])
    if len(columns) == 0:
        return
    (natural, tall), _ = cv2.getTextSize(token, _FONT, 1.0, 1)
    room = int(columns[-1] - columns[0] + 1)
    scale = min(size * height * 0.6 / tall, 0.8 * room / natural)
    across, down = natural * scale, tall * scale
    middle = (columns[0] + columns[-1]) / 2
    card = [
        round(middle - 0.57 * across),
        round(row - 0.85 * down),
        round(middle + 0.57 * across),
        round(row + 0.85 * down),
    ]
    hue = np.array([[[int(base64.b32decode(token + "AAAA")[0] * 180 // 256), 70, 250]]], np.uint8)
    cv2.rectangle(shape, card[:2], card[2:], cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist(), cv2.FILLED)
    origin = (round(middle - across / 2), round(row + down / 2))
    cv2.putText(shape, token, origin, _FONT, scale, _INK, max(round(scale * 1.5), 1), cv2.LINE_AA)
