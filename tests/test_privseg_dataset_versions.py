"""Versions of the dataset: recorded once, listed, compared, and brought back byte for byte."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg import workspace
from privseg.dataset_checkout import checkout
from privseg.dataset_diff import compare_manifests, diff
from privseg.dataset_report import newest_report
from privseg.dataset_store import dataset_outputs
from privseg.dataset_versions import find_version, list_versions
from privseg.datasets.manifest import manifest_frame
from privseg.errors import DataError, PrivsegError, StorageError, UsageError
from privseg.testing.tiny_versions import TinyVersions, sample

CHECKOUT = Path(workspace.__file__).resolve().parents[1]


def quiet(line: str) -> None:
    del line


def first_samples() -> list[dict[str, Any]]:
    kept = [sample(f"street/{i:03d}", split="validation" if i == 0 else "train") for i in range(12)]
    unreadable = sample("street/broken", status="removed", reason="unreadable", split="", human_ratio=0.0)
    unreadable |= {"image_path": "", "mask_path": "", "sha256": ""}
    return [
        *kept,
        *(sample(f"mall/{i:03d}", split="test", human_ratio=0.2) for i in range(6)),
        sample("street/spécial ☃", status="removed", reason="close_up", split=""),
        unreadable,
    ]


def second_samples() -> list[dict[str, Any]]:
    samples = {row["sample_id"]: row for row in first_samples()}
    del samples["street/011"]
    samples["street/001"] = sample("street/001", content=1)
    samples["street/002"] = sample("street/002", split="test")
    samples["mall/003"] = sample("mall/003", status="removed", reason="near_duplicate", split="", human_ratio=0.2)
    return [*samples.values(), sample("mall/100", split="test"), sample("mall/101", split="test")]


class Two(TinyVersions):
    """A home with two versions; ``then`` is what the files of the first were when it was made."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.first = self.record(first_samples())
        self.then = self.digests()
        self.second = self.record(second_samples(), validation_share=0.25)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("versions") / "home")


@pytest.fixture
def home(made: Two, tmp_path: Path) -> Two:
    """The same home for a test that damages it."""
    copy = object.__new__(Two)
    copy.__dict__ |= made.__dict__
    copy.home = tmp_path / "home"
    copy.workspace = copy.home / "workspace"
    shutil.copytree(made.home, copy.home, symlinks=True)
    return copy


@pytest.fixture
def untouched(made: Two) -> Iterator[None]:
    """Nothing in the workspace may change: not its history, not its files."""
    before = state(made.workspace)
    yield
    assert state(made.workspace) == before


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


def state(root: Path) -> tuple[str, ...]:
    names = sorted(str(file) for file in root.rglob("*") if file.is_file() and ".git" not in file.parts)
    return git(root, "status", "--porcelain"), git(root, "rev-parse", "HEAD"), git(root, "tag"), *names


def object_of(home: Two, place: Path, path: str) -> Path:
    """DVC's file, in its cache or remote, for a file of the first version."""
    lock = yaml.safe_load(git(home.workspace, "show", f"dataset/{home.first}:dvc.lock"))
    outs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    folder = next(name for name in outs if path.startswith(f"{name}/"))
    entries = json.loads(in_store(place, outs[folder]).read_bytes())
    return in_store(place, next(entry["md5"] for entry in entries if f"{folder}/{entry['relpath']}" == path))


def in_store(place: Path, md5: str) -> Path:
    return place / "files" / "md5" / md5[:2] / md5[2:]


