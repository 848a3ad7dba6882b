"""Every error privseg raises on purpose, and the exit code each one ends a command with.

::

    PrivsegError                    1   never raised itself
    ├── UsageError                  2   a wrong argument, parameter, configuration or path
    ├── DataError                   3   an image, mask, dataset, video or manifest that cannot be used
    ├── GateFailedError             4   data or a model did not pass a check that guards the next step
    ├── ServerUnavailableError      5   a server (Triton, camera) is down, refused, or a port is taken
    ├── PrivacyViolationPrevented   6   frames left blank, or an output refused, because going on could
    │                                   have shown a person
    └── StorageError                7   a disk is full or a place cannot be written

Other exit codes: 0 success, 1 a bug in privseg (with a traceback), 130 interrupted.

A message is one line: the object, the fault, and the next command or action. Build errors with all three, so
that nobody has to guess what to do.
"""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import ClassVar

__all__ = [
    "DataError",
    "GateFailedError",
    "PrivacyViolationPrevented",
    "PrivsegError",
    "ServerUnavailableError",
    "StorageError",
    "UsageError",
]


class PrivsegError(Exception):
    """Base of every deliberate error.

    Args:
        subject: The object at fault: a file, a sample id, a camera, a model version.
        fault: What is wrong with it.
        next_step: The command to run or the thing to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, subject: object, fault: str, next_step: str) -> None:
        # A file's name may hold line breaks and bytes that are no text; a message is one line.
        self.subject = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(subject))
        self.fault = " ".join(fault.split())
        self.next_step = " ".join(next_step.split())
        super().__init__(f"{self.subject}: {self.fault}. Next: {self.next_step}")

    def __reduce__(self) -> tuple[type[PrivsegError], tuple[str, str, str]]:
        """Rebuild from the three parts, so that the error crosses process borders whole."""
        return type(self), (self.subject, self.fault, self.next_step)

    def save(self, file: Path) -> None:
        """Write the error where a waiting parent process finds it; the first one written stays.

        A disk without room for it is no second error: the first one was shown already, and decides the exit code.
        """
        if not file.exists():
            record = {"subject": self.subject, "fault": self.fault, "next_step": self.next_step}
            with contextlib.suppress(OSError):
                file.write_text(json.dumps({"kind": type(self).__name__, **record}), encoding="utf-8")

    @staticmethod
    def load(file: Path) -> PrivsegError:
        """Rebuild the error that `save` wrote, of the same class."""
        record = json.loads(file.read_text(encoding="utf-8"))
        name = record.pop("kind")
        kind = next(kind for kind in PrivsegError.__subclasses__() if kind.__name__ == name)
        return kind(**record)


class UsageError(PrivsegError):
    """A wrong argument, parameter, configuration or path."""

    exit_code = 2


class DataError(PrivsegError):
    """An image, mask, dataset, video or manifest that cannot be used."""

    exit_code = 3


class GateFailedError(PrivsegError):
    """Data or a model did not pass a check that guards the next step."""

    exit_code = 4


class ServerUnavailableError(PrivsegError):
    """A server is down, refused the request, or its port is taken."""

    exit_code = 5


class PrivacyViolationPrevented(PrivsegError):  # noqa: N818 - names an event that was stopped, not a failure
    """Frames left blank, or an output refused, because going on could have shown a person."""

    exit_code = 6


class StorageError(PrivsegError):
    """A disk is full or a place cannot be written."""

    exit_code = 7

    @classmethod
    def from_os_error(cls, subject: object, error: OSError) -> StorageError:
        """Turn an OSError met while writing ``subject`` into one line with a remedy."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return cls(subject, "no space left on the disk", "free space there, then run the same command again")
        fault = error.strerror or str(error)
        return cls(subject, f"cannot be written ({fault})", "check the path and its permissions, then try again")
