"""The files of a dataset version, written out again byte for byte, beside the workspace and without changing it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from privseg import dataset_remote
from privseg.dataset_store import MANIFEST, Output, Store, object_file
from privseg.dataset_versions import TAG, outputs_at
from privseg.errors import DataError, StorageError, UsageError
from privseg.repro import run

__all__ = ["checkout", "manifest_file"]

_PARTS = ("data/ingested/", MANIFEST, "reports/")
_RECORD = "version.json"
_STEP = 5000  # pictures between two lines of progress


def manifest_file(workspace: Path, version: str) -> Path:
    """Return a file with the manifest of a version; it is DVC's own, so not to be changed.

    Raises:
        DataError: It is nowhere.
        ServerUnavailableError: It is on a server only, and that does not answer.
    """
    store, output = Store.of(workspace), outputs_at(workspace, version)[MANIFEST]
    file = store.find(output.md5)
    if file is None:
        with tempfile.TemporaryDirectory(prefix="privseg-") as scratch:
            _prepare(workspace, store, version, Path(scratch))
            _fetch(store, version, [output], Path(scratch))
        file = object_file(store.cache, output.md5)
    return file


def checkout(workspace: Path, version: str, to: Path, *, say: Callable[[str], None] = print) -> bool:
    """Write the files of a version into a folder: ``data/ingested``, ``data/manifest.parquet``, ``reports``.

    They are copies (reflinks where the file system has them), so that nothing done to them reaches DVC's cache. The
    folder appears when it is whole: every pair of image and mask has the sha256 of its manifest row, every other file
    the digest that DVC recorded. A folder that is there already is checked again and left as it is.

    Args:
        workspace: Whose version it is.
        version: Its full name.
        to: The folder; it must not exist, be empty, or hold this version.
        say: Gets lines of progress.

    Returns:
        True if it was written, False if it was there.

    Raises:
        UsageError: ``to`` holds something else or is inside the workspace, or another checkout is writing it.
        DataError: A file is missing or is not what was recorded; it is named, and nothing is written.
        ServerUnavailableError: Files are on a server only, and that does not answer.
        StorageError: The disk is full or the place cannot be written.
    """
    store = Store.of(workspace)
    outputs = [output for output in outputs_at(workspace, version).values() if output.path.startswith(_PARTS)]
    to = to.resolve()
    if to.is_relative_to(workspace.resolve()):
        raise UsageError(to, "is inside the workspace, where the pipeline works", "choose another folder with --to")
    try:
        if not _holds(to, version):
            to.parent.mkdir(parents=True, exist_ok=True)
            with _scratch(to.with_name(f".{to.name}.partial")) as partial:
                if not _holds(to, version):  # another checkout may have been faster
                    _write(workspace, store, version, outputs, partial, say)
                    partial.replace(to)
                    return True
        again = f"remove {to}, then privseg dataset checkout {version} --to {to}"
        _verify(to, version, _digests(store, outputs), lambda _: again, say)
    except OSError as error:
        raise StorageError.from_os_error(to, error) from error
    return False


def _write(
    workspace: Path,
    store: Store,
    version: str,
    outputs: Sequence[Output],
    partial: Path,
    say: Callable[[str], None],
) -> None:
    scratch = partial / ".dvc-work"
    scratch.mkdir()
    cached = [output for output in outputs if output.cached]
    _prepare(workspace, store, version, scratch, [output.path for output in outputs if not output.cached])
    if store.missing(cached, store.cache):
        say(f"fetching {version} from {store.remote}")
        _fetch(store, version, cached, scratch)
    digests = _digests(store, cached)
    say(f"copying {len(digests):,} files of {version}")
    dataset_remote.dvc(["checkout", *(output.path for output in cached)], scratch, store.remote)
    for output in outputs:
        (partial / output.path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / output.path).rename(partial / output.path)
    shutil.rmtree(scratch)

    def repair(path: str) -> str:
        if path not in digests:
            return "check another version out: this one was recorded without that file"
        return f"rm {store.find(digests[path])}, then check {version} out again: {store.remote} has a copy"

    _verify(partial, version, digests, repair, say)
    record = {"version": version, "tag": f"{TAG}{version}", "written": datetime.now(UTC).isoformat(timespec="seconds")}
    (partial / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _prepare(workspace: Path, store: Store, version: str, scratch: Path, tracked: Sequence[str] = ()) -> None:
    """Make a folder in which DVC works as the workspace would at that version, on the workspace's cache and remote."""
    archive = scratch / "version.tar"
    names = ["dvc.yaml", "dvc.lock", "params.yaml", *tracked]
    export = ["git", "-c", "core.autocrlf=false", "archive", f"--output={archive}", f"{TAG}{version}", "--", *names]
    run(export, workspace)
    with tarfile.open(archive) as tar:
        tar.extractall(scratch, filter="data")
    archive.unlink()
    dataset_remote.write_config(
        scratch,
        beside=workspace,
        core={"no_scm": True, "analytics": False, "site_cache_dir": str(scratch / ".dvc" / "site"), "remote": "store"},
        # links would let an edit of the written files reach the cache, which other versions share
        cache={"dir": str(store.cache), "type": "reflink,copy"},
        remote=store.remote,
    )


