"""What a source's name says: a path, or the address of a camera whose password nobody may read."""

from __future__ import annotations

import re
from typing import Final

from privseg.errors import UsageError

__all__ = ["DEVICE", "HTTP_SCHEMES", "LIVE_SCHEMES", "SYNTHETIC", "redact", "url_scheme"]

#: a camera of this machine, by FFmpeg's name for Linux' video devices
DEVICE: Final = "v4l2"
#: a camera that is none: its pictures are drawn
SYNTHETIC: Final = "synthetic"
#: cameras, by the way they are spoken to
LIVE_SCHEMES: Final = frozenset({DEVICE, SYNTHETIC, "rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp"})
#: cameras or recordings; only opening one tells
HTTP_SCHEMES: Final = frozenset({"http", "https"})

_URL: Final = re.compile(r"\s*([a-z][a-z0-9+.-]*):(?=/)", re.IGNORECASE)
_DEVICE_PATH: Final = re.compile(r"/dev/video\d+")
_SECRET: Final = re.compile(
    r"((?:pass\w*|pwd|token|key|secret)\w*(?:[=:]|%3[ad])|/(?:pass|passwd|password|pwd|token|key|secret)/).*",
    re.IGNORECASE | re.DOTALL,
)


def redact(uri: str) -> str:
    """The URI fit for messages; a path stays as it is.

    Parsers disagree on a password that holds ``/``, ``#``, ``?`` or ``@``, so none is asked: everything before the
    last ``@`` goes, and so do the query, the fragment, and what follows ``password=`` and its like in the path.
    """
    scheme = _URL.match(uri)
    if scheme is None:
        return uri
    rest = uri[scheme.end() :]
    login, at, place = rest.rpartition("@")
    slashes = "//" if rest.startswith("//") else "/"
    path, query, _ = place.removeprefix("" if at else slashes).partition("?")
    # A query or path may hold an @ too: what follows is then no host, and may be secret.
    if at and ("=" in login + path or _SECRET.search(login)):
        return f"{scheme[1].lower()}:{slashes}***"
    path = _SECRET.sub(r"\1***", path.partition("#")[0])
    return f"{scheme[1].lower()}:{slashes}{'***@' if login else ''}{path}{'?***' if query else ''}"


def url_scheme(uri: str) -> str | None:
    """The scheme of an address privseg can read, in lower case; None for a path, :data:`DEVICE` for a video device's.

    Raises:
        UsageError: It looks like an address, of a kind that is not known; the message holds no password.
    """
    if _DEVICE_PATH.fullmatch(uri):
        return DEVICE
    looks_like = _URL.match(uri)
    if looks_like is None:
        return None
    scheme = looks_like[1].lower()
    addresses = (LIVE_SCHEMES | HTTP_SCHEMES) - {DEVICE}
    if scheme not in addresses or not uri.startswith(f"{looks_like[1]}://"):
        known = ", ".join(sorted(f"{known}://" for known in addresses))
        raise UsageError(redact(uri), "is no address of a known kind", f"give a path (./NAME) or one of {known}")
    return scheme