@pytest.fixture(scope="module")
def old(made: Two, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first version, checked out where a killed checkout has left something."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / ".old.partial" / "data").mkdir(parents=True)
    (folder / ".old.partial" / "data" / "half").write_bytes(b"half")
    before = state(made.workspace)
    assert checkout(made.workspace, made.first, folder / "old", say=quiet)
    assert state(made.workspace) == before
    return folder / "old"


def test_versions_are_listed_newest_first_with_their_summary(made: Two) -> None:
    newest, oldest = list_versions(made.workspace)

    assert (newest.name, oldest.name) == (made.second, made.first)
    assert (oldest.images, oldest.kept, oldest.train, oldest.validation, oldest.test) == (20, 18, 11, 1, 6)
    assert oldest.with_people == 18
    assert oldest.mean_human_ratio == pytest.approx((12 * 0.1 + 6 * 0.2) / 18, abs=1e-6)
    assert newest.created >= oldest.created
    assert newest.in_cache
    assert newest.in_remote
    sha = workspace.source_revision(CHECKOUT)["git_sha"]
    assert newest.code.rstrip("+") == (sha or "")[:7]


def test_the_tag_itself_says_what_is_in_the_version(made: Two) -> None:
    assert git(made.workspace, "cat-file", "-t", f"dataset/{made.first}").strip() == "tag"
    message = git(made.workspace, "tag", "--list", "--format=%(contents)", f"dataset/{made.first}")
    assert message.startswith(f"Dataset {made.first}: 18 images")
    assert "train: 11\nvalidation: 1\ntest: 6" in message


def test_recording_a_version_again_leaves_its_tag_where_it_is(home: Two) -> None:
    before = git(home.workspace, "for-each-ref", "refs/tags")
    (home.workspace / "reports" / "dataset.json").write_text("{}")

    assert workspace.record_dataset(home.workspace, home.second) == f"dataset/{home.second}"

    assert git(home.workspace, "for-each-ref", "refs/tags") == before


def test_what_comes_after_the_gate_is_no_part_of_a_version(made: Two) -> None:
    lock = yaml.safe_load((made.workspace / "dvc.lock").read_text())
    model = lock["stages"]["train"]["outs"][0]["md5"]
    assert not in_store(made.home / "dvc-store", model).exists()


def test_every_stage_of_the_pipeline_up_to_the_gate_is_the_dataset() -> None:
    pipeline = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())
    keys = {"foreach": ["voc", "gone"], "matrix": ["stdc1"]}
    stages = {}
    for name, stage in pipeline["stages"].items():
        for key in next((keys[kind] for kind in keys if kind in stage), [""]):
            body = stage.get("do", stage)
            outs = [*body.get("outs", []), *body.get("metrics", []), *body.get("plots", [])]
            paths = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
            stages[f"{name}@{key}" if key else name] = {
                "deps": [{"path": fill(dep, key)} for dep in body.get("deps", [])],
                "outs": [{"path": fill(path, key), "md5": "0"} for path in paths],
            }

    outputs = dataset_outputs(pipeline, {"stages": stages}, {"sources": {"voc": {}}, "candidates": ["stdc1"]})

    found = {output.stage for output in outputs.values()}
    later = {"train@stdc1", "evaluate@stdc1", "select", "export", "parity"}
    assert found == {name for name in stages if not name.endswith("@gone")} - later
    assert outputs["data/manifest.parquet"].cached
    assert not outputs["reports/dataset.json"].cached


def fill(path: str, key: str) -> str:
    return path.replace("${key}", key).replace("${item.candidate}", key)


@pytest.mark.usefixtures("untouched")
def test_diff_tells_every_kind_of_change_apart(made: Two) -> None:
    found = diff(made.workspace, made.first, made.second)

    assert found["kept"] == [18, 18]
    counts = {"added": 2, "removed": 1, "changed": 1, "moved": 1, "judged": 1, "same": 16}
    assert found["samples"] == counts
    assert found["by_source"]["mall"] == {"added": 2, "removed": 0, "changed": 0, "moved": 0, "judged": 1, "same": 5}
    assert found["moved"] == [{"sample_id": "street/002", "from": "train", "to": "test"}]
    assert found["judged"] == {"kept → removed: near_duplicate": 1}
    assert found["examples"] == {
        "added": ["mall/100", "mall/101"],
        "removed": ["street/011"],
        "changed": ["street/001"],
        "moved": ["street/002"],
        "judged": ["mall/003"],
    }
    assert found["parameters"] == {"split.validation_share": {"from": 0.05, "to": 0.25}}
    assert found["drift"]["tallest_ratio"]["psi"] == 0.0
    assert found["drift"]["human_ratio"]["psi"] > 0.0


rows = st.fixed_dictionaries(
    {
        "content": st.integers(0, 1),
        "split": st.sampled_from(["train", "test", ""]),
        "status": st.sampled_from(["kept", "removed"]),
        "is_human": st.booleans(),
        "human_ratio": st.floats(0, 1),
    }
)
tables = st.dictionaries(st.sampled_from([f"{s}/{i}" for s in "ab" for i in range(4)]), rows)