def _fetch(store: Store, version: str, outputs: Sequence[Output], scratch: Path) -> None:
    """Bring into the cache what it lacks, working in a prepared folder."""
    if store.remote.folder:
        nowhere = set(store.missing(outputs, store.remote.folder))
        absent = [path for path in store.missing(outputs, store.cache) if path in nowhere]
        if absent:
            raise _lost(store, version, absent)
    store.remote.reach()
    dataset_remote.dvc(["fetch", *(output.path for output in outputs)], scratch, store.remote)
    absent = store.missing(outputs, store.cache)
    if absent:
        raise _lost(store, version, absent)


def _verify(
    folder: Path, version: str, digests: Mapping[str, str], repair: Callable[[str], str], say: Callable[[str], None]
) -> None:
    """Compare a written version with its manifest and with DVC's digests."""

    def damaged(path: str) -> DataError:
        fault = "is not what was recorded" if (folder / path).is_file() else "is missing"
        return DataError(f"{path} of {version}", fault, repair(path))

    def check(path: str) -> None:
        if _digest("md5", folder / path) != digests[path]:
            raise damaged(path)

    def check_pair(pair: tuple[str, str, str]) -> None:
        paths = [f"data/ingested/{name}" for name in pair[:2]]
        if _digest("sha256", *(folder / path for path in paths)) != pair[2]:
            guilty = (path for path in paths if path in digests and _digest("md5", folder / path) != digests[path])
            raise damaged(next(guilty, paths[0]))

    if MANIFEST in digests:
        check(MANIFEST)
    pairs = _pairs(folder / MANIFEST)
    in_pairs = {f"data/ingested/{name}" for pair in pairs for name in pair[:2]}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        list(threads.map(check, [path for path in digests if path not in in_pairs]))
        for done, _ in enumerate(threads.map(check_pair, pairs), start=1):
            if done % _STEP == 0 or done == len(pairs):
                say(f"checked {done:,} of {len(pairs):,} pictures")


def _pairs(manifest: Path) -> list[tuple[str, str, str]]:
    """Image, mask and sha256 of every row that has files. Other columns are not read: an older privseg had fewer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(manifest, columns=["image_path", "mask_path", "sha256"])
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            manifest, f"is no readable manifest ({error})", "remove the folder, check it out again"
        ) from None
    return [pair for pair in zip(*(column.to_pylist() for column in table.columns), strict=True) if pair[0]]


def _digest(kind: str, *files: Path) -> str | None:
    """Digest of files one after the other; None if one is missing."""
    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        for file in files:
            digest.update(file.read_bytes())
    except FileNotFoundError:
        return None
    return digest.hexdigest()


def _digests(store: Store, outputs: Sequence[Output]) -> dict[str, str]:
    """Digests by path, as far as the lists of folders are at hand."""
    cached = (output for output in outputs if output.cached)
    return {path: md5 for output in cached for path, md5 in (store.files(output) or {}).items()}


def _holds(folder: Path, version: str) -> bool:
    """Whether a folder holds that version whole; False if there is nothing."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        held = json.loads((folder / _RECORD).read_text(encoding="utf-8"))["version"]
    except (OSError, ValueError, KeyError, TypeError):
        held = "something else"
    if held != version:
        raise UsageError(folder, f"holds {held}, not {version}", "remove it, or choose another folder with --to")
    return True


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for this process alone, gone at the end; what a killed process left in it is removed."""
    while True:
        folder.mkdir(exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise UsageError(folder, "another checkout writes there", "wait for it, or choose another --to") from None
        if _is(folder, handle):
            break
        os.close(handle)  # the one before finished, and renamed it away, since it was opened
    try:
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        yield folder
    finally:
        if _is(folder, handle):
            shutil.rmtree(folder)
        os.close(handle)


def _is(folder: Path, handle: int) -> bool:
    try:
        return os.path.samestat(folder.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lost(store: Store, version: str, absent: Sequence[str]) -> DataError:
    more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
    fault = f"of {version} is neither in the cache {store.cache} nor in {store.remote}{more}"
    return DataError(absent[0], fault, "bring a copy of the DVC remote back, or check another version out")
