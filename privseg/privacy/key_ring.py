"""The key ring: the keys of an installation, epoch by epoch, and whose approvals it trusts.

It is one JSON file that only its owner may read, or the same text in the environment variable ``PRIVSEG_KEY_RING``.
Its keys are 32 random bytes each; what methods work with is derived from them and never stored. Destroying an epoch's
key makes all that was scrambled with it unrecoverable, wherever copies of the video may be.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NoReturn, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationError

from privseg.errors import UsageError
from privseg.privacy.keys import derive
from privseg.privacy.secret_files import create_secret, locked, read_secret, replace_secret

__all__ = ["KEY_RING_VARIABLE", "Approver", "Epoch", "KeyRing", "open_key_ring"]

KEY_RING_VARIABLE: Final = "PRIVSEG_KEY_RING"
_KEY_BYTES: Final = 32
_WHAT: Final = "a key ring"


def _key_from_text(value: object) -> bytes:
    key = bytes.fromhex(value) if isinstance(value, str) else value
    if not isinstance(key, bytes) or len(key) != _KEY_BYTES:
        raise ValueError("is not 32 bytes in hexadecimal digits")
    return key


Key = Annotated[bytes, PlainValidator(_key_from_text), PlainSerializer(bytes.hex)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Epoch(_Section):
    """A time during which one key is in use."""

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    created: datetime
    key: Key | None = Field(repr=False, description="none once it is destroyed")
    destroyed: datetime | None = None


class Approver(_Section):
    """Somebody whose approvals count."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")
    public_key: Key = Field(description="Ed25519, raw")
    created: datetime


class _Content(_Section):
    version: Literal[1] = 1
    log_key: Key = Field(repr=False)
    epochs: tuple[Epoch, ...] = Field(min_length=1)
    approvers: tuple[Approver, ...] = ()