@settings(deadline=None, max_examples=20)
@given(tables, tables)
def test_a_comparison_accounts_for_every_sample_and_can_be_read_backwards(
    one: dict[str, dict[str, Any]], two: dict[str, dict[str, Any]]
) -> None:
    before, after = (frame(table) for table in (one, two))
    there, back = compare_manifests(before, after), compare_manifests(after, before)

    same = {name for name in one.keys() & two.keys() if unchanged(one[name], two[name])}
    assert there["samples"]["added"] == back["samples"]["removed"] == len(two.keys() - one.keys())
    assert there["samples"]["removed"] == back["samples"]["added"] == len(one.keys() - two.keys())
    assert there["samples"]["same"] == back["samples"]["same"] == len(same)
    assert {entry["sample_id"] for entry in there["moved"]} == {entry["sample_id"] for entry in back["moved"]}
    for kind, count in there["samples"].items():
        assert count == sum(counts[kind] for counts in there["by_source"].values())
    assert compare_manifests(after, after)["samples"]["same"] == len(two)


def frame(table: dict[str, dict[str, Any]]) -> pd.DataFrame:
    return manifest_frame(sample(name, **values) for name, values in table.items())


def unchanged(old: dict[str, Any], new: dict[str, Any]) -> bool:
    moved = "" not in (old["split"], new["split"]) and old["split"] != new["split"]
    return not moved and old["status"] == new["status"] and old["content"] == new["content"]


def test_an_old_version_comes_back_byte_for_byte(made: Two, old: Path) -> None:
    assert made.digests(old) == made.then
    assert sorted(entry.name for entry in old.iterdir()) == ["data", "reports", "version.json"]
    assert list(old.parent.iterdir()) == [old]


@pytest.mark.usefixtures("untouched")
def test_a_complete_checkout_is_reused(made: Two, old: Path) -> None:
    times = {file: file.stat().st_mtime_ns for file in old.rglob("*")}
    assert not checkout(made.workspace, made.first, old, say=quiet)
    assert {file: file.stat().st_mtime_ns for file in old.rglob("*")} == times


def test_a_file_changed_since_is_named_and_the_cache_is_out_of_its_reach(made: Two, old: Path, tmp_path: Path) -> None:
    cache = [file for file in (made.workspace / ".dvc" / "cache").rglob("*") if file.is_file()]
    before = [file.read_bytes() for file in cache]
    mask = old / "data" / "ingested" / "street" / "masks" / "spécial ☃.png"  # of a removed row, as good as any
    page = old / "reports" / "cleansing" / "index.html"
    for file in (mask, page):
        saved = file.read_bytes()
        file.write_bytes(saved[:-1] + b"?")
        with pytest.raises(DataError, match=rf"{file.relative_to(old)} of .*not what was recorded.*remove"):
            checkout(made.workspace, made.first, old, say=quiet)
        file.unlink()
        with pytest.raises(DataError, match=rf"{file.relative_to(old)} of .*is missing"):
            checkout(made.workspace, made.first, old, say=quiet)
        file.write_bytes(saved)
    assert [file.read_bytes() for file in cache] == before


def test_without_the_cache_the_remote_gives_it_back(home: Two, tmp_path: Path) -> None:
    shutil.rmtree(home.workspace / ".dvc" / "cache")
    shutil.rmtree(home.workspace / "data")

    assert checkout(home.workspace, home.first, tmp_path / "old", say=quiet)

    assert home.digests(tmp_path / "old") == home.then


def test_a_damaged_cache_is_noticed_and_the_message_repairs_it(home: Two, tmp_path: Path) -> None:
    path = "data/ingested/mall/images/002.jpg"
    damaged = object_of(home, home.workspace / ".dvc" / "cache", path)
    damaged.chmod(0o644)
    damaged.write_bytes(b"not this" * 75)
    to = tmp_path / "old"

    with pytest.raises(DataError) as caught:
        checkout(home.workspace, home.first, to, say=quiet)
    assert caught.value.subject == f"{path} of {home.first}"
    assert list(tmp_path.iterdir()) == [home.home]  # nothing half-written

    assert f"rm {damaged}," in caught.value.next_step
    damaged.unlink()
    assert checkout(home.workspace, home.first, to, say=quiet)
    assert home.digests(to) == home.then


def test_what_is_nowhere_any_more_is_named(home: Two, tmp_path: Path) -> None:
    path = "data/ingested/street/masks/005.png"
    for root in (home.workspace / ".dvc" / "cache", home.home / "dvc-store"):
        object_of(home, root, path).unlink()

    assert [(version.in_cache, version.in_remote) for version in list_versions(home.workspace)] == [(False, False)] * 2
    with pytest.raises(DataError, match=r"street/masks/005\.png.*neither in the cache"):
        checkout(home.workspace, home.first, tmp_path / "old", say=quiet)
    assert not (tmp_path / "old").exists()


