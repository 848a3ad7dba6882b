"""The disclosure log: who brought scrambled people back, when, why, and with whose approval; append-only and sealed.

One JSON object a line. Each line has its number, the hash of the line before and an HMAC by the key ring's own log key,
so that nobody without the ring can change, add, reorder or remove one unnoticed. A head record beside the log counts
the lines, so that cutting off the end is noticed, too. Who can read the ring can forge its log, and who can put both
files back to an earlier state hides what came after: copy the log elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import pwd
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

from privseg.errors import DataError, PrivacyViolationPrevented, StorageError, UsageError
from privseg.privacy.key_ring import KEY_RING_VARIABLE, KeyRing
from privseg.privacy.secret_files import create_secret, locked, read_secret, replace_secret

__all__ = ["DisclosureLog", "os_user"]

_START: Final = "0" * 64
_SEAL: Final = "hmac"
_LOGIN_ID: Final = Path("/proc/self/loginuid")
_NO_LOGIN: Final = 2**32 - 1

Entry = dict[str, Any]


class DisclosureLog:
    """The log beside a key ring: ``RING.log``, and ``RING.log-head``.

    Raises:
        UsageError: The ring is not one in a file.
    """

    def __init__(self, ring: KeyRing) -> None:
        if ring.path is None:
            raise UsageError(KEY_RING_VARIABLE, "has no place for the disclosure log", "name a file with --key-ring")
        self.path = ring.path.with_name(f"{ring.path.name}.log")
        self._head = ring.path.with_name(f"{ring.path.name}.log-head")
        self._ring_path = ring.path
        self._key = ring.log_key

    def create(self) -> None:
        """Begin an empty log; only a new key ring gets one. Raises UsageError where there is one, StorageError."""
        create_secret(self.path, b"")
        create_secret(self._head, self._head_text(0, _START))

    def append(self, event: str, facts: Mapping[str, Any], *, once: str | None = None) -> Entry:
        """Add an entry; when this returns, it is on the disk.

        Args:
            event: What happened.
            facts: About it: plain data without any pixel or key.
            once: Name of a fact; refused if an earlier entry of the same event has the same value for it.

        Returns:
            The entry.

        Raises:
            DataError: The log is broken; nothing is added to it.
            PrivacyViolationPrevented: What may happen once happened before.
            StorageError: It cannot be written.
        """
        with locked(self._ring_path):
            entries, last, size = self._checked()
            if once is not None and any(e["event"] == event and e.get(once) == facts[once] for e in entries):
                fault = "was used before, and an approval is for one time"
                raise PrivacyViolationPrevented("the approval", fault, "ask for another one")
            entry: Entry = {
                "sequence": len(entries) + 1,
                "previous": last,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "event": event,
                **facts,
            }
            entry[_SEAL] = self._seal(entry)
            line = _canonical(entry) + b"\n"
            self._write(line, size)
            replace_secret(self._head, self._head_text(len(entries) + 1, hashlib.sha256(line).hexdigest()))
        return entry

    def verify(self) -> list[Entry]:
        """Check every line and the head; returns the entries.

        Raises:
            DataError: A line was changed, added, moved or removed; the message names the first one that does not fit.
            UsageError: The log or its head is gone, or others than its owner may read it.
        """
        with locked(self._ring_path):
            return self._checked()[0]

    def _checked(self) -> tuple[list[Entry], str, int]:
        """Entries, hash of the last line, and length in bytes up to its end."""
        head = self._read_head()
        # A line without an end was being written when the machine stopped; what it was to tell of never began.
        lines = read_secret(self.path, "the disclosure log").splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        entries: list[Entry] = []
        last = _START
        for number, line in enumerate(lines, 1):
            entries.append(self._entry(line, number, last))
            last = hashlib.sha256(line).hexdigest()
            if number == head["count"] and last != head["last"]:
                self._broken(number, "is not the one that the head record names")
        # One line more than the head counts: the machine stopped between the two.
        if len(lines) < head["count"]:
            self._broken(len(lines) + 1, f"is missing: {head['count']} were written")
        return entries, last, sum(map(len, lines))

    def _entry(self, line: bytes, number: int, previous: str) -> Entry:
        try:
            entry = json.loads(line)
            seal = entry.pop(_SEAL)
            fits = hmac.compare_digest(seal, self._seal(entry))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._broken(number, "is no entry")
        if not fits:
            self._broken(number, "was changed")
        if entry["sequence"] != number or entry["previous"] != previous:
            self._broken(number, "does not follow the one before: a line was removed, added or moved")
        return {**entry, _SEAL: seal}

    def _broken(self, number: int, fault: str) -> NoReturn:
        step = "find out who touched it; unscrambling stays refused until a copy of the log is put back"
        raise DataError(self.path, f"line {number} {fault}", step)

    def _read_head(self) -> Entry:
        text = read_secret(self._head, "the head record of the disclosure log")
        try:
            head = json.loads(text)
            if hmac.compare_digest(head.pop(_SEAL), self._seal(head)):
                return dict(head)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise DataError(self._head, "was changed, or belongs to another key ring", "put a copy of it back")

    def _head_text(self, count: int, last: str) -> bytes:
        head = {"count": count, "last": last}
        return _canonical(head | {_SEAL: self._seal(head)}) + b"\n"

    def _seal(self, entry: Mapping[str, Any]) -> str:
        return hmac.new(self._key, _canonical(entry), hashlib.sha256).hexdigest()

    def _write(self, line: bytes, size: int) -> None:
        """Put a line at ``size``, which is the end but for a line that was never finished."""
        try:
            with self.path.open("r+b", buffering=0) as file:
                file.truncate(size)
                file.seek(size)
                try:
                    if file.write(line) != len(line):
                        raise OSError(28, "no space left")  # noqa: TRY301 - as a full disk would
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise StorageError.from_os_error(self.path, error) from None


def os_user() -> str:
    """Login name of whoever runs this process; the environment has no say.

    Where the system keeps the user id of the login through ``su`` and ``sudo`` (Linux's audit login id), it is that
    person's; else it is the one this process runs under.
    """
    number = os.getuid()
    with contextlib.suppress(OSError, ValueError):
        login = int(_LOGIN_ID.read_text(encoding="ascii"))
        number = number if login == _NO_LOGIN else login
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def _canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
