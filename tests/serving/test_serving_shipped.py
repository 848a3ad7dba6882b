"""The shipped model: the first version of an empty repository, and of no other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from privseg.errors import GateFailedError, StorageError
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.repository import list_versions, publish, roll_back, verify
from privseg.serving.shipped import SHIPPED, seed
from privseg.testing.triton import make_person_model


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    make_person_model(tmp_path / "shipped" / MODEL_NAME / "1", kind="bright")
    return tmp_path / "shipped"


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_empty_repository_gets_the_shipped_version(shipped: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    assert seed(repository, shipped) == 1
    assert verify(repository, 1)["candidate"] == "test_bright"
    assert files(repository / MODEL_NAME / "1") == files(shipped / MODEL_NAME / "1")
    assert (repository / MODEL_NAME / "config.pbtxt").is_file()
    assert list((repository / ".staging").iterdir()) == []
    assert not (repository / ".pending").exists()


def test_versions_that_are_there_stay_alone(shipped: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    make_person_model(tmp_path / "own", kind="inverse")
    publish(repository, tmp_path / "own", endpoints=[], skip_smoke_load="tried elsewhere")
    before = files(repository)
    assert seed(repository, shipped) is None
    assert files(repository) == before


def test_the_next_publication_gets_the_next_number(shipped: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    seed(repository, shipped)
    make_person_model(tmp_path / "own", kind="inverse")
    assert publish(repository, tmp_path / "own", endpoints=[], skip_smoke_load="tried elsewhere").version == 2
    assert roll_back(repository, endpoints=[]) == 1
    assert seed(repository, shipped) is None
    assert list_versions(repository) == [1]


def test_a_checkout_or_package_without_a_model_ships_nothing(tmp_path: Path) -> None:
    assert seed(tmp_path / "repository", tmp_path / "nothing") is None
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_a_damaged_shipped_model_is_refused(shipped: Path, tmp_path: Path, fault: str) -> None:
    model = shipped / MODEL_NAME / "1" / "model.onnx"
    model.write_bytes(b"pointer to a large file") if fault == "changed" else model.unlink()
    with pytest.raises(GateFailedError, match="git checkout -- model_repository"):
        seed(tmp_path / "repository", shipped)
    assert list_versions(tmp_path / "repository") == []


def test_a_full_disk_leaves_an_empty_repository(shipped: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"0" * (1 << 20))
    with pytest.raises(StorageError, match="no space left"):
        seed(small_disk / "repository", shipped)
    assert list_versions(small_disk / "repository") == []


def test_of_many_at_once_one_seeds(shipped: Path, tmp_path: Path) -> None:
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(seed(tmp_path / "repository", shipped))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found, key=str) == [1, *[None] * 5]
    assert list_versions(tmp_path / "repository") == [1]


def test_it_is_looked_for_in_the_checkout() -> None:
    assert (SHIPPED / MODEL_NAME / "config.pbtxt").is_file()
