"""A second person's approval to unscramble a part of one video: signed, for one time, and for a limited time.

An approval is a JSON file, signed with Ed25519 (RFC 8032) by a key whose public half the key ring trusts. It is bound
to one sidecar, and so to one video's session; to a window of it, a reason, a requester and an expiry.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privseg.errors import PrivacyViolationPrevented, UsageError
from privseg.privacy.disclosure import os_user
from privseg.privacy.key_ring import Approver
from privseg.privacy.secret_files import create_secret, read_secret

__all__ = ["Approval", "Terms", "approve", "create_approver_key", "read_approval", "read_public_key", "seconds_of"]

_PREFIX: Final = b"privseg approval 1\n"
_LONGEST_SECONDS: Final = 30 * 86_400
_UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}
_WHAT_KEY: Final = "an approver's private key"


class Terms(BaseModel):
    """What an approval says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["privseg approval 1"] = "privseg approval 1"
    video: str = Field(description="its name, for people; the sidecar is what counts")
    sidecar_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    session: str
    camera: str
    start: float = Field(ge=0, allow_inf_nan=False, description="seconds of the video")
    end: float = Field(ge=0, allow_inf_nan=False, description="seconds of the video")
    reason: str = Field(min_length=3)
    requester: str = Field(min_length=1, description="login name of the one who may unscramble")
    approver_user: str = Field(min_length=1, description="login name of the one who approved")
    created: float = Field(description="seconds since 1970, UTC")
    expires: float = Field(description="seconds since 1970, UTC")
    nonce: str = Field(pattern=r"^[0-9a-f]{32}$", description="makes it usable once")


class Approval(BaseModel):
    """Terms and the signature under them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    terms: Terms
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")

    def check(
        self,
        approvers: Sequence[Approver],
        *,
        user: str,
        sidecar_sha256: str,
        session: str,
        start: float,
        end: float,
    ) -> Approver:
        """See that it permits what is asked; whether it was used before is the log's to tell.

        Args:
            approvers: Whose approvals count.
            user: Login name of the one who asks.
            sidecar_sha256: Of the video's sidecar.
            session: Of the video.
            start: Seconds of the video from which
            end: to which people are to be shown.

        Returns:
            Who approved.

        Raises:
            PrivacyViolationPrevented: It does not permit it; the message says why.
        """
        approver = next((one for one in approvers if _is_signed(self, one.public_key)), None)
        if approver is None:
            _refuse("is signed by nobody whom the key ring trusts, or was changed")
        if (self.terms.sidecar_sha256, self.terms.session) != (sidecar_sha256, session):
            _refuse("is for another video, or the video's sidecar was changed since")
        now = time.time()
        if not self.terms.created - 300 <= now < self.terms.expires:
            _refuse(f"is valid from {_utc(self.terms.created)} to {_utc(self.terms.expires)} only")
        if start < self.terms.start or end > self.terms.end:
            _refuse(f"is for {self.terms.start:g} to {self.terms.end:g} s only")
        if user in {self.terms.approver_user, approver.name}:
            _refuse(f"was given by {user}, who asks: it takes a second person")
        if user != self.terms.requester:
            _refuse(f"is for {self.terms.requester}, not for {user}")
        return approver


def approve(
    key: Path,
    *,
    video: str,
    sidecar_sha256: str,
    session: str,
    camera: str,
    start: float,
    end: float,
    reason: str,
    requester: str,
    expires_in: float,
) -> Approval:
    """Sign an approval as the person who runs this.

    Args:
        key: File of the approver's private key.
        video: The video's name.
        sidecar_sha256: Of its sidecar.
        session: Of its recording.
        camera: That it is of.
        start: Seconds of the video from which
        end: to which people may be shown.
        reason: Why.
        requester: Login name of the one who may unscramble.
        expires_in: Seconds from now; at most 30 days.

    Raises:
        UsageError: The key cannot be used, the terms make no sense, or the requester is the approver.
    """
    if not 0 <= start < end:
        raise UsageError("the window", f"{start:g} to {end:g} s is none", "give --from and --to in seconds")
    if not 0 < expires_in <= _LONGEST_SECONDS:
        raise UsageError("--expires-in", "is not between a moment and 30 days", "give it as 30m, 8h or 2d")
    user = os_user()
    if user == requester:
        raise UsageError(f"requester {user}", "is the one who approves", "have a second person approve")
    now = time.time()
    try:
        terms = Terms(
            video=video,
            sidecar_sha256=sidecar_sha256,
            session=session,
            camera=camera,
            start=start,
            end=end,
            reason=reason.strip(),
            requester=requester,
            approver_user=user,
            created=now,
            expires=now + expires_in,
            nonce=secrets.token_hex(16),
        )
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = str(first["loc"][0])
        raise UsageError(f"--{field}", str(first["msg"]), f"correct --{field}") from None
    return Approval(terms=terms, signature=_private_key(key).sign(_signed(terms)).hex())


def read_approval(path: Path) -> Approval:
    """Read an approval; its signature is not checked yet. Raises UsageError."""
    try:
        return Approval.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            path, f"cannot be read ({error.strerror})", "give the file that `privseg approve` wrote"
        ) from None
    except ValidationError:
        raise UsageError(path, "is no approval", "give the file that `privseg approve` wrote") from None


def create_approver_key(path: Path) -> bytes:
    """Make a pair of keys: write the private one (PEM, 0600, a new file), return the public one, 32 bytes.

    Raises:
        UsageError: The file exists.
        StorageError: It cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    create_secret(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return _raw(key.public_key())


def read_public_key(path: Path) -> bytes:
    """Read an Ed25519 public key from PEM, 32 bytes. Raises UsageError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise UsageError(path, f"cannot be read ({error.strerror})", "give a public key in PEM") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(path, "is no public key in PEM", "openssl pkey -in PRIVATE -pubout") from None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(path, "is no Ed25519 key", "openssl genpkey -algorithm ed25519")
    return _raw(key)


def seconds_of(text: str) -> float:
    """``30m``, ``8h`` or ``2d`` in seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,4})([mhd])", text.strip())
    if match is None:
        raise UsageError(text, "is no span of time", "give it as 30m, 8h or 2d")
    return float(match[1]) * _UNITS[match[2]]


def _private_key(path: Path) -> Ed25519PrivateKey:
    text = read_secret(path, _WHAT_KEY)
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(path, f"is not {_WHAT_KEY}", "privseg keys approver NAME --private-key FILE") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(path, "is no Ed25519 key", "privseg keys approver NAME --private-key FILE")
    return key


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _is_signed(approval: Approval, public_key: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            bytes.fromhex(approval.signature), _signed(approval.terms)
        )
    except InvalidSignature:
        return False
    return True


def _signed(terms: Terms) -> bytes:
    return _PREFIX + terms.model_dump_json().encode()


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _refuse(fault: str) -> NoReturn:
    raise PrivacyViolationPrevented("the approval", fault, "have a second person approve: privseg approve --help")
