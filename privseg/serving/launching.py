"""How a server process is started: ports, log, and what becomes of it when its parent ends."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final

from privseg.errors import ServerUnavailableError
from privseg.serving.triton_state import LOOPBACK

__all__ = ["choose_ports", "launch_child", "launch_detached", "why_it_ended"]

_ERROR_LINE: Final = re.compile(r"^(error:|[EF]\d{4} )")


def launch_child(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server that the kernel ends when the thread that started it ends, even by SIGKILL."""
    setpriv = shutil.which("setpriv")  # util-linux; it execs, so the process id stays the server's
    with log.open("wb") as output:
        return subprocess.Popen(
            [*([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []), *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal reaches us, and we end the server in order
        )


def launch_detached(command: list[str], environment: dict[str, str], log: Path) -> int:
    """Start a server that is nobody's child, for the shell between us and it ends at once; return its process id."""
    with log.open("wb") as output:
        shell = subprocess.run(
            ["/bin/sh", "-c", 'setsid "$@" >&2 & echo $!', "sh", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            check=True,
        )
    return int(shell.stdout)


def choose_ports(wanted: tuple[int | None, ...]) -> list[int]:
    """Return distinct ports that were free a moment ago: those named, any for None.

    Raises:
        ServerUnavailableError: A named port is taken; the message says which.
    """
    with contextlib.ExitStack() as stack:
        chosen = []
        for port in wanted:
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free to listen on
            try:
                probe.bind((LOOPBACK, port or 0))
                probe.listen(1)
            except OSError as error:
                fault = f"cannot be used ({error.strerror})"
                raise ServerUnavailableError(
                    f"port {port} on {LOOPBACK}", fault, "free it or name another port"
                ) from None
            chosen.append(int(probe.getsockname()[1]))
    return chosen


def why_it_ended(log: Path) -> str:
    """Return the log line that says why the server ended: its last error, else its last line."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or ["its log is empty"])[-1][:400]
