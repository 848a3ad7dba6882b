"""Where the live page is, and who may see it: the configuration alone, which needs no web server."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from privseg.streaming.live.access import AccessConfig

__all__ = ["LiveConfig"]


class LiveConfig(BaseModel):
    """Where the live page is, and who may see it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field("127.0.0.1", description="whom to listen to: this machine, unless told otherwise")
    port: int = Field(8070, ge=0, le=65535, description="0 takes a free one")
    access: AccessConfig = Field(AccessConfig(), description="without it everybody on this machine is an operator")
    certificate: Path | None = Field(None, description="TLS: the certificate chain (PEM)")
    key: Path | None = Field(None, description="TLS: its private key (PEM)")
    insecure: bool = Field(False, description="serve other machines in clear; only behind a proxy that encrypts")
    max_viewers: int = Field(32, ge=1, le=1000, description="streams at once")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if not _is_here(self.address):
            if self.access.open:
                raise ValueError("an address that other machines reach needs access: tokens, or a proxy's secret")
            if self.certificate is None and not self.insecure:
                raise ValueError("an address that other machines reach needs certificate and key, or insecure: true")
        return self

    @property
    def tls(self) -> bool:
        """Whether it is served by HTTPS."""
        return self.certificate is not None


def _is_here(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
