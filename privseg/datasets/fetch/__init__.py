"""`privseg dataset fetch`: the official archives of public datasets, for users who have internet.

Archives land in ``<data>/archives`` while they are needed; what they hold goes where the readers of
`privseg.datasets.sources` look for it. Both survive a kill at any moment: parts of archives are resumed, finished
folders are not made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from privseg.datasets.fetch._http import check_url
from privseg.datasets.fetch.catalogue import CATALOGUE, Archive, Offer, Piece
from privseg.datasets.fetch.download import Downloaded, Retry, bytes_here, download, record_file
from privseg.datasets.fetch.extract import link, read_note, unpack
from privseg.datasets.fetch.progress import ProgressFunction, Say, readable, reporting, silent
from privseg.errors import DataError, ServerUnavailableError, StorageError, UsageError

__all__ = ["CATALOGUE", "ArchiveReport", "FetchReport", "Retry", "fetch", "reporting"]

_BLOCK = 4096  # bytes of disk that a file's last block wastes at most


@dataclass(frozen=True)
class ArchiveReport:
    """One archive that was needed.

    Attributes:
        name: File name.
        received: Bytes that came over the network.
        resumed_at: Bytes that an earlier attempt had left.
        checksum: ``algorithm:digest`` of the file.
        trust: ``published``, ``recorded`` or ``matches the record``, see `privseg.datasets.fetch.download.Downloaded`.
        kept: Where the archive is kept; '' where it was deleted after unpacking.
    """

    name: str
    received: int
    resumed_at: int
    checksum: str
    trust: str
    kept: str


@dataclass(frozen=True)
class FetchReport:
    """What a fetch did.

    Attributes:
        source: Key of the source.
        folder: Its folder: the data folder and the ``path`` of ``params.yaml``.
        terms: Its terms of use.
        files: Files now in the folders that were filled or found.
        archives: The archives that were needed, in order.
        unpacked: Folders made from them, relative to the data folder.
        linked: Folders made of hard links to another source's, without a download.
        already_there: Folders of an earlier fetch.
    """

    source: str
    folder: str
    terms: str
    files: int
    archives: tuple[ArchiveReport, ...]
    unpacked: tuple[str, ...]
    linked: tuple[str, ...]
    already_there: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for ``--json``."""
        return asdict(self)


def fetch(
    source: str,
    to: Path,
    *,
    say: Say,
    base_url: str | None = None,
    keep_archives: bool = False,
    progress: ProgressFunction = silent,
    retry: Retry | None = None,
    catalogue: Mapping[str, Offer] | None = None,
) -> FetchReport:
    """Download and unpack a public dataset.

    Running it again resumes what was interrupted and does nothing that is done. An archive that two sources share is
    downloaded once: the second source's folder is made of hard links to the first's.

    Args:
        source: Key of the catalogue: voc, cocostuff164k, coco_instances or ade20k.
        to: The data folder, which ``raw_root`` or PRIVSEG_DATA names; made if missing.
        say: Told, a line at a time, what a person should read: terms of use and sizes before anything is downloaded.
        base_url: A mirror to ask instead of the official servers: ``<base_url>/<archive's file name>``. Checksums hold
            all the same.
        keep_archives: Keep each archive in ``<to>/archives`` after it was unpacked.
        progress: Told what is being done, bytes done and bytes to do, often.
        retry: How broken transfers are taken up again.
        catalogue: What can be fetched, if not `CATALOGUE`.

    Raises:
        UsageError: No such source or address, a folder is in the way that was not fetched, or another fetch works in
            the data folder.
        ServerUnavailableError: No server serves an archive; what has arrived is kept.
        DataError: An archive is damaged, hostile or not the published one; it is named and removed. Or a fetched
            folder has lost files.
        StorageError: The disk is too small or full, or the folder cannot be written.
    """
    catalogue = CATALOGUE if catalogue is None else catalogue
    offer = catalogue.get(source)
    if offer is None:
        raise UsageError(
            f"source {source}", "has no archives to fetch", f"choose one of {', '.join(sorted(catalogue))}"
        )
    if base_url is not None:
        check_url(base_url)
    with _only_fetch(to):
        return _Fetch(source, offer, to, base_url, keep_archives, say, progress, retry, catalogue).run()


