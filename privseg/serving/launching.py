"""How a server process is started: ports, log, a private /dev/shm, and its end when its parent ends.

Triton's Python backend hands pictures to its stub through files in ``/dev/shm`` that every user may read (seen with
2.51: mode 0644 whatever the umask). A server therefore gets a ``/dev/shm`` of its own, a mount that nobody else sees
and that is gone with its last process. Where neither root's rights nor a user namespace permit that, the stub closes
its file to others before it takes requests (``onnx_backend/model.py``); who opened the file earlier keeps it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from privseg.errors import ServerUnavailableError
from privseg.serving.triton_state import LOOPBACK

__all__ = ["address_was_taken", "choose_ports", "launch_child", "launch_detached", "sealed", "why_it_ended"]

PRIVATE_WAYS: Final = (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount"))  # as root; as anybody
_PROPAGATION: Final = ("--propagation", "slave")  # disks mounted later are still seen
_MOUNT: Final = 'mount -t tmpfs -o mode=0700,nosuid,nodev privseg /dev/shm && exec "$@"'
# A core dump would hold pictures. Without memory in it (filter 0) it is harmless even where a program collects it,
# which the limit does not prevent.
_NO_CORE: Final = 'ulimit -c 0; { echo 0 >/proc/self/coredump_filter; } 2>/dev/null; exec "$@"'
_ERROR_LINE: Final = re.compile(r"^(error:|[EF]\d{4} )")
_TAKEN: Final = re.compile(r"failed to start \w+ service: .*already in use")


def sealed(command: list[str], environment: dict[str, str]) -> list[str]:
    """Wrap a server's command so that no other user sees its pictures: own ``/dev/shm``, no core dump.

    The wrappers replace each other, so the process id stays the server's.
    """
    for way in PRIVATE_WAYS:
        own = [*way, *_PROPAGATION, "/bin/sh", "-c", _MOUNT, "sh"]
        with contextlib.suppress(OSError):  # no such program
            if subprocess.run([*own, "true"], env=environment, capture_output=True, check=False).returncode == 0:
                break
    else:
        own = []
        print("no /dev/shm of its own for Triton on this machine: its files there get mode 0600", file=sys.stderr)
    return [*own, "/bin/sh", "-c", _NO_CORE, "sh", *command]


def launch_child(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server, sealed, that the kernel ends when the thread that started it ends, even by SIGKILL."""
    setpriv = shutil.which("setpriv")  # util-linux; it execs, so the process id stays the server's
    with log.open("wb") as output:
        return subprocess.Popen(
            # Innermost, for a change of credentials on the way would clear it.
            sealed([*([setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []), *command], environment),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal reaches us, and we end the server in order
        )


def launch_detached(command: list[str], environment: dict[str, str], log: Path, *, pass_descriptor: int) -> int:
    """Start a process that is nobody's child, for the shell between us ends at once; return its process id.

    Its output goes to ``log``; of our files it gets ``pass_descriptor`` alone.
    """
    with log.open("wb") as output:
        shell = subprocess.run(
            # Its standard output is the log, or the pipe that brings us the process id would stay open.
            ["/bin/sh", "-c", 'setsid "$@" >&2 & echo $!', "sh", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            pass_fds=(pass_descriptor,),
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


def address_was_taken(log: Path) -> bool:
    """Return whether the log says that a port was in use when the server wanted it."""
    return _TAKEN.search(log.read_text(encoding="utf-8", errors="replace")) is not None


def why_it_ended(log: Path) -> str:
    """Return the log line that says why the server ended: its last error, else its last line."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or ["its log is empty"])[-1][:400]
