"""Where files go: whole, never through a link, never over a source or another output."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from privseg.errors import StorageError, UsageError
from privseg.streaming.places import create_unique, refuse_shared_files, write_whole


def test_every_temporary_file_is_new(tmp_path: Path) -> None:
    made = {create_unique(tmp_path, ".out.", ".partial") for _ in range(20)}
    assert len(made) == len(list(tmp_path.iterdir())) == 20


def test_a_name_already_there_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    names = iter(["file", "link", "free"])
    monkeypatch.setattr("privseg.streaming.places.secrets.token_hex", lambda _bytes: next(names))
    (tmp_path / ".file").write_text("somebody else's")
    (tmp_path / ".link").symlink_to(victim)
    assert create_unique(tmp_path, ".", "") == tmp_path / ".free"
    assert not victim.exists()
    assert (tmp_path / ".file").read_text() == "somebody else's"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "report.json", b"{}")
    assert (tmp_path / "deep" / "report.json").read_bytes() == b"{}"
    assert stat.S_IMODE((tmp_path / "deep" / "report.json").stat().st_mode) & 0o400
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(StorageError):
        write_whole(tmp_path / "folder", b"{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "folder"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for name in (".report.json.partial", "report.json"):
        (tmp_path / name).symlink_to(victim)
    write_whole(tmp_path / "report.json", b"{}")
    assert victim.read_bytes() == b"precious"


def test_addresses_and_shared_sources_are_no_conflict(tmp_path: Path) -> None:
    refuse_shared_files(["rtsp://cam/x", "a.mp4", "./a.mp4"], {"output": tmp_path / "out.mp4", "report": None})


def test_a_link_to_a_folder_does_not_hide_that_two_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"two .*same file as one"):
        refuse_shared_files([], {"one": Path("real/out.mp4"), "two": tmp_path / "link" / "x" / ".." / "out.mp4"})
