"""Every server that is to serve the model, each addressed directly.

An endpoint is ``host:port``, one server, or ``dns:///name:port``: a name, like that of a headless Kubernetes service,
that resolves to one address for each replica. Behind a balancing address a load would reach one replica by chance.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from privseg.errors import GateFailedError, ServerUnavailableError, UsageError
from privseg.serving.access import Access
from privseg.serving.admin import Endpoint

__all__ = ["Changes", "Replicas", "resolve"]

_DNS: Final = "dns:///"
_ROUNDS: Final = 10  # a service that changes this often while one model is published is not stable


@dataclass(frozen=True)
class Changes:
    """Replicas that came or went while something was done: their addresses."""

    came: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In words; '' if nothing changed."""
        parts = [(self.came, "came"), (self.gone, "went")]
        return "; ".join(f"{', '.join(urls)} {verb} meanwhile" for urls, verb in parts if urls)


def resolve(endpoints: Sequence[str]) -> list[str]:
    """Return the address ``host:port`` of every replica, each once, in the order of the endpoints.

    Raises:
        UsageError: A ``dns:///`` endpoint names no port.
        ServerUnavailableError: A name has no address: no replica is ready, or the name is wrong.
    """
    return list(_named(endpoints))


def _named(endpoints: Sequence[str]) -> dict[str, str | None]:
    """Every address, with the name that led there and that its certificate bears; None where it was given itself."""
    names: dict[str, str | None] = {}
    for endpoint in endpoints:
        if not endpoint.startswith(_DNS):
            names.setdefault(endpoint, None)
            continue
        name = endpoint.removeprefix(_DNS).rpartition(":")[0]
        for address in _addresses(endpoint):
            names.setdefault(address, name)
    return names


def _addresses(endpoint: str) -> list[str]:
    name, _, port = endpoint.removeprefix(_DNS).rpartition(":")
    if not name or not (port.isascii() and port.isdigit()):
        raise UsageError(endpoint, "names no host and port", "write dns:///triton-headless:8001")
    try:
        found = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:  # the latter: no such name can be
        fault = f"resolves to no address ({getattr(error, 'strerror', None) or error})"
        raise ServerUnavailableError(endpoint, fault, "check that a replica is ready, then retry") from None
    pairs = {(str(entry[4][0]), int(entry[4][1])) for entry in found}
    return [f"[{host}]:{number}" if ":" in host else f"{host}:{number}" for host, number in sorted(pairs)]


class Replicas:
    """Connections to all replicas; names are resolved on entry, and again by ``follow``.

    Args:
        endpoints: See the module.
        access: How they are spoken to.
    """

    def __init__(self, endpoints: Sequence[str], access: Access | None = None) -> None:
        self._endpoints = list(endpoints)
        self._access = access or Access()
        self._servers: dict[str, Endpoint] = {}

    def __enter__(self) -> Self:
        for url, name in _named(self._endpoints).items():
            self._servers[url] = Endpoint(url, self._access.named(name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.close()

    @property
    def servers(self) -> list[Endpoint]:
        """The replicas known now."""
        return list(self._servers.values())

    @property
    def urls(self) -> list[str]:
        """Their addresses."""
        return list(self._servers)

    def require_live(self) -> None:
        """Raise ServerUnavailableError unless every replica answers."""
        for server in self.servers:
            server.require_live()

    def each(self, action: Callable[[Endpoint], None]) -> Changes:
        """Do something on every replica, and on those that come meanwhile, until the names bring no new one.

        A replica that cannot be reached and whose name no longer lists it has gone; that is no fault.

        Returns:
            Which came and which went.

        Raises:
            GateFailedError: Replicas kept coming; or what ``action`` raises.
            ServerUnavailableError: A replica that should be there cannot be reached.
        """
        came: list[str] = []
        gone: list[str] = []
        todo = self.servers
        for _ in range(_ROUNDS):
            for server in todo:
                try:
                    action(server)
                except ServerUnavailableError:
                    if server.url in resolve(self._endpoints):
                        raise
            changes = self._follow()
            came += changes.came
            gone += changes.gone
            if not changes.came:
                return Changes(tuple(came), tuple(gone))
            todo = [self._servers[url] for url in changes.came]
        raise GateFailedError(", ".join(self._endpoints), "its replicas keep changing", "retry when they are stable")

    def _follow(self) -> Changes:
        now = _named(self._endpoints)
        gone = [url for url in self._servers if url not in now]
        came = [url for url in now if url not in self._servers]
        for url in gone:
            self._servers.pop(url).close()
        for url in came:
            self._servers[url] = Endpoint(url, self._access.named(now[url]))
        return Changes(tuple(came), tuple(gone))
