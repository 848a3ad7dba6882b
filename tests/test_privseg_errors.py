"""The error tree: exit codes, one-line messages, and crossing process borders."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pytest

from privseg import errors
from privseg.errors import DataError, PrivsegError, StorageError

KINDS = [getattr(errors, name) for name in errors.__all__ if name != "PrivsegError"]


def test_every_class_has_its_own_documented_exit_code() -> None:
    codes = {kind.__name__: kind.exit_code for kind in KINDS}
    assert codes == {
        "UsageError": 2,
        "DataError": 3,
        "GateFailedError": 4,
        "ServerUnavailableError": 5,
        "PrivacyViolationPrevented": 6,
        "StorageError": 7,
    }
    assert errors.__doc__ is not None
    for name in codes:
        assert name in errors.__doc__


def test_a_message_is_one_line_with_object_fault_and_next_step() -> None:
    error = DataError("a/b.jpg", "is\ntruncated", "fetch it\nagain")
    assert str(error) == "a/b.jpg: is truncated. Next: fetch it again"


def test_a_name_that_is_no_text_makes_no_second_line() -> None:
    error = DataError("new\nline\x1b[2J \udcff für 人.jpg", "is bad", "rename it")
    assert str(error) == "new\\nline\\x1b[2J \\udcff für 人.jpg: is bad. Next: rename it"


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling_and_a_file(kind: type[PrivsegError], tmp_path: Path) -> None:
    error = kind("object", "fault", "next")
    error.save(tmp_path / "e.json")
    for copy in (pickle.loads(pickle.dumps(error)), PrivsegError.load(tmp_path / "e.json")):  # noqa: S301
        assert type(copy) is kind
        assert str(copy) == str(error)


def test_the_first_saved_error_stays(tmp_path: Path) -> None:
    DataError("first", "x", "y").save(tmp_path / "e.json")
    DataError("second", "x", "y").save(tmp_path / "e.json")
    assert PrivsegError.load(tmp_path / "e.json").subject == "first"


def test_an_error_that_cannot_be_saved_stays_the_error(tmp_path: Path) -> None:
    StorageError("object", "no space left on the disk", "free some").save(tmp_path / "missing/e.json")


def test_a_full_disk_is_said_so() -> None:
    assert "no space left" in str(StorageError.from_os_error("out", OSError(errno.ENOSPC, "x")))
    assert "Permission denied" in str(StorageError.from_os_error("out", OSError(errno.EACCES, "Permission denied")))
