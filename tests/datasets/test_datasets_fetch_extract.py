"""Unpacking archives that are damaged, hostile, or just what they should be."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privseg.datasets.fetch._tree import Tree
from privseg.datasets.fetch.catalogue import Archive, Piece
from privseg.datasets.fetch.extract import NOTE, link, read_note, unpack
from privseg.errors import DataError, StorageError

GOOD = {"top/a.jpg": b"jpeg" * 10, "top/deep/b.png": b"png", "top/ünï.png": b"", "other/c.txt": b"left out"}


def archive_named(name: str, *, unpacked: int = 10_000_000, entries: int = 1000) -> Archive:
    return Archive(name, (), size=1, unpacked=unpacked, entries=entries)


def piece_of(name: str, *, inside: str = "top", folder: str = "data/set", needs: tuple[str, ...] = ()) -> Piece:
    return Piece(archive_named(name), inside, folder, needs)


def zip_with(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_with(members: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry, content in more:
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def everything(folder: Path) -> dict[str, object]:
    """All that lies below a folder: kinds, contents and targets."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else "folder"
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data folder, beside a file that no archive may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "canary").write_bytes(b"untouched")
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_wanted_folders_are_unpacked_and_the_rest_is_left_out(kind: str, place: Path) -> None:
    name, steps = f"some.{kind}", list[tuple[str, int, int]]()
    (place / name).write_bytes(zip_with(GOOD) if kind == "zip" else tar_with(GOOD))
    pieces = [
        piece_of(name, needs=("a.jpg", "deep")),
        piece_of(name, inside="top/deep", folder="data/deeper"),
    ]
    unpack(place / name, [pieces[0]], place, checksum="sha256:1", progress=lambda *step: steps.append(step))
    [contents] = unpack(place / name, [pieces[1]], place, checksum="sha256:1")
    assert (contents.folder, contents.files) == (place / "data/deeper", 1)
    found = everything(place / "data")
    assert {key for key in found if NOTE not in key} == {
        *("set", "set/a.jpg", "set/deep", "set/deep/b.png", "set/ünï.png", "deeper", "deeper/b.png")
    }
    assert found["set/a.jpg"] == GOOD["top/a.jpg"]
    note = {"archive": name, "inside": "top", "checksum": "sha256:1", "files": 3}
    assert read_note(place / "data/set") == note
    assert steps[-1][1] == steps[-1][2]


def test_two_folders_of_one_archive(place: Path) -> None:
    (place / "two.zip").write_bytes(zip_with(GOOD))
    pieces = [piece_of("two.zip"), piece_of("two.zip", inside="other", folder="data/other")]
    assert [contents.files for contents in unpack(place / "two.zip", pieces, place, checksum="")] == [3, 1]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_permissions_are_not_taken_over(kind: str, place: Path) -> None:
    if kind == "zip":
        entry = zipfile.ZipInfo("top/a")
        entry.external_attr = (stat.S_IFREG | 0o6777) << 16
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(entry, b"x")
        data = buffer.getvalue()
    else:
        member = tarfile.TarInfo("top/a")
        member.size, member.mode, member.uid = 1, 0o6777, 12345
        data = tar_with({}, (member, b"x"))
    (place / f"x.{kind}").write_bytes(data)
    unpack(place / f"x.{kind}", [piece_of(f"x.{kind}")], place, checksum="")
    found = (place / "data/set/a").stat()
    assert stat.S_IMODE(found.st_mode) & ~0o644 == 0
    assert found.st_uid == os.getuid()


def tar_entry(name: str, kind: bytes, target: str = "", size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, size
    return entry


def zip_link(name: str, target: str, mode: int = stat.S_IFLNK) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.create_system, entry.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(entry, target)
        archive.writestr(f"{name}/canary", b"written through")
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(zip_with({"top/a": b"secret"}))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    return bytes(data)


def with_nul() -> bytes:
    return zip_with({"top/a.jpgX/../../x": b""}).replace(b"top/a.jpgX", b"top/a.jpg\0")


def overlapping() -> bytes:
    """Many entries of a directory that all share the bytes of one: the bomb that no nesting is needed for."""
    data = zip_with({"top/0000": bytes(1_000_000)})
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry = data[start:end]
    directory = b"".join(entry.replace(b"top/0000", b"top/%04d" % index) for index in range(9))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(directory), start, 0)
    return data[:start] + directory + tail


