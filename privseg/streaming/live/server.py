"""Serving the live page from a thread: on this machine alone, unless told otherwise."""

from __future__ import annotations

import socket
import threading
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from privseg.errors import ServerUnavailableError
from privseg.streaming.live.config import LiveConfig

__all__ = ["LiveServer"]

_START_SECONDS: Final = 30.0


class LiveServer:
    """A running page; close it to free the port.

    Args:
        app: See :func:`privseg.streaming.live.app.create_app`.
        config: Where.

    Raises:
        ServerUnavailableError: The port is taken, the address is not ours, or the certificate cannot be used.
    """

    def __init__(self, app: FastAPI, config: LiveConfig) -> None:
        where = f"{config.address}:{config.port}"
        try:
            listening = socket.create_server((config.address, config.port))
        except OSError as error:
            fault = f"cannot serve the live page ({error.strerror})"
            raise ServerUnavailableError(where, fault, "choose another live.port") from None
        try:
            settings = uvicorn.Config(
                app, access_log=False, log_level="warning", server_header=False, lifespan="off", ws="none",
                timeout_graceful_shutdown=1, ssl_certfile=config.certificate, ssl_keyfile=config.key,
            )  # fmt: skip
            settings.load()  # reads the certificate
        except (OSError, ValueError) as error:
            listening.close()
            fault = f"cannot use the certificate ({type(error).__name__})"
            raise ServerUnavailableError(where, fault, "check live.certificate and live.key") from None
        self._server = _Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="live page", daemon=True
        )
        #: where the page is
        self.url = f"{'https' if config.tls else 'http'}://{config.address}:{listening.getsockname()[1]}"
        self._thread.start()
        if not self._server.is_up.wait(_START_SECONDS):
            raise ServerUnavailableError(where, "did not start to serve the live page", "try again")

    def close(self) -> None:
        """Stop serving; streams end within a second."""
        self._server.should_exit = True
        self._thread.join(_START_SECONDS)


class _Server(uvicorn.Server):
    """Tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.is_up.set()
