"""The command end to end on drawn scenes, its documents, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner

from privseg.assessment import assess as assessing
from privseg.assessment.report import check_document, fill_sections, write_document, write_result
from privseg.assessment.table import markdown, targets
from privseg.cli import app
from privseg.errors import DataError, UsageError
from privseg.privacy.filters.registry import METHODS

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "model_repository" / "person_segmentation" / "1"
TINY = assessing.Scale(
    identities=6,
    inverted=2,
    trained=6,
    restored=2,
    steps=3,
    fused=3,
    frames=4,
    pictures=2,
    faces=0,
    clips=("vtest",),
    golden=(1, 4),
    seconds=600,
)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    work = tmp_path_factory.mktemp("assess")
    return assessing.assess(["blank", "pixelate", "scramble"], None, MODEL, work, scale=TINY)


def test_every_method_is_attacked_at_every_strength(result: dict[str, Any]) -> None:
    labels = [row["label"] for row in result["methods"]]
    assert labels[:3] == ["blank", "pixelate", "scramble"]
    assert {"pixelate cells=1", "pixelate cells=6"} <= set(labels)
    assert result["skipped"] == []
    blank = result["methods"][0]
    assert blank["bits"] == 0
    assert blank["outside_untouched"]
    assert blank["restorer"]["learnt_db"] == pytest.approx(0, abs=1e-6)
    assert result["methods"][2]["keys"]["wrong_key"] < 0.1


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    hurried = assessing.dataclasses.replace(TINY, seconds=0)
    found = assessing.assess(["pixelate"], None, MODEL, tmp_path, scale=hurried)
    assert [row["label"] for row in found["methods"]] == ["pixelate"]
    assert found["skipped"] == ["pixelate cells=1", "pixelate cells=6"]


def test_targets_fail_where_a_method_breaks_its_promise(result: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(result))
    broken["methods"][0]["parrot"]["appearance"] = 0.9
    broken["methods"][2]["keys"]["wrong_key"] = 0.5
    broken["methods"][1]["outside_untouched"] = False
    failed = [words for words, held, _ in targets(broken) if not held]
    assert any("re-identified" in words for words in failed)
    assert any("wrong key" in words for words in failed)
    assert any("outside" in words for words in failed)


def test_a_result_is_written_as_json_table_and_plot(result: dict[str, Any], tmp_path: Path) -> None:
    write_result(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "assess.json").read_text())["methods"][0]["method"] == "blank"
    assert "`pixelate cells=1`" in (tmp_path / "out" / "table.md").read_text()
    assert cv2.imread(str(tmp_path / "out" / "plot.png")).shape[1] > 600


def test_a_document_is_regenerated_between_its_marks(result: dict[str, Any], tmp_path: Path) -> None:
    document = tmp_path / "docs" / "privacy.md"
    document.parent.mkdir()
    marks = ("methods", "strengths", "targets", "coverage", "run")
    document.write_text(
        "Kept.\n" + "".join(f"<!-- assess:{m} -->to be replaced<!-- /assess:{m} -->\n" for m in marks) + "Kept too."
    )
    write_document(result, document, None, MODEL)
    text = document.read_text()
    assert text.startswith("Kept.")
    assert text.endswith("Kept too.")
    assert "to be replaced" not in text
    assert markdown(result) in text
    sheet = document.parent / "images" / "methods_drawn.jpg"
    assert sheet.stat().st_size <= 300_000
    assert cv2.imread(str(sheet)) is not None
    once = document.read_text()
    assert fill_sections(once, {"methods": markdown(result)}) == once


def test_a_document_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "privacy.md").write_text("# Privacy")
    with pytest.raises(UsageError, match="lacks the marks"):
        check_document(tmp_path / "privacy.md")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs either --all or --method"),
        (["--all", "--method", "blank"], "needs either --all or --method"),
        (["--method", "blank", "--docs"], "needs every method"),
        (["--method", "nothing"], "is not known"),
    ],
)
def test_a_wrong_command_is_refused(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["assess", *arguments])
    assert isinstance(done.exception, UsageError)
    assert said in str(done.exception)


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks pairs/clothing/images/"):
        assessing.assess(["blank"], tmp_path, MODEL, tmp_path)


def test_the_document_names_every_method_and_its_class() -> None:
    check_document(ROOT / "docs" / "privacy.md")
    text = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    for name, kind in METHODS.items():
        assert re.search(rf"\| `{name}` \| {kind.privacy_class} \|", text), name


def test_every_proof_the_document_points_at_exists() -> None:
    text = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    proofs = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(proofs) >= 15
    for file, name in proofs:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file}::{name}"
    for file in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / file).is_file(), file
    for picture in re.findall(r"\]\((images/[\w.]+)\)", text):
        assert (ROOT / "docs" / picture).is_file(), picture