def lying() -> bytes:
    """An entry that says it holds less than it does."""
    data = bytearray(zip_with({"top/a": bytes(500_000)}))
    struct.pack_into("<L", data, data.index(b"PK\1\2") + 24, 10)
    struct.pack_into("<L", data, data.index(b"PK\3\4") + 22, 10)
    return bytes(data)


def wrong_byte() -> bytes:
    data = bytearray(zip_with({"top/a": os.urandom(10_000)}))
    data[5_000] ^= 0xFF
    return bytes(data)


def method(kind: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        archive.writestr("top/a", b"x")
    return buffer.getvalue()


def sparse() -> bytes:
    """GNU's file with holes: a terabyte out of a block."""
    header = bytearray(tarfile.TarInfo("top/a").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:398], header[398:410] = b"00000000000\0", b"00000001000\0"
    header[483:495] = b"\x80" + (10**12).to_bytes(11, "big")
    header[124:136] = b"00000001000\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header) + bytes(512 + 1024)


def negative() -> bytes:
    header = bytearray(tarfile.TarInfo("top/a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header) + bytes(1024)


def damaged_tar() -> bytes:
    data = bytearray(tar_with({"top/a": b"x" * 600, "top/b": b"y" * 600, "top/c": b"z"}))
    data[3 * 512 + 100] ^= 0xFF  # in the second entry's header
    return bytes(data)


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zip: climbs out": ("zip", lambda: zip_with({"top/../../outside/canary": b"!"}), "leads out"),
    "zip: climbs out at once": ("zip", lambda: zip_with({"../outside/canary": b"!"}), "leads out"),
    "zip: absolute": ("zip", lambda: zip_with({"/tmp/privseg-canary": b"!"}), "absolute name"),
    "zip: drive letter": ("zip", lambda: zip_with({"C:/top/a": b"!"}), "drive letter"),
    "zip: backslash": ("zip", lambda: zip_with({"top\\..\\..\\a": b"!"}), "backslash"),
    "zip: NUL": ("zip", with_nul, "control character"),
    "zip: long name": ("zip", lambda: zip_with({f"top/{'a' * 300}": b""}), "too long"),
    "zip: deep": ("zip", lambda: zip_with({"top/" + "a/" * 500 + "b": b""}), "too long"),
    "zip: link, then through it": ("zip", lambda: zip_link("top/link", "../../outside"), "link or device"),
    "zip: device": ("zip", lambda: zip_link("top/device", "", stat.S_IFCHR), "link or device"),
    "zip: encrypted": ("zip", encrypted, "encrypted"),
    "zip: unusual method": ("zip", lambda: method(zipfile.ZIP_LZMA), "unusual method"),
    "zip: ratio": ("zip", lambda: zip_with({"top/a": bytes(5_000_000)}), "decompression bomb"),
    "zip: total": (
        "zip",
        lambda: zip_with({f"top/{i}": bytes(900_000) for i in range(20)}),
        "more than 10000000 bytes",
    ),
    "zip: shared bytes": ("zip", overlapping, "share their bytes"),
    "zip: lies about sizes": ("zip", lying, "cannot be unpacked"),
    "zip: wrong byte": ("zip", wrong_byte, "cannot be unpacked"),
    "zip: truncated": ("zip", lambda: zip_with(GOOD)[:-30], "cannot be unpacked"),
    "zip: empty file": ("zip", lambda: b"", "cannot be unpacked"),
    "zip: a tar": ("zip", lambda: tar_with(GOOD), "cannot be unpacked"),
    "zip: many entries": ("zip", lambda: zip_with({f"top/{i}": b"" for i in range(1001)}), "more than 1000 entries"),
    "zip: huge directory": (
        "zip",
        lambda: zip_with({f"top/{i}": b"" for i in range(66_000)}),
        "more than 1000 entries",
    ),
    "zip: case": ("zip", lambda: zip_with({"top/A.png": b"1", "top/a.PNG": b"2"}), "cannot tell"),
    "zip: composition": ("zip", lambda: zip_with({"top/é": b"1", "top/e\u0301": b"2"}), "cannot tell"),
    "zip: case of a folder": ("zip", lambda: zip_with({"top/x/a": b"1", "top/X/b": b"2"}), "cannot tell"),
    "zip: a file as a folder": ("zip", lambda: zip_with({"top/x": b"1", "top/x/b": b"2"}), "twice"),
    "zip: a folder as a file": ("zip", lambda: zip_with({"top/x/b": b"1", "top/x": b"2"}), "twice"),
    "zip: nothing wanted": ("zip", lambda: zip_with({"toppled/a": b"1"}), "holds no top"),
    "zip: the folder is a file": ("zip", lambda: zip_with({"top": b"1"}), "holds no top"),
    "tar: climbs out": ("tar", lambda: tar_with({"top/../../outside/canary": b"!"}), "leads out"),
    "tar: absolute": ("tar", lambda: tar_with({"/tmp/privseg-canary": b"!"}), "absolute name"),
    "tar: symbolic link, then through it": (
        "tar",
        lambda: tar_with(
            {}, (tar_entry("top/x", tarfile.SYMTYPE, "../../outside"), b""), (tar_entry("top/x/a", b"0"), b"")
        ),
        "link or device",
    ),
    "tar: link left out of what is wanted": (
        "tar",
        lambda: tar_with(GOOD, (tar_entry("elsewhere", tarfile.SYMTYPE, "/"), b"")),
        "link or device",
    ),
    "tar: hard link": (
        "tar",
        lambda: tar_with(GOOD, (tar_entry("top/x", tarfile.LNKTYPE, "/etc/passwd"), b"")),
        "link",
    ),
    "tar: character device": ("tar", lambda: tar_with({}, (tar_entry("top/x", tarfile.CHRTYPE), b"")), "device"),
    "tar: block device": ("tar", lambda: tar_with({}, (tar_entry("top/x", tarfile.BLKTYPE), b"")), "device"),
    "tar: FIFO": ("tar", lambda: tar_with({}, (tar_entry("top/x", tarfile.FIFOTYPE), b"")), "link or device"),
    "tar: holes": ("tar", sparse, "holes"),
    "tar: total": (
        "tar",
        lambda: tar_with({f"top/{i}": bytes(3_000_000) for i in range(4)}),
        "more than 10000000 bytes",
    ),
    "tar: negative size": ("tar", negative, "negative size|cannot be unpacked"),
    "tar: many entries": ("tar", lambda: tar_with({f"top/{i}": b"" for i in range(1001)}), "more than 1000 entries"),
    "tar: duplicate": ("tar", lambda: tar_with({"top/a": b"1"}, (tar_entry("top/a", b"0"), b"")), "twice"),
    "tar: truncated": ("tar", lambda: tar_with({"top/a": b"x" * 5000})[:3000], "cannot be unpacked"),
    "tar: damaged header": ("tar", damaged_tar, "damaged at byte"),
    "tar: a zip": ("tar", lambda: zip_with(GOOD), "cannot be unpacked"),
    "tar: empty": ("tar", lambda: tar_with({}), "holds no top"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_archives_leave_nothing(case: str, place: Path) -> None:
    kind, build, fault = HOSTILE[case]
    archive = place / f"some.{kind}"
    archive.write_bytes(build())
    before = everything(place)
    with pytest.raises(DataError, match=fault) as caught:
        unpack(archive, [piece_of(archive.name)], place, checksum="")
    assert caught.value.subject == str(archive)
    assert everything(place) == before
    assert not Path("/tmp/privseg-canary").exists()


def test_a_duplicate_in_a_zip(place: Path) -> None:
    with zipfile.ZipFile(place / "some.zip", "w") as archive:
        archive.writestr("top/a", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("top/a", b"2")
    with pytest.raises(DataError, match="twice"):
        unpack(place / "some.zip", [piece_of("some.zip")], place, checksum="")


def test_the_limit_is_what_all_files_take_together(place: Path) -> None:
    (place / "some.zip").write_bytes(zip_with({f"top/{i}": b"x" * 100 for i in range(10)}))
    small = replace(piece_of("some.zip"), archive=archive_named("some.zip", unpacked=999))
    with pytest.raises(DataError, match="more than 999 bytes"):
        unpack(place / "some.zip", [small], place, checksum="")
    exact = replace(small, archive=archive_named("some.zip", unpacked=1000))
    assert unpack(place / "some.zip", [exact], place, checksum="")[0].files == 10


def test_what_is_written_is_counted_whatever_was_declared(place: Path) -> None:
    tree = Tree(place / "some.zip", archive_named("some.zip", unpacked=2_000_000), {("top",): place / "data/set"})
    target = tree.enter("top/a", folder=False, size=10)
    assert target == place / "data/set/a"
    with pytest.raises(DataError, match=r"some\.zip: unpacks to more than 2000000 bytes"):
        tree.write(target, io.BytesIO(bytes(50_000_000)))
    assert target.stat().st_size <= 2_000_000


NAMES = st.text(st.sampled_from(["a", "B", "é", ".", "/", "\\", ":", "\n", "~", " "]), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["zip", "tar"]), names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
@example(kind="zip", names=["a/..", "a"])
@example(kind="tar", names=["..", "a"])
@example(kind="tar", names=["./a", "a//B"])
@example(kind="tar", names=[":/"])
def test_whatever_the_names_nothing_leaves_its_folder(
    kind: str, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("names")
    root = base / "x" / "y" / "z"
    root.mkdir(parents=True)
    path = root / f"some.{kind}"
    members = {f"top/{name}": b"1" for name in names}
    path.write_bytes(zip_with(members) if kind == "zip" else tar_with(members))
    before = everything(base)
    try:
        [contents] = unpack(path, [piece_of(path.name, folder="set")], root, checksum="")
    except DataError:
        assert everything(base) == before
        return
    after = everything(base)
    inside = "x/y/z/set"
    assert {name: what for name, what in after.items() if not re.match(rf"{inside}(/|$)", name)} == before
    files = [name for name, what in after.items() if name.startswith(inside) and isinstance(what, bytes)]
    plain = [name for name in members if kind == "tar" or not name.endswith("/")]  # a tar's entries have a type
    assert len(files) - 1 == contents.files == len(plain)


def test_a_folder_that_holds_something_is_never_replaced(place: Path) -> None:
    (place / "some.zip").write_bytes(zip_with(GOOD))
    (place / "data/set").mkdir()
    unpack(place / "some.zip", [piece_of("some.zip")], place, checksum="")  # an empty one is
    (place / "data/set/mine").write_bytes(b"mine")
    before = everything(place)
    with pytest.raises(StorageError, match="data/set"):
        unpack(place / "some.zip", [piece_of("some.zip")], place, checksum="")
    assert everything(place) == before


def test_what_a_killed_run_left_is_cleared_and_never_followed(place: Path) -> None:
    (place / "some.zip").write_bytes(zip_with(GOOD))
    half = place / "data" / ".set.partial"
    half.mkdir()
    (half / "stale.jpg").write_bytes(b"half")
    unpack(place / "some.zip", [piece_of("some.zip")], place, checksum="")
    assert not (place / "data/set/stale.jpg").exists()

    (place / "data" / ".again.partial").symlink_to(place / "outside")
    unpack(place / "some.zip", [piece_of("some.zip", folder="data/again")], place, checksum="")
    assert everything(place / "outside") == {"canary": b"untouched"}
    assert not (place / "data/again").is_symlink()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_disk_that_fills_is_given_back(kind: str, small_disk: Path, tmp_path: Path) -> None:
    members = {f"top/{index}": os.urandom(300_000) for index in range(6)}
    path = tmp_path / f"some.{kind}"
    path.write_bytes(zip_with(members) if kind == "zip" else tar_with(members))
    with pytest.raises(StorageError, match="no space left on the disk"):
        unpack(path, [piece_of(path.name, folder="set")], small_disk, checksum="")
    assert everything(small_disk) == {}
    assert path.exists()


def test_a_second_source_gets_links(place: Path) -> None:
    (place / "some.zip").write_bytes(zip_with(GOOD))
    unpack(place / "some.zip", [piece_of("some.zip")], place, checksum="sha256:7")
    other = piece_of("some.zip", folder="data/second")
    assert link(place / "data/set", other, place).files == 3
    for name in ("a.jpg", "deep/b.png"):
        assert (place / "data/second" / name).samefile(place / "data/set" / name)
    assert read_note(place / "data/second") == read_note(place / "data/set")
    assert not (place / "data/second" / NOTE).samefile(place / "data/set" / NOTE)
