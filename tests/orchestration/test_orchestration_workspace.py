"""The workspace: a snapshot that runs the pipeline and never touches the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from privseg import pipeline, repro, workspace
from privseg.errors import DataError, PrivsegError, StorageError, UsageError
from privseg.params import load_params

CHECKOUT = Path(workspace.__file__).resolve().parents[1]


def test_prepare_gives_a_git_repository_with_code_pipeline_and_parameters(
    tmp_path: Path, tiny_overrides: dict[str, str]
) -> None:
    ready = workspace.prepare(tmp_path / "home", overrides=tiny_overrides)

    assert ready.sources == ["scenes"]
    assert ready.candidates == load_params(CHECKOUT / "params.yaml").candidates
    assert (ready.path / "privseg" / "errors.py").read_bytes() == (CHECKOUT / "privseg" / "errors.py").read_bytes()
    assert load_params(ready.path / "params.yaml").image.size == 128
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ready.path, capture_output=True, text=True, check=True
    )
    assert status.stdout == ""


def test_preparing_again_leaves_unchanged_files_alone(tmp_path: Path) -> None:
    first = workspace.prepare(tmp_path / "home")
    before = {f: f.stat().st_mtime_ns for f in first.path.rglob("*.py")}
    head = workspace.record_run(first.path, "nothing to record")

    second = workspace.prepare(tmp_path / "home")

    assert {f: f.stat().st_mtime_ns for f in second.path.rglob("*.py")} == before
    assert workspace.record_run(second.path, "nothing to record") == head


def test_preparing_again_keeps_what_an_interrupted_run_goes_on_from(
    tmp_path: Path, tiny_overrides: dict[str, str]
) -> None:
    ingested = workspace.prepare(tmp_path / "home", overrides=tiny_overrides).path / "data/ingested"
    for name in (".scenes.shards/00000-1", ".scenes.partial", "scenes", ".gone.shards/00000-1", "gone"):
        (ingested / name).mkdir(parents=True)

    workspace.prepare(tmp_path / "home", overrides=tiny_overrides)

    assert {entry.name for entry in ingested.iterdir()} == {".scenes.shards", ".scenes.partial", "scenes"}
    assert (ingested / ".scenes.shards/00000-1").is_dir()


def test_data_folder_replaces_generated_scenes_and_is_only_linked(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "VOC").mkdir(parents=True)

    ready = workspace.prepare(
        tmp_path / "home", data=data, overrides={"sources": "{voc: {kind: voc, path: VOC, terms: none}}"}
    )

    assert ready.sources == ["voc"]
    assert (ready.path / "raw" / "voc").resolve() == (data / "VOC").resolve()
    assert str(tmp_path) not in (ready.path / "params.yaml").read_text()


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"trian.smoke.seconds": "5"}, "trian"),
        ({"seed": "{"}, "seed"),
        ({"train.smoke.seconds": "-1"}, "train.smoke.seconds"),
        ({"profile.deeper": "1"}, "profile.deeper"),
        ({"sources.other.count": "8"}, "sources.other.kind"),
        ({"sources": "3"}, "sources"),
        ({"candidates": "[bisenetv2, stcd1]"}, "stcd1"),
        ({"sources.scenes.kind": "imagenet"}, "scenes"),
    ],
)
def test_bad_parameters_are_named_and_the_workspace_keeps_the_old_ones(
    tmp_path: Path, overrides: dict[str, str], named: str
) -> None:
    ready = workspace.prepare(tmp_path / "home")
    before = (ready.path / "params.yaml").read_bytes()
    for made in ("models/stdc1", "models/.stdc1.training", "data/ingested/scenes"):
        (ready.path / made).mkdir(parents=True)

    with pytest.raises(UsageError) as caught:
        workspace.prepare(tmp_path / "home", overrides=overrides)

    assert named in str(caught.value)
    assert (ready.path / "params.yaml").read_bytes() == before
    for made in ("models/stdc1", "models/.stdc1.training", "data/ingested/scenes"):
        assert (ready.path / made).is_dir()


def test_a_candidate_off_the_list_loses_its_result_but_not_its_unfinished_training(tmp_path: Path) -> None:
    ready = workspace.prepare(tmp_path / "home")
    for made in ("stdc1", ".stdc1.training", ".gone.training"):
        (ready.path / "models" / made).mkdir(parents=True)

    workspace.prepare(tmp_path / "home", overrides={"candidates": "[bisenetv2]"})

    assert sorted(entry.name for entry in (ready.path / "models").iterdir()) == [".stdc1.training"]


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        workspace.prepare(tmp_path / "home", data=tmp_path / "nowhere")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="VOCdevkit"):
        workspace.prepare(tmp_path / "home", data=tmp_path / "data")


def test_a_stage_runs_once_and_not_again(tmp_path: Path, tiny_overrides: dict[str, str]) -> None:
    ready = workspace.prepare(tmp_path / "home", overrides=tiny_overrides | {"sources.scenes.count": "6"})
    lines: list[str] = []

    assert repro.reproduce(ready.path, "identify@scenes", emit=lines.append)
    assert not repro.reproduce(ready.path, "identify@scenes", emit=lines.append)

    assert (ready.path / "data/identified/scenes/identified.parquet").is_file()
    lock = yaml.safe_load((ready.path / "dvc.lock").read_text())
    assert lock["stages"]["identify@scenes"]["outs"][0]["path"] == "data/identified/scenes"
    assert not repro.up_to_date(ready.path)  # the later stages have not run


def test_the_error_of_a_stage_keeps_its_class_and_words(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "VOC").mkdir(parents=True)
    ready = workspace.prepare(
        tmp_path / "home", data=data, overrides={"sources": "{voc: {kind: voc, path: VOC, terms: none}}"}
    )

    with pytest.raises(DataError) as caught:
        pipeline.reproduce(str(ready.path), "identify@voc")

    assert "VOC" in str(caught.value) or "voc" in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("left", ["", '{"kind": "StorageErr'])
def test_an_error_that_found_no_room_on_the_disk_is_one_about_storage(tmp_path: Path, left: str) -> None:
    # A stage whose error does not fit on the disk leaves an empty or a cut file where its error should be.
    ready = workspace.prepare(tmp_path / "home")
    stage = f"printf '{left}' > $PRIVSEG_ERROR_FILE; exit 1"
    (ready.path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"full": {"cmd": stage}}}))

    with pytest.raises(StorageError, match=r"stage full: .*disk is full") as caught:
        repro.reproduce(ready.path, "full", emit=lambda line: None)

    assert caught.value.exit_code == 7


def test_an_unknown_stage_is_an_error_that_names_it(tmp_path: Path) -> None:
    ready = workspace.prepare(tmp_path / "home")
    with pytest.raises(PrivsegError, match="no_such_stage"):
        repro.reproduce(ready.path, "no_such_stage", emit=lambda line: None)
