"""Unpack archives of strangers.

Nothing an archive says is believed: names must stay inside, only plain files and folders are made, and what it holds is
counted against what the catalogue expects. Files are opened so that they can neither replace nor follow anything; since
no link is ever made, there is none to write through. A folder is filled under a hidden name and renamed when it is
complete, so that a kill leaves nothing half: a folder that has its name is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privseg.datasets.fetch._tree import Tree, parts_of
from privseg.datasets.fetch.catalogue import Piece
from privseg.datasets.fetch.progress import ProgressFunction, silent
from privseg.errors import StorageError

__all__ = ["NOTE", "Contents", "link", "read_note", "unpack"]

NOTE = ".privseg.json"
"""In a folder that was fetched: which archive it came from. Readers of datasets pass hidden files by."""

_DIRECTORY_ENTRY = 512  # bytes of a zip's directory that one entry may take, name and extra fields included
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, LookupError,
               OverflowError, RuntimeError, NotImplementedError, OSError)  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """A folder that was filled: its place and the number of its files."""

    folder: Path
    files: int


def unpack(
    path: Path, pieces: Sequence[Piece], data: Path, *, checksum: str, progress: ProgressFunction = silent
) -> list[Contents]:
    """Unpack folders of one archive to their places below ``data``; what else it holds is left out.

    Args:
        path: A zip or tar file.
        pieces: What to unpack; all of one archive, whose limits hold. Their places must not exist, or be empty.
        data: The data folder.
        checksum: Of the archive; noted in every folder.
        progress: Told the bytes done.

    Raises:
        DataError: The archive is damaged, encrypted, hostile, or not what the catalogue describes. Nothing of it stays.
        StorageError: The disk is full or a place cannot be written. Nothing of it stays.
    """
    places = [data / piece.folder for piece in pieces]
    with _hidden(places) as partial:
        tree = Tree(path, pieces[0].archive, {parts_of(p.inside): at for p, at in zip(pieces, partial, strict=True)})
        try:
            if pieces[0].archive.name.endswith(".zip"):
                _unpack_zip(path, tree, progress)
            else:
                _unpack_tar(path, tree, progress)
        except _UNREADABLE as error:
            raise tree.fault(f"cannot be unpacked ({str(error) or type(error).__name__})") from None
        for piece, at in zip(pieces, partial, strict=True):
            for needed in piece.needs or (".",):
                if not (at / needed).exists() or not tree.files[at]:
                    raise tree.fault(f"holds no {'/'.join((piece.inside, needed)).removesuffix('/.')}")
            _write_note(at, piece, checksum, tree.files[at])
    return [Contents(place, tree.files[at]) for place, at in zip(places, partial, strict=True)]


def link(source: Path, piece: Piece, data: Path) -> Contents:
    """Make a piece's folder out of hard links to one that was fetched before: no download and no space.

    Where the file system makes no hard links, the files are copied.

    Raises:
        StorageError: The place cannot be written.
    """
    place = data / piece.folder
    note = read_note(source) or {}
    with _hidden([place]) as [partial]:
        try:
            shutil.copytree(source, partial, copy_function=_link, dirs_exist_ok=True, ignore=lambda *_: {NOTE})
        except (OSError, shutil.Error) as error:
            raise StorageError.from_os_error(place, _first(error)) from None
        files = sum(len(names) for _, _, names in os.walk(partial))
        _write_note(partial, piece, str(note.get("checksum", "")), files)
    return Contents(place, files)


def read_note(folder: Path) -> dict[str, Any] | None:
    """What a fetched folder notes: ``archive``, ``inside``, ``checksum`` and ``files``; None where nothing is noted."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copyfile(source, target)


def _first(error: OSError) -> OSError:
    """The first of the faults that copytree collected."""
    return OSError(str(error.args[0][0][2])) if isinstance(error, shutil.Error) and error.args else error