def test_two_checkouts_do_not_write_one_folder(made: Two, tmp_path: Path) -> None:
    partial = tmp_path / ".old.partial"
    partial.mkdir()
    handle = os.open(partial, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as a checkout at work holds it
    try:
        with pytest.raises(UsageError, match="another checkout"):
            checkout(made.workspace, made.first, tmp_path / "old", say=quiet)
    finally:
        os.close(handle)


def test_a_folder_with_something_else_in_it_is_left_alone(made: Two, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UsageError, match="holds something else"):
            checkout(made.workspace, made.first, place, say=quiet)
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["", "data/ingested/street/images/old", "old"])
def test_the_workspace_is_no_place_for_a_checkout(made: Two, place: str) -> None:
    with pytest.raises(UsageError, match="inside the workspace"):
        checkout(made.workspace, made.first, made.workspace / place, say=quiet)
    assert not (made.workspace / "old").exists()


def test_a_version_that_would_not_be_whole_is_not_recorded(home: Two) -> None:
    git(home.workspace, "tag", "--delete", f"dataset/{home.second}")
    lock = yaml.safe_load((home.workspace / "dvc.lock").read_text())
    for place in (home.workspace / ".dvc" / "cache", home.home / "dvc-store"):
        in_store(place, lock["stages"]["split"]["outs"][0]["md5"]).unlink()

    with pytest.raises(DataError, match=r"data/manifest\.parquet.*not in DVC's cache.*dvc commit --force"):
        workspace.record_dataset(home.workspace, home.second)
    assert [version.name for version in list_versions(home.workspace)] == [home.first]

    subprocess.run([sys.executable, "-m", "dvc", "commit", "--quiet", "--force"], cwd=home.workspace, check=True)
    workspace.record_dataset(home.workspace, home.second)
    newest = list_versions(home.workspace)[0]
    assert (newest.name, newest.in_cache, newest.in_remote) == (home.second, True, True)


def test_a_remote_that_cannot_be_written_gets_no_version_tagged(home: Two) -> None:
    git(home.workspace, "tag", "--delete", f"dataset/{home.second}")
    shutil.rmtree(home.home / "dvc-store")
    (home.home / "dvc-store").write_text("a file where a folder should be")

    with pytest.raises(StorageError, match="dvc-store"):
        workspace.record_dataset(home.workspace, home.second)
    assert [version.name for version in list_versions(home.workspace)] == [home.first]


def test_the_report_shows_the_newest_version_and_only_its_own_pages(made: Two, home: Two) -> None:
    found = newest_report(made.workspace)
    assert found["version"]["name"] == made.second
    assert found["sources"]["mall"]["kept"] == 7
    assert found["sources"]["all"]["kept"] == found["sources"]["mall"]["kept"] + found["sources"]["street"]["kept"]
    assert found["pages"] == {
        "dataset": str(made.workspace / "reports/dataset/index.html"),
        "cleansing": str(made.workspace / "reports/cleansing/index.html"),
        "validation": str(made.workspace / "reports/validation/validation.html"),
    }
    home.write(first_samples())  # a later run, not recorded
    assert newest_report(home.workspace)["pages"] == {}


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "--allow-empty", "--message", "x")
    for name in ("ds-aaaa11112222", "ds-aaaa33334444", "ds-bbbb11112222"):
        git(tmp_path, "tag", f"dataset/{name}")
    return tmp_path


@pytest.mark.parametrize("given", ["ds-bbbb11112222", "dataset/ds-bbbb11112222", "ds-b", "bbbb"])
def test_the_beginning_of_a_name_is_enough(tagged: Path, given: str) -> None:
    assert find_version(tagged, given) == "ds-bbbb11112222"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("ds-aaaa", ["ds-aaaa11112222", "ds-aaaa33334444", "more of"]),
        ("ds-bbbb11112223", ["did you mean ds-bbbb11112222"]),
        ("zz", ["ds-aaaa11112222", "privseg dataset versions"]),
        ("", ["ds-aaaa11112222"]),
    ],
)
def test_an_unknown_or_ambiguous_version_names_those_there_are(tagged: Path, given: str, named: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        find_version(tagged, given)
    assert all(word in str(caught.value) for word in named)


def test_without_a_workspace_there_are_no_versions(tmp_path: Path) -> None:
    assert list_versions(tmp_path / "workspace") == []
    for function in (newest_report, lambda place: find_version(place, "ds-1")):
        with pytest.raises(PrivsegError, match="privseg run"):
            function(tmp_path / "workspace")
