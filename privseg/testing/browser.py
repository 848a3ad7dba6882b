"""A real browser for tests: Chromium without a window, driven through its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import cv2
import httpx
import numpy as np
import numpy.typing as npt
from websockets.sync.client import ClientConnection, connect

from privseg.errors import ServerUnavailableError

__all__ = ["Browser", "missing_browser"]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_START_SECONDS: Final = 60.0


def missing_browser() -> str | None:
    """The command that installs a browser, or None when there is one."""
    return None if any(map(shutil.which, _NAMES)) else "apt-get install chromium"


class Browser:
    """One page in a browser of its own, between entering and leaving; it stays open whatever it shows.

    Args:
        folder: Where the browser keeps what it keeps; removed by nobody.
        size: Width and height of the page, in pixels.

    Raises:
        ServerUnavailableError: There is no browser, or it does not start.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1400, 900)) -> None:
        program = next(filter(None, map(shutil.which, _NAMES)), None)
        if program is None:
            raise ServerUnavailableError("browser", "is not installed", str(missing_browser()))
        self._folder = folder
        self._number = 0
        self._stack = contextlib.ExitStack()
        self._process = subprocess.Popen(
            [
                program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
                "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
                f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._socket = self._connect()
            self._call(
                "Emulation.setDeviceMetricsOverride",
                width=size[0], height=size[1], deviceScaleFactor=1, mobile=size[0] < 600,
            )  # fmt: skip
        except BaseException:
            self._end()
            raise

    def open(self, address: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression is on the page, as plain data."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path: Path) -> npt.NDArray[np.uint8]:
        """What the page looks like now: uint8 ``(H, W, 3)`` RGB, and a PNG at ``path``."""
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))
        return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _connect(self) -> ClientConnection:
        told, deadline = self._folder / "DevToolsActivePort", time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            lines = told.read_text().split() if told.exists() else []
            if len(lines) >= 2:  # the port is written first
                pages = httpx.get(f"http://127.0.0.1:{lines[0]}/json", timeout=_START_SECONDS).json()
                address = next((page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"), None)
                if address is not None:
                    return self._stack.enter_context(connect(address, max_size=None, open_timeout=_START_SECONDS))
            time.sleep(0.05)
        raise ServerUnavailableError("browser", "did not start", "run chromium --headless by hand and see why")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=_START_SECONDS))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _end(self) -> None:
        self._stack.close()
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
