"""A network camera for tests: a real RTSP server on this machine that plays a file, without transcoding it."""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote

from privseg.errors import ServerUnavailableError

__all__ = ["RtspServer", "missing_rtsp_packages"]

_PYTHON = "/usr/bin/python3"  # Debian's own: GStreamer's bindings are built for it alone
_SCRIPT = Path(__file__).with_name("_rtsp_server.py")
_PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)
_PROBE = (
    "import gi; gi.require_version('GstRtspServer', '1.0')\n"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
    "raise SystemExit(0 if all(Gst.ElementFactory.find(name) for name in "
    "('qtdemux', 'h264parse', 'rtph264pay', 'appsrc', 'x264enc')) else 1)"
)


def missing_rtsp_packages() -> str | None:
    """The command that installs what the server needs, or None when all of it is there."""
    if Path(_PYTHON).exists():
        probe = subprocess.run([_PYTHON, "-I", "-c", _PROBE], capture_output=True, check=False)
        if probe.returncode == 0:
            return None
    return f"apt-get install {_PACKAGES}"


class RtspServer:
    """A camera at ``url`` between ``start`` and ``stop``; as a context manager, inside its block.

    Every client gets the stream from its first frame on, at the file's own pace, on 127.0.0.1.

    Args:
        path: A video file with H.264 video (MP4, MKV); a moving test pattern, 320 × 240 at 15 a second, when omitted.
        credentials: User name and password to ask for.
        loop: Start the file again when it ends; otherwise the stream ends with it.
        port: Port to take, for a camera that comes back where it was; 0 takes a free one at the first start and keeps
            it.
        record: A media server instead, which keeps what a client sends in this folder, as Matroska files.
        udp: Send pictures over UDP and in no other way; otherwise over TCP and in no other way.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        credentials: tuple[str, str] | None = None,
        loop: bool = True,
        port: int = 0,
        udp: bool = False,
        record: Path | None = None,
    ) -> None:
        self.path = path
        self.credentials = credentials
        self.loop = loop
        self.port = port
        self.udp = udp
        self.record = record
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Address of the stream, credentials included."""
        if self.credentials is None:
            return self.bare_url
        user, password = (quote(part, safe="") for part in self.credentials)
        return self.bare_url.replace("rtsp://", f"rtsp://{user}:{password}@")

    @property
    def bare_url(self) -> str:
        """Address of the stream without credentials."""
        return f"rtsp://127.0.0.1:{self.port}/camera"

    @property
    def pid(self) -> int | None:
        """Process id of the running server, for a test that wants to kill or freeze it; None when it is stopped."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server and wait until it listens. Does nothing when it runs.

        Raises:
            ServerUnavailableError: Packages are missing, the port is taken, or the file cannot be served.
        """
        if self._process is not None:
            return
        user, password = self.credentials or (None, None)
        path = None if self.path is None else str(self.path.resolve())
        order = {"path": path, "loop": self.loop, "port": self.port, "mount": "/camera", "udp": self.udp}
        order["record"] = None if self.record is None else str(self.record.resolve())
        try:
            process = subprocess.Popen(
                [_PYTHON, "-I", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        except FileNotFoundError:
            raise ServerUnavailableError(
                "RTSP server", f"{_PYTHON} does not exist", str(missing_rtsp_packages())
            ) from None
        self._process = process
        try:
            _write(process.stdin, json.dumps(order | {"user": user, "password": password}) + "\n")
            answer = json.loads(_read_line(process.stdout, timeout=60) or "{}")
        except BaseException:
            self.stop()
            raise
        if "port" not in answer:
            self.stop()
            fault = answer.get("error", "ended before it was ready").rstrip(".")
            advice = missing_rtsp_packages() or "give an H.264 file that exists, and a free port"
            raise ServerUnavailableError("RTSP server", fault, advice)
        self.port = int(answer["port"])

    def stop(self) -> None:
        """Stop the server; clients lose their connection. Does nothing when it is stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):  # a dead server no longer reads
            _pipe(process.stdin).close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it is frozen
            process.kill()
            process.wait()
        _pipe(process.stdout).close()

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the server was started without pipes")
    return stream


def _write(stream: IO[str] | None, text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # the missing answer tells
        _pipe(stream).write(text)
        _pipe(stream).flush()


def _read_line(stream: IO[str] | None, timeout: float) -> str:
    """The first line of a pipe, empty if none comes in time."""
    received, deadline = b"", time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(pipe := _pipe(stream).buffer, selectors.EVENT_READ)  # type: ignore[attr-defined]
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = pipe.read1()
            received += part
            if not part or b"\n" in received:
                break
    return received.decode(errors="replace").partition("\n")[0]