class KeyRing:
    """Keys by purpose and camera, from the key of one epoch; see :class:`privseg.privacy.keys.Secrets`.

    A ring that was opened stays as it was: rotation reaches a running camera when it is started again.
    """

    def __init__(self, content: _Content, path: Path | None, epoch: Epoch) -> None:
        self.path = path
        self._content = content
        self._epoch = epoch

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new key ring with a first epoch.

        Raises:
            UsageError: The file exists.
            StorageError: It cannot be written.
        """
        content = _Content(log_key=secrets.token_bytes(_KEY_BYTES), epochs=(_new_epoch(),))
        create_secret(path, _text(content))
        return cls(content, path, content.epochs[-1])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key ring.

        Raises:
            UsageError: It cannot be read, others than its owner may read it, or it is damaged. The message never
                quotes it.
        """
        return cls._parsed(read_secret(path, _WHAT), path, str(path))

    @classmethod
    def from_text(cls, text: str, name: str = KEY_RING_VARIABLE) -> Self:
        """Read a key ring's text; ``name`` is what it is called in messages. Raises UsageError."""
        return cls._parsed(text.encode(errors="replace"), None, name)

    @classmethod
    def _parsed(cls, text: bytes, path: Path | None, name: str) -> Self:
        try:
            content = _Content.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            # Names of fields only: JSON errors and inputs would quote keys.
            where = ".".join(str(part) for part in first["loc"]) or "not JSON"
            raise UsageError(name, f"is no key ring ({where})", "privseg keys create, or restore it") from None
        usable = [epoch for epoch in content.epochs if epoch.key is not None]
        if not usable:
            raise UsageError(name, "holds no key that is not destroyed", "privseg keys create")
        return cls(content, path, usable[-1])

    @property
    def epoch(self) -> str:
        """Id of the epoch whose key is in use here."""
        return self._epoch.id

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """All epochs, the oldest first."""
        return self._content.epochs

    @property
    def approvers(self) -> tuple[Approver, ...]:
        """Whose approvals count."""
        return self._content.approvers

    @property
    def log_key(self) -> bytes:
        """The key of the disclosure log; rotation leaves it alone."""
        return derive(self._content.log_key, "disclosure log")

    def key(self, purpose: str, camera: str) -> bytes:
        """See :class:`privseg.privacy.keys.Secrets`."""
        return derive(_present(self._epoch), purpose, camera)

    def at(self, epoch: str) -> KeyRing:
        """The same ring with the keys of another epoch.

        Raises:
            UsageError: It has no such epoch, or its key was destroyed.
        """
        return KeyRing(self._content, self.path, self._usable(epoch))

    def rotate(self) -> KeyRing:
        """Begin a new epoch; what was scrambled before stays recoverable. Raises UsageError, StorageError."""
        return self._changed(lambda now: {"epochs": (*now.epochs, _new_epoch())})

    def destroy(self, epoch: str) -> KeyRing:
        """Destroy an epoch's key for good.

        Raises:
            UsageError: There is no such key, or it is in use.
            StorageError: The ring cannot be written.
        """

        def change(now: _Content) -> dict[str, Any]:
            gone = KeyRing(now, self.path, now.epochs[-1])._usable(epoch)
            if gone.id == now.epochs[-1].id:
                raise UsageError(f"epoch {epoch}", "is in use", f"privseg keys rotate --key-ring {self.path}, first")
            without = gone.model_copy(update={"key": None, "destroyed": _now()})
            return {"epochs": tuple(without if one.id == gone.id else one for one in now.epochs)}

        return self._changed(change)

    def trust(self, name: str, public_key: bytes) -> KeyRing:
        """Accept approvals signed with the private half of an Ed25519 key (raw, 32 bytes).

        Raises:
            UsageError: The name is none, or taken.
            StorageError: The ring cannot be written.
        """

        def change(now: _Content) -> dict[str, Any]:
            if any(name == known.name or public_key == known.public_key for known in now.approvers):
                raise UsageError(f"approver {name}", "is known already", "give another name and another key")
            try:
                added = Approver(name=name, public_key=public_key, created=_now())
            except ValidationError:
                raise UsageError(f"approver {name}", "is no name", "use letters, digits and . _ @ -") from None
            return {"approvers": (*now.approvers, added)}

        return self._changed(change)

    def _changed(self, change: Callable[[_Content], dict[str, Any]]) -> KeyRing:
        if self.path is None:
            raise UsageError(KEY_RING_VARIABLE, "cannot be changed", "change the file, then set the variable again")
        with locked(self.path):
            now = KeyRing.load(self.path)._content
            content = now.model_copy(update=change(now))
            replace_secret(self.path, _text(content))
        return KeyRing.load(self.path)

    def _usable(self, epoch: str) -> Epoch:
        found = next((one for one in self._content.epochs if one.id == epoch), None)
        if found is None:
            raise UsageError(f"epoch {epoch}", "is not in this key ring", "name the key ring it was scrambled with")
        if found.destroyed is not None:
            fault = f"had its key destroyed on {found.destroyed:%Y-%m-%d}"
            raise UsageError(f"epoch {epoch}", fault, "nothing brings back what was scrambled with it")
        return found

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._content.epochs)} epochs, {self.epoch} in use>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a key ring is not copied or sent")


def open_key_ring(path: Path | None, outputs: Iterable[Path] = ()) -> KeyRing | None:
    """The ring of ``path``, else that of the environment, else none.

    Args:
        path: The key ring's file.
        outputs: Videos to be written: keys live apart from them.

    Raises:
        UsageError: The ring cannot be used, or lies in the folder of one of ``outputs``.
    """
    if path is None:
        text = os.environ.get(KEY_RING_VARIABLE)
        return KeyRing.from_text(text) if text else None
    for out in outputs:
        folder = out.parent.resolve()
        if path.resolve().is_relative_to(folder) or path.absolute().is_relative_to(out.parent.absolute()):
            fault = f"lies in the folder of the video {out}: who copies that gets both"
            raise UsageError(path, fault, "keep keys and videos in folders of their own")
    return KeyRing.load(path)


def _new_epoch() -> Epoch:
    return Epoch(id=secrets.token_hex(4), created=_now(), key=secrets.token_bytes(_KEY_BYTES))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _present(epoch: Epoch) -> bytes:
    if epoch.key is None:
        raise UsageError(f"epoch {epoch.id}", "has no key any more", "choose another epoch")
    return epoch.key


def _text(content: _Content) -> bytes:
    return (json.dumps(content.model_dump(mode="json"), indent=1) + "\n").encode()
