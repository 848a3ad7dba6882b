"""The way to Triton. Raw frames travel on it, so beyond this machine it is encrypted unless someone says otherwise."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc  # type: ignore[import-untyped]

from privseg.errors import UsageError

__all__ = [
    "Tls",
    "channel_credentials",
    "name_options",
    "open_channel",
    "refuse_plaintext",
    "stays_here",
]

_MESSAGE_BYTES: Final = 2**31 - 1
# gRPC by itself takes messages of 4 MiB at most, and may wait up to two minutes before it looks for a restarted server.
_CHANNEL: Final = [
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_http_proxy", 0),
    # A machine that vanished does not even answer that it is gone. With these two, the kernel gives a connection up
    # when what was sent stays unconfirmed for ten seconds (gRFC A18). The pings themselves are as rare as a Triton
    # with default settings permits, five minutes; one that is pinged more often ends the connection.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
_TARGET: Final = re.compile(r"(?:dns:(?:///)?|ipv4:|ipv6:)?(.+)", re.IGNORECASE)
_HOST: Final = re.compile(r"\[(?P<six>[^\]]*)\](?::\d+)?|(?P<name>[^:]+)(?::\d+)?|(?P<bare>.*)")


_NEXT: Final = "set triton.ssl: true, or triton.insecure: true (--insecure) where the network itself protects them"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files (PEM) of an encrypted channel.

    Attributes:
        root_certificates: Whom to trust; the system's authorities by default.
        private_key: The client's own key, where the server asks who calls.
        certificate_chain: The certificate that belongs to it.
        server_name: The name the server's certificate must bear, where it is addressed by its number.
    """

    root_certificates: Path | None = None
    private_key: Path | None = None
    certificate_chain: Path | None = None
    server_name: str | None = None


def refuse_plaintext(url: str, *, encrypted: bool, insecure: bool, next_step: str = _NEXT) -> None:
    """Refuse to send raw frames in clear to another machine, unless ``insecure`` says that the network protects them.

    Raises:
        UsageError: ``url`` does not name this machine alone, and the channel is neither encrypted nor wanted in clear.
    """
    if encrypted or insecure or stays_here(url):
        return
    fault = "is another machine, and raw frames would go there in clear"
    raise UsageError(f"Triton at {url}", fault, next_step)


def open_channel(url: str, tls: Tls | None, *, insecure: bool) -> grpc.Channel:
    """A channel to Triton's gRPC service; does not connect yet.

    Raises:
        UsageError: As :func:`refuse_plaintext`; or a file of ``tls`` cannot be read.
    """
    refuse_plaintext(url, encrypted=tls is not None, insecure=insecure)
    if tls is None:
        return grpc.insecure_channel(url, options=_CHANNEL)
    return grpc.secure_channel(url, channel_credentials(tls), options=_CHANNEL + name_options(tls))


def name_options(tls: Tls | None) -> list[tuple[str, str]]:
    """Channel options that hold the server to ``tls.server_name``."""
    return [("grpc.ssl_target_name_override", tls.server_name)] if tls and tls.server_name else []


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Read the files.

    Raises:
        UsageError: One cannot be read.
    """
    files = (tls.root_certificates, tls.private_key, tls.certificate_chain)
    try:
        return grpc.ssl_channel_credentials(*(file.read_bytes() if file else None for file in files))
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
        raise UsageError(error.filename, fault, "correct the path of the certificate or key") from None


def stays_here(url: str) -> bool:
    """Whether a gRPC target can only be this machine: a socket file, ``localhost``, loopback addresses."""
    if url.startswith(("unix:", "unix-abstract:")):
        return True
    target = _TARGET.fullmatch(url)
    return target is not None and all(_is_loopback(address) for address in target[1].split(","))


def _is_loopback(address: str) -> bool:
    parts = _HOST.fullmatch(address)
    host = next((part for part in parts.groups() if part is not None), "") if parts else ""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
