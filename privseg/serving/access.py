"""How a publisher speaks to servers that others run: encrypted, and with the key that model control asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from privseg.errors import UsageError
from privseg.triton_channel import Tls

__all__ = ["Access"]

_ADMIN_HEADER: Final = "triton-grpc-protocol-admin-key"
_ADMIN_KEY: Final = "PRIVSEG_TRITON_ADMIN_KEY"
_TLS: Final = "PRIVSEG_TRITON_TLS"
_INSECURE: Final = "PRIVSEG_TRITON_INSECURE"
_ROOTS: Final = "PRIVSEG_TRITON_ROOT_CERTIFICATES"
_KEY: Final = "PRIVSEG_TRITON_PRIVATE_KEY"
_CHAIN: Final = "PRIVSEG_TRITON_CERTIFICATE_CHAIN"


@dataclass(frozen=True, slots=True)
class Access:
    """What every call to a server takes.

    Attributes:
        admin_key: Value of the restricted-protocol header ``admin-key``, where the server wants one.
        tls: Files of the encrypted channel; None: in clear.
        insecure: What may be read on the way (the key, an audit's clips) goes to another machine in clear.
    """

    admin_key: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    insecure: bool = False

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read ``PRIVSEG_TRITON_ADMIN_KEY``, ``…_TLS``, ``…_ROOT_CERTIFICATES`` and so on.

        Raises:
            UsageError: A switch is neither 1 nor 0, a file is named that would not be used, or the key is none.
        """
        given = os.environ if variables is None else variables
        encrypted, insecure = _switch(given, _TLS), _switch(given, _INSECURE)
        roots, key, chain = (Path(given[name]) if given.get(name) else None for name in (_ROOTS, _KEY, _CHAIN))
        if not encrypted and (roots or key or chain):
            named = next(name for name in (_ROOTS, _KEY, _CHAIN) if given.get(name))
            raise UsageError(named, "is given, but the channel is not encrypted", f"set {_TLS}=1")
        if (key is None) != (chain is None):
            raise UsageError(_KEY if key else _CHAIN, "is given alone", f"give both, {_KEY} and {_CHAIN}")
        admin_key = given.get(_ADMIN_KEY, "").strip()
        if not (admin_key.isascii() and (not admin_key or admin_key.isprintable())):
            raise UsageError(_ADMIN_KEY, "holds what no header can: not printable ASCII", "correct it")
        return cls(admin_key or None, Tls(roots, key, chain) if encrypted else None, insecure)

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with every call."""
        return {_ADMIN_HEADER: self.admin_key} if self.admin_key else {}

    def named(self, name: str | None) -> Access:
        """The same for a server that is addressed by its number, and whose certificate bears ``name``."""
        return self if self.tls is None or name is None else replace(self, tls=replace(self.tls, server_name=name))


def _switch(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name, "").strip().lower()
    if value not in {"", "0", "1", "false", "true"}:
        raise UsageError(name, "is neither 1 nor 0", f"set {name}=1, or unset it")
    return value in {"1", "true"}