class _Fetch:
    def __init__(
        self,
        source: str,
        offer: Offer,
        to: Path,
        base_url: str | None,
        keep: bool,
        say: Say,
        progress: ProgressFunction,
        retry: Retry | None,
        catalogue: Mapping[str, Offer],
    ) -> None:
        self._source, self._offer, self._to, self._base_url, self._keep = source, offer, to, base_url, keep
        self._say, self._progress, self._retry, self._catalogue = say, progress, retry, catalogue
        self._archives = to / "archives"
        self._there: dict[str, int] = {}
        self._twins: dict[Piece, Path] = {}
        self._needed: dict[Archive, list[Piece]] = {}

    def run(self) -> FetchReport:
        self._plan()
        self._say(f"{self._source}: {self._offer.homepage}")
        self._say(f"Terms of use: {self._offer.terms}")
        self._check_space()
        files, linked, unpacked, archives = dict(self._there), [], [], []
        for piece, twin in self._twins.items():
            files[piece.folder] = link(twin, piece, self._to).files
            linked.append(piece.folder)
        for archive, pieces in self._needed.items():
            got = self._download(archive)
            try:
                made = unpack(got.path, pieces, self._to, checksum=got.checksum, progress=self._progress)
            except DataError:
                if archive.checksum is None:  # nothing vouches for it, so the next copy may well be another
                    for file in (got.path, record_file(self._archives, archive)):
                        file.unlink(missing_ok=True)
                raise
            files |= {piece.folder: contents.files for piece, contents in zip(pieces, made, strict=True)}
            unpacked += [piece.folder for piece in pieces]
            if not self._keep:
                got.path.unlink()
            kept = str(got.path) if self._keep else ""
            archives.append(ArchiveReport(archive.name, got.received, got.resumed_at, got.checksum, got.trust, kept))
        with contextlib.suppress(OSError):
            self._archives.rmdir()  # if it holds nothing
        folder = self._to / self._offer.folder
        self._say(f"{self._source}: {sum(files.values())} files are in {folder}")
        return FetchReport(
            source=self._source,
            folder=str(folder),
            terms=self._offer.terms,
            files=sum(files.values()),
            archives=tuple(archives),
            unpacked=tuple(unpacked),
            linked=tuple(linked),
            already_there=tuple(self._there),
        )

    def _plan(self) -> None:
        for piece in self._offer.pieces:
            place = self._to / piece.folder
            files = _fetched(place, piece)
            if files is not None:
                self._there[piece.folder] = files
            elif place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
                raise UsageError(
                    place, "is there already and was not fetched", "use it as it is, or move it away and fetch again"
                )
            elif twin := self._twin(piece):
                self._twins[piece] = twin
            else:
                self._needed.setdefault(piece.archive, []).append(piece)

    def _twin(self, piece: Piece) -> Path | None:
        """The same folder of the same archive, fetched for another source."""
        for other in (other for offer in self._catalogue.values() for other in offer.pieces):
            same = (other.archive, other.inside) == (piece.archive, piece.inside)
            with contextlib.suppress(DataError):  # incomplete: of no use here
                if same and _fetched(self._to / other.folder, other) is not None:
                    return self._to / other.folder
        return None

    def _check_space(self) -> None:
        """Compare the most that will lie on the disk at any time with what is free."""
        used = most = 0
        for archive, pieces in self._needed.items():
            here = bytes_here(archive, self._archives)
            share = len(pieces) / len({other.inside for other in self._pieces_of(archive)})
            used += max(0, archive.size - here)
            most = max(most, used)
            used += int(share * (archive.unpacked + archive.entries * _BLOCK // 2))
            most = max(most, used)
            used -= 0 if self._keep else max(archive.size, here)
            self._say(
                f"{archive.name}: {readable(archive.size)}"
                + (f", {readable(here)} of it already here" if here else "")
                + ("" if archive.checksum else ". No checksum of it is published: nothing vouches for the first copy")
            )
        free = shutil.disk_usage(self._to).free
        if most:
            self._say(f"Space needed on the way: up to {readable(most)}; free: {readable(free)}")
        if most > free:
            raise StorageError(
                self._to,
                f"{readable(most)} are needed to fetch {self._source}, {readable(free)} are free: "
                f"{readable(most - free)} are missing",
                "free space there, or choose another data folder",
            )

    def _pieces_of(self, archive: Archive) -> list[Piece]:
        return [piece for piece in self._offer.pieces if piece.archive == archive]

    def _download(self, archive: Archive) -> Downloaded:
        try:
            self._archives.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError.from_os_error(self._archives, error) from None
        urls = [f"{self._base_url.rstrip('/')}/{archive.name}"] if self._base_url else list(archive.urls)
        while True:
            url = urls.pop(0)
            try:
                return download(archive, url, self._archives, retry=self._retry, say=self._say, progress=self._progress)
            except ServerUnavailableError as error:
                if not urls:
                    raise
                self._say(f"{error.subject}: {error.fault}; asking the next server")


def _fetched(place: Path, piece: Piece) -> int | None:
    """Files of a folder that was fetched for this piece; None where there is no such folder.

    Raises:
        DataError: It has lost files since.
    """
    note = read_note(place)
    if note is None or (note.get("archive"), note.get("inside")) != (piece.archive.name, piece.inside):
        return None
    files = sum(len(names) for _, _, names in os.walk(place)) - 1  # less the note
    if files < int(note.get("files", 0)):
        raise DataError(
            place, f"holds {files} of the {note['files']} files that were fetched", "delete the folder and fetch again"
        )
    return files


@contextlib.contextmanager
def _only_fetch(to: Path) -> Iterator[None]:
    """Keep a second fetch out of a data folder: it would write into the same parts."""
    try:
        to.mkdir(parents=True, exist_ok=True)
        lock = os.open(to / ".privseg-fetch.lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise StorageError.from_os_error(to, error) from None
    with os.fdopen(lock):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                to, "another fetch works there", "wait for it to end, then run the same command again"
            ) from None
        yield