@contextlib.contextmanager
def _hidden(places: Sequence[Path]) -> Iterator[list[Path]]:
    """Fresh folders beside the places, renamed to them in the end or removed."""
    partial = [place.with_name(f".{place.name}.partial") for place in places]
    try:
        for folder in partial:
            _remove(folder)  # of a run that was killed
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from None
    try:
        yield partial
        for folder, place in zip(partial, places, strict=True):
            try:
                folder.rename(place)  # replaces an empty folder, never one that holds something
            except OSError as error:
                raise StorageError.from_os_error(place, error) from None
    except BaseException:
        for folder in partial:
            with contextlib.suppress(OSError):
                _remove(folder)
        raise


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _write_note(folder: Path, piece: Piece, checksum: str, files: int) -> None:
    note = {"archive": piece.archive.name, "inside": piece.inside, "checksum": checksum, "files": files}
    try:
        (folder / NOTE).write_text(json.dumps(note, indent=1), encoding="utf-8")
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from None


def _unpack_zip(path: Path, tree: Tree, progress: ProgressFunction) -> None:
    if _directory_size(path) > (tree.archive.entries + 1) * _DIRECTORY_ENTRY:  # before all of it is read into memory
        raise tree.fault(f"holds more than {tree.archive.entries} entries")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.compress_size for entry in entries) > path.stat().st_size:
            raise tree.fault("has entries that share their bytes: a decompression bomb")
        done, total = 0, sum(entry.file_size for entry in entries)
        progress(f"unpacking {path.name}", 0, total)
        for entry in entries:
            name = entry.orig_filename  # `filename` ends at a NUL
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive was not made on Unix
            folder = name.endswith("/") or kind == stat.S_IFDIR
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise tree.fault(f"holds {name[:120]!a}, a link or device")
            if entry.flag_bits & 0x1:
                raise tree.fault(f"holds {name[:120]!a}, which is encrypted")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise tree.fault(f"holds {name[:120]!a}, packed by an unusual method ({entry.compress_type})")
            target = tree.enter(name, folder=folder, size=entry.file_size, packed=entry.compress_size)
            if target is not None and not folder:
                with archive.open(entry) as source:
                    tree.write(target, source)
            done += entry.file_size
            progress(f"unpacking {path.name}", done, total)


def _directory_size(path: Path) -> int:
    """Bytes of a zip's directory of entries, as its end records it (APPNOTE.TXT 4.3.14 to 4.3.16)."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(-min(size, 22 + 20 + 0xFFFF), os.SEEK_END)
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        if end < 0:
            raise zipfile.BadZipFile("it has no end: it is truncated, or no zip file")
        (directory,) = struct.unpack_from("<L", tail, end + 12)
        if directory == 0xFFFFFFFF and tail[end - 20 : end - 16] == b"PK\6\7":
            (offset,) = struct.unpack_from("<Q", tail, end - 12)
            file.seek(offset + 40)
            (directory,) = struct.unpack("<Q", file.read(8))
    return int(directory)


def _unpack_tar(path: Path, tree: Tree, progress: ProgressFunction) -> None:
    total = path.stat().st_size
    progress(f"unpacking {path.name}", 0, total)
    with tarfile.open(path, "r:") as archive:
        for entry in archive:
            shown = ascii(entry.name[:120])
            if entry.issparse():
                raise tree.fault(f"holds {shown}, a file with holes")
            if not (entry.isreg() or entry.isdir()):
                raise tree.fault(f"holds {shown}, a link or device")
            target = tree.enter(entry.name, folder=entry.isdir(), size=entry.size)
            tarfile.data_filter(entry, str(path.parent))  # the standard library's own rules, on top of ours
            source = archive.extractfile(entry)
            if target is not None and source is not None:
                tree.write(target, source)
            progress(f"unpacking {path.name}", min(archive.offset, total), total)
        # iterating ends as quietly at a damaged header as at the end
        with path.open("rb") as file:
            file.seek(archive.offset)
            if any(file.read(tarfile.BLOCKSIZE)):
                raise tree.fault(f"is damaged at byte {archive.offset}")
    progress(f"unpacking {path.name}", total, total)
