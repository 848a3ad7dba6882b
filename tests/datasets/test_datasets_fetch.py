"""`fetch` from end to end: archives like the official ones, from a server on loopback to a reader of the dataset."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.datasets.fetch import CATALOGUE, FetchReport, Retry, fetch
from privseg.datasets.fetch.catalogue import Offer
from privseg.datasets.fetch.extract import NOTE
from privseg.datasets.sources.base import Mask
from privseg.datasets.sources.registry import open_source
from privseg.errors import DataError, ServerUnavailableError, StorageError, UsageError
from privseg.params import SourceParams, load_params
from privseg.testing.archives import ArchiveServer, tiny_catalogue
from privseg.testing.datasets import make_tiny_ade20k, make_tiny_cocostuff, make_tiny_voc

PUBLIC = load_params(Path(__file__).parents[2] / "params.yaml").public_sources
SOURCES = ("voc", "cocostuff164k", "ade20k", "coco_instances")
ONCE = Retry(attempts=1)
pytestmark = pytest.mark.usefixtures("no_proxy")


def make_coco_instances(root: Path, images: Path) -> dict[str, Mask]:
    """Instances for the pictures of the COCO-Stuff set: one rectangle of a person each."""
    expected = {}
    for part in ("train2017", "val2017"):
        shutil.copytree(images / part, root / part)
        names = sorted(path.name for path in (root / part).iterdir())
        instances = [
            {"id": index, "image_id": index, "category_id": 1, "iscrowd": 0, "area": 200, "bbox": [10, 20, 20, 10]}
            | {"segmentation": [[10, 20, 30, 20, 30, 30, 10, 30]]}
            for index, _ in enumerate(names)
        ]
        listed = [{"id": index, "file_name": name, "height": 64, "width": 64} for index, name in enumerate(names)]
        labels = {"images": listed, "annotations": instances, "categories": [{"id": 1, "name": "person"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(labels))
        mask = np.zeros((64, 64), np.uint8)
        mask[20:30, 10:30] = 1
        expected |= {Path(name).stem: mask for name in names}
    return expected


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Mask]]]:
    """The four datasets in miniature, and what their readers must give back."""
    root = tmp_path_factory.mktemp("originals")
    folders = {source: root / PUBLIC[source].path for source in SOURCES}
    masks = {
        "voc": make_tiny_voc(folders["voc"], images=4, size=64),
        "cocostuff164k": make_tiny_cocostuff(folders["cocostuff164k"], images=4, size=64),
        "ade20k": make_tiny_ade20k(folders["ade20k"], images=4, size=64),
    }
    masks["coco_instances"] = make_coco_instances(folders["coco_instances"], folders["cocostuff164k"] / "images")
    return root, masks


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer() as running:
        yield running


@pytest.fixture
def catalogue(originals: tuple[Path, Any], server: ArchiveServer) -> dict[str, Offer]:
    """The catalogue of the tiny archives that the server serves."""
    files, offers = tiny_catalogue(originals[0], server.url)
    server.files.update(files)
    return offers


@pytest.fixture
def get(catalogue: dict[str, Offer], tmp_path: Path) -> Callable[..., FetchReport]:
    def run(source: str, **options: Any) -> FetchReport:
        settings = {"to": tmp_path / "data", "say": lambda line: None, "retry": ONCE, "catalogue": catalogue}
        return fetch(source, **settings | options)

    return run


def visible(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def test_the_catalogue_puts_things_where_the_readers_look() -> None:
    assert set(CATALOGUE) == set(SOURCES)
    for source, offer in CATALOGUE.items():
        assert offer.folder == PUBLIC[source].path
        assert all((piece.folder + "/").startswith(offer.folder + "/") for piece in offer.pieces)


@pytest.mark.parametrize("source", SOURCES)
def test_what_is_fetched_opens_as_a_source(
    source: str, get: Callable[..., FetchReport], originals: tuple[Path, Any], tmp_path: Path, server: ArchiveServer
) -> None:
    said: list[str] = []
    report = get(source, say=said.append)
    root = tmp_path / "data"
    path = PUBLIC[source].path
    assert visible(root / path) == visible(originals[0] / path)
    opened = open_source(
        source, SourceParams.model_validate({"kind": source, "path": path}), raw_root=root, size=64, seed=0
    )
    found = {sample.name: sample.load()[1] for sample in opened.samples()}
    assert found.keys() == originals[1][source].keys()
    for name, mask in originals[1][source].items():
        np.testing.assert_array_equal(found[name], mask)
    assert report.folder == str(root / path)
    assert report.files == len(visible(root / path))
    names = [archive.name for archive in report.archives]
    assert sorted(names) == sorted({piece.archive.name for piece in CATALOGUE[source].pieces})
    assert all(archive.received == server.sent(f"/{archive.name}") > 0 for archive in report.archives)
    assert not any((root / "archives").glob("*.zip"))
    json.dumps(report.as_dict())
    terms = next(index for index, line in enumerate(said) if report.terms in line)
    assert terms <= 1  # before anything is downloaded


@pytest.mark.parametrize("source", SOURCES)
def test_real_files_arrive_byte_for_byte(
    source: str, privseg_data: Path, server: ArchiveServer, tmp_path: Path
) -> None:
    path = PUBLIC[source].path
    shutil.copytree(privseg_data / path, tmp_path / "real" / path)
    files, offers = tiny_catalogue(tmp_path / "real", server.url)
    server.files.update(files)
    fetch(source, tmp_path / "data", say=lambda line: None, catalogue=offers)
    fetched, real = visible(tmp_path / "data" / path), visible(privseg_data / path)
    assert fetched
    assert fetched == {name: content for name, content in real.items() if name in fetched}
    assert not [name for name in real if name not in fetched and Path(name).suffix in (".jpg", ".png")]


def test_a_second_fetch_does_nothing(get: Callable[..., FetchReport], server: ArchiveServer) -> None:
    first = get("voc")
    asked = len(server.requests)
    again = get("voc")
    assert len(server.requests) == asked
    assert (again.archives, again.unpacked, again.already_there) == ((), (), first.unpacked)
    assert again.files == first.files


def test_an_archive_that_two_sources_share_is_downloaded_once(
    get: Callable[..., FetchReport], server: ArchiveServer, tmp_path: Path
) -> None:
    get("cocostuff164k")
    before = {path: server.sent(path) for path in ("/train2017.zip", "/val2017.zip")}
    report = get("coco_instances")
    assert [archive.name for archive in report.archives] == ["annotations_trainval2017.zip"]
    assert sorted(report.linked) == ["coco2017/train2017", "coco2017/val2017"]
    assert before == {path: server.sent(path) for path in before}
    data = tmp_path / "data"
    picture = next((data / "coco2017/train2017").glob("*.jpg"))
    assert picture.samefile(data / "cocostuff164k/images/train2017" / picture.name)


def test_archives_are_kept_on_request(get: Callable[..., FetchReport], server: ArchiveServer, tmp_path: Path) -> None:
    [archive] = get("ade20k", keep_archives=True).archives
    assert Path(archive.kept).read_bytes() == server.files[f"/{archive.name}"]
    shutil.rmtree(tmp_path / "data/ADEChallengeData2016")
    [again] = get("ade20k", keep_archives=True).archives
    assert again.received == 0
    assert len(server.requests) == 1


def test_an_interrupted_fetch_goes_on(
    get: Callable[..., FetchReport], server: ArchiveServer, originals: tuple[Path, Any], tmp_path: Path
) -> None:
    name = "/VOCtrainval_11-May-2012.tar"
    server.misbehave(name, ArchiveServer.drop_after(5_000))
    with pytest.raises(ServerUnavailableError, match="run the same command again"):
        get("voc")
    assert not (tmp_path / "data/VOCdevkit").exists()
    [archive] = get("voc").archives
    assert archive.resumed_at == 5_000
    assert server.sent(name) == len(server.files[name])
    assert visible(tmp_path / "data/VOCdevkit") == visible(originals[0] / "VOCdevkit")


def test_a_fetch_that_is_killed_while_it_unpacks_leaves_no_half_folder(
    get: Callable[..., FetchReport],
    catalogue: dict[str, Offer],
    server: ArchiveServer,
    originals: tuple[Path, Any],
    tmp_path: Path,
) -> None:
    script = (
        "import pickle, sys; from pathlib import Path; from privseg.datasets.fetch import fetch\n"
        "def progress(what, done, total):\n"
        "    if what.startswith('unpacking') and done:\n"
        "        print('there', flush=True); sys.stdin.read()\n"
        "offers = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "fetch('ade20k', Path(sys.argv[2]), say=lambda line: None, progress=progress, catalogue=offers)\n"
    )
    command = [sys.executable, "-c", script, pickle.dumps(catalogue).hex(), str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        os.kill(process.pid, signal.SIGKILL)
    assert set(visible(tmp_path / "data")) == {"archives/ADEChallengeData2016.zip"}
    [archive] = get("ade20k").archives
    assert (archive.received, len(server.requests)) == (0, 1)
    assert visible(tmp_path / "data/ADEChallengeData2016") == visible(originals[0] / "ADEChallengeData2016")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        ".privseg-fetch.lock",
        "ADEChallengeData2016",
    ]


def test_a_mirror_is_asked_instead(get: Callable[..., FetchReport], server: ArchiveServer) -> None:
    server.files["/mirror/here/ADEChallengeData2016.zip"] = server.files.pop("/ADEChallengeData2016.zip")
    get("ade20k", base_url=f"{server.url}/mirror/here/")
    assert [request.path for request in server.requests] == ["/mirror/here/ADEChallengeData2016.zip"]


@pytest.mark.parametrize(
    "address",
    ["ftp://mirror.example/x", "mirror.example", "http://", "http://user:secret@mirror.example", "http://[", ""],
)
def test_an_address_that_is_none(address: str, get: Callable[..., FetchReport]) -> None:
    with pytest.raises(UsageError, match="--base-url") as caught:
        get("voc", base_url=address)
    assert "secret" not in str(caught.value)


def test_the_next_server_is_asked(
    catalogue: dict[str, Offer], get: Callable[..., FetchReport], server: ArchiveServer
) -> None:
    [piece] = catalogue["voc"].pieces
    archive = replace(piece.archive, urls=(f"{server.url}/gone.tar", f"{server.url}/parked", *piece.archive.urls))
    server.files["/parked"] = b"<html>This domain is for sale"
    catalogue["voc"] = replace(catalogue["voc"], pieces=(replace(piece, archive=archive),))
    said: list[str] = []
    get("voc", say=said.append)
    assert [request.path for request in server.requests] == ["/gone.tar", "/parked", "/VOCtrainval_11-May-2012.tar"]
    assert sum("asking the next server" in line for line in said) == 2


def test_an_unknown_source_names_the_known_ones(get: Callable[..., FetchReport], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"source camvid: .*ade20k, coco_instances, cocostuff164k, voc"):
        get("camvid")
    assert not (tmp_path / "data").exists()


def test_a_folder_that_was_not_fetched_is_left_alone(
    get: Callable[..., FetchReport], server: ArchiveServer, tmp_path: Path
) -> None:
    mine = tmp_path / "data/VOCdevkit/VOC2012/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UsageError, match=r"VOC2012: is there already and was not fetched"):
        get("voc")
    assert mine.read_text() == "mine"
    assert server.requests == []


def test_a_fetched_folder_that_lost_files_is_noticed(get: Callable[..., FetchReport], tmp_path: Path) -> None:
    get("ade20k")
    next((tmp_path / "data/ADEChallengeData2016/images/training").glob("*.jpg")).unlink()
    with pytest.raises(DataError, match=r"ADEChallengeData2016: holds \d+ of the \d+ files .*delete the folder"):
        get("ade20k")


def test_a_lost_twin_is_no_twin(get: Callable[..., FetchReport], server: ArchiveServer, tmp_path: Path) -> None:
    get("cocostuff164k")
    next((tmp_path / "data/cocostuff164k/images/val2017").glob("*.jpg")).unlink()
    report = get("coco_instances")
    assert report.linked == ("coco2017/train2017",)
    assert [archive.name for archive in report.archives] == ["annotations_trainval2017.zip", "val2017.zip"]


def test_tampered_and_hostile_archives_end_a_fetch_cleanly(
    get: Callable[..., FetchReport], server: ArchiveServer, tmp_path: Path
) -> None:
    path = "/ADEChallengeData2016.zip"
    good = server.files[path]
    server.files[path] = good[:-40] + bytes(40)
    with pytest.raises(DataError, match=r"ADEChallengeData2016\.zip\.part: has the sha256 .* removed"):
        get("ade20k")
    assert not (tmp_path / "data/ADEChallengeData2016").exists()
    assert visible(tmp_path / "data") == {}
    server.files[path] = good
    assert get("ade20k").files


def test_a_first_copy_that_cannot_be_unpacked_is_not_the_measure(
    get: Callable[..., FetchReport], server: ArchiveServer, tmp_path: Path
) -> None:
    """Without a published checksum, a bad first copy must not keep a good second one out."""
    path = "/stuffthingmaps_trainval2017.zip"
    good = server.files[path]
    server.files[path] = good[:-30] + bytes(30)
    with pytest.raises(DataError, match=r"stuffthingmaps_trainval2017\.zip: cannot be unpacked"):
        get("cocostuff164k")
    assert visible(tmp_path / "data") == {}
    server.files[path] = good
    [first, *_] = get("cocostuff164k").archives
    assert (first.name, first.trust) == ("stuffthingmaps_trainval2017.zip", "recorded")
    shutil.rmtree(tmp_path / "data/cocostuff164k")
    assert get("cocostuff164k").archives[0].trust == "matches the record"


def test_a_disk_that_is_too_small_is_noticed_first(
    catalogue: dict[str, Offer], get: Callable[..., FetchReport], server: ArchiveServer
) -> None:
    [piece] = catalogue["voc"].pieces
    huge = replace(piece.archive, size=10**17)
    catalogue["voc"] = replace(catalogue["voc"], pieces=(replace(piece, archive=huge),))
    with pytest.raises(StorageError, match=r"90949\.\d TiB are needed to fetch voc, .* are free: .* TiB are missing"):
        get("voc")
    assert server.requests == []


def test_a_disk_that_is_just_large_enough(
    catalogue: dict[str, Offer],
    get: Callable[..., FetchReport],
    server: ArchiveServer,
    make_disk: Callable[[int], Path],
) -> None:
    """An archive that is deleted after unpacking does not count beside the next one."""
    disk = make_disk(3)
    offer = catalogue["cocostuff164k"]
    *_, last = archives = list(dict.fromkeys(piece.archive for piece in offer.pieces))
    each = (shutil.disk_usage(disk).free - last.size - 500) // len(archives)
    tight = {archive: replace(archive, unpacked=each - 20 * 2048, entries=20) for archive in archives}
    pieces = tuple(replace(piece, archive=tight[piece.archive]) for piece in offer.pieces)
    catalogue["cocostuff164k"] = replace(offer, pieces=pieces)
    with pytest.raises(StorageError, match="are missing"):
        get("cocostuff164k", to=disk, keep_archives=True)
    assert server.requests == []
    assert get("cocostuff164k", to=disk).files


def test_two_fetches_at_once(get: Callable[..., FetchReport], server: ArchiveServer) -> None:
    asked, gate = threading.Event(), threading.Event()

    def hold() -> None:
        asked.set()
        gate.wait()

    server.misbehave("/ADEChallengeData2016.zip", ArchiveServer.after(hold))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get, "ade20k", retry=Retry(attempts=1, timeout=60))
        try:
            assert asked.wait(60)
            with pytest.raises(UsageError, match=r"data: another fetch works there.*wait for it"):
                get("voc")
        finally:
            gate.set()
        assert first.result().files
    assert get("voc").files  # the lock is free again


def test_a_lock_is_not_followed_out_of_the_folder(get: Callable[..., FetchReport], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "data/.privseg-fetch.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match=r"data: cannot be written"):
        get("voc")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("obstacle", ["data", "data/archives"])
def test_a_file_where_a_folder_should_be(obstacle: str, get: Callable[..., FetchReport], tmp_path: Path) -> None:
    (tmp_path / obstacle).parent.mkdir(exist_ok=True)
    (tmp_path / obstacle).write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        get("voc")


def test_notes_are_hidden_from_readers(get: Callable[..., FetchReport], tmp_path: Path) -> None:
    get("cocostuff164k")
    notes = [path for path in (tmp_path / "data").rglob("*") if path.name == NOTE]
    assert len(notes) == 4
    assert all(json.loads(note.read_text())["files"] == len([*note.parent.iterdir()]) - 1 for note in notes)
