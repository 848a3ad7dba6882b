from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pandas as pd
import pytest

from privseg.benchmark.champion import write_champion
from privseg.benchmark.columns import ACCURACY, COMPLEXITY, MISSED, SUMMARY, Column, best_rows
from privseg.benchmark.evaluate import write_failed
from privseg.benchmark.report import report
from privseg.benchmark.select import select
from privseg.benchmark.study import STUDY
from privseg.errors import DataError, UsageError


class Page(HTMLParser):
    """Tables as rows of cells, every address the page would load, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in {"src", "href"}]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self._cell = True
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self._cell = False

    def handle_data(self, data):
        self.text += data
        if self._cell:
            self.tables[-1][-1][-1] += data

    def table(self, *headings):
        """The rows below the first table that has these headings."""
        for table in self.tables:
            for position, row in enumerate(table):
                if set(headings) <= set(row):
                    return [dict(zip(row, cells, strict=True)) for cells in table[position + 1 :]]
        raise AssertionError(f"no table with {headings}")


def change(path, **sections):
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {name: result.get(name, {}) | values for name, values in sections.items()}))


def figure(row, *keys):
    for key in keys:
        row = row.get(key) or {}
    return row or None


def draw(path, *numbers):
    folder = path.parent / "pictures"
    folder.mkdir()
    for number in numbers:
        for kind in ("input", "truth", "predicted"):
            cv2.imwrite(str(folder / f"{number}_{kind}.jpg"), np.zeros((32, 32, 3), np.uint8))


@pytest.fixture
def written(params, write_result, tmp_path):
    """Two candidates, one that failed, no champion."""
    results = [write_result("stdc1", recall=0.9), write_result("other", recall=0.7, p50_ms=50.0)]
    change(results[0], complexity={"parameters": 9_000_000})
    for path in results:
        draw(path, 1, 2)
    broken = tmp_path / "broken" / "result.json"
    write_failed(broken, "broken", "loss is <not> a number")
    results.append(broken)
    selection = select(params, results)
    merged = report(results, selection, tmp_path / "benchmark.html")
    return tmp_path, merged, (tmp_path / "benchmark.html").read_text()


def test_results_json_is_all_candidates_and_the_choice(written):
    folder, merged, _ = written
    assert json.loads((folder / "results.json").read_text()) == merged
    assert merged["schema_version"] == 1
    assert [row["candidate"] for row in merged["candidates"]] == ["stdc1", "other"]
    assert (merged["winner"], merged["outcome"], merged["champion"]) == ("stdc1", "promote", None)
    assert merged["failed"] == [{"candidate": "broken", "reason": "loss is <not> a number"}]
    assert len(merged["study"]["models"]) == len(STUDY)
    for row in merged["candidates"]:
        result = json.loads((folder / row["candidate"] / "result.json").read_text())
        assert {key: row[key] for key in result} == result
        assert {"score", "accepted", "reason"} <= set(row)


@pytest.mark.parametrize("columns", [ACCURACY, MISSED, COMPLEXITY])
def test_page_and_results_agree(written, columns):
    _, merged, text = written
    shown = {row["Candidate"]: row for row in Page(text).table(*(column.heading for column in columns))}
    assert set(shown) == {"stdc1 ★", "other"}
    for row in merged["candidates"]:
        cells = shown[row["candidate"] + (" ★" if row["candidate"] == merged["winner"] else "")]
        for column in columns:
            value = figure(row, *column.path)
            if value is None:
                assert cells[column.heading] == "\N{EN DASH}"
                continue
            digits = 10 ** -int(re.search(r"\.(\d)", column.form)[1])
            number = float(cells[column.heading].rstrip("%")) / (100 if column.form.endswith("%") else 1)
            error = digits * (0.01 if column.form.endswith("%") else 1)
            assert number == pytest.approx(value * column.scale, abs=error), column.heading


def test_speed_is_shown_by_shape_and_runtime(params, write_result, tmp_path):
    results = [write_result("first", recall=0.9), write_result("second")]
    for path, factor in zip(results, (1, 3), strict=True):
        base = json.loads(path.read_text())["speed"]
        extra = [
            base | {"runtime": "openvino", "precision": "bfloat16", "p50_ms": 10.0 * factor, "fps": 100.0 / factor},
            base | {"height": 512, "width": 1024, "p50_ms": 400.0, "fps": 2.5},
            base | {"device": "cuda", "batch": 16, "fps": 1600.0 / factor},
        ]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"measurements": [base, *extra]}))
    selection = select(params, results)
    report(results, selection, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    square, wide = (table for table in page.tables if "p95, ms" in table[1])
    names = ["PyTorch, processor, float32", "OpenVINO, processor, bfloat16", "PyTorch, GPU, float32, best batch"]
    assert square[0] == ["Candidate", *names]
    assert square[2] == [
        "first ★", "100.0", "120.0", "10.0", "1.00", "10.0", "120.0", "100.0", "1.00", "100.0", "120.0",
        "1600.0 (batch 16)", "1.00",
    ]  # fmt: skip
    assert square[3][5:9] == ["30.0", "120.0", "33.3", "0.33"]
    assert wide[0] == ["Candidate", names[0]]
    assert wide[2] == ["first ★", "400.0", "120.0", "2.5", "1.00"]


def test_page_needs_nothing_beside_itself(written):
    page = Page(written[2])
    sources = [address for address in page.addresses if not address.startswith("#")]
    assert len(sources) == 2 * 4, "two pictures: as they are, the truth, and two candidates"
    assert all(address.startswith("data:image/jpeg;base64,") for address in sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", written[2])
    assert {a for a in page.addresses if a.startswith("#")} == {
        f"#{name}" for name in re.findall(r'h2 id="(\w+)"', written[2])
    }


def test_page_says_what_failed_and_why_each_was_chosen_or_not(written):
    page = Page(written[2])
    reasons = {row["Candidate"]: row["Reason"] for row in page.table("Candidate", "Reason")}
    assert reasons["stdc1"].startswith("highest score")
    assert "scores less than stdc1" in reasons["other"]
    assert ["broken", "loss is <not> a number"] in [row for table in page.tables for row in table]
    assert "<not>" not in written[2]


def test_the_study_stands_beside_ours_as_another_machine(written):
    page = Page(written[2])
    rows = {row["Study's model"]: row for row in page.table("Study's model", "FPS, V100")}
    assert len(rows) == len(STUDY)
    stdc1 = rows["STDC1 (no pretraining)"]
    assert (stdc1["FPS, V100"], stdc1["mIoU, Cityscapes"]) == ("23.06", "0.718")
    assert (stdc1["Our candidate"], stdc1["FPS, here"]) == ("stdc1", "10.0")
    assert rows["UNet"]["FPS, here"] == "\N{EN DASH}"
    assert "Another machine, another dataset, other classes" in page.text


def test_page_tells_challenger_and_champion(params, write_result, tmp_path):
    results = [write_result("weak", recall=0.5), write_result("weaker", recall=0.4)]
    for name, counts in (("weak", [50, 0, 50]), ("champion", [90, 0, 10])):
        (tmp_path / name).mkdir(exist_ok=True)
        table = {"sample_id": [f"s/{n}" for n in range(8)]} | dict(zip(("tp", "fp", "fn"), counts, strict=True))
        pd.DataFrame(table).assign(tn=0).to_parquet(tmp_path / name / "images.parquet")
    served = {"version": 4, "accuracy": {"iou_human": 0.9, "precision": 1.0, "recall": 0.9}}
    write_champion(tmp_path / "champion", served | {"speed": {"p50_ms": 1234.0, "runtime": "onnxruntime"}})
    selection = select(params, results, champion=tmp_path / "champion")
    report(results, selection, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text())
    assert "version 4 stays; weak is the best of the candidates" in page.text
    models = {row["Model"]: row for row in page.table("Model", "Recall")}
    assert models["version 4"]["Recall"] == "0.900"
    assert models["weak"]["Recall"] == "0.500"
    assert "Paired bootstrap" in page.text
    assert "wins 0.00%, and 97.50% is asked: it is the best of 2" in page.text
    assert "version 4 itself needs 1234 ms in onnxruntime, more than the 1000 ms" in page.text


def test_page_warns_of_different_machines(params, write_result, tmp_path):
    results = [write_result("here"), write_result("there")]
    change(results[1], hardware={"cpu": "another processor"})
    selection = select(params, results)
    report(results, selection, tmp_path / "page.html")
    assert "latencies do not compare" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("load", "busy"), [(0.4, False), (1.9, False), (3.0, True)])
def test_page_says_if_the_machine_was_busy(params, write_result, tmp_path, load, busy):
    path = write_result("one")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"load_average": load}))
    selection = select(params, [path])
    report([path], selection, tmp_path / "page.html")
    assert ("The machine was busy" in (tmp_path / "page.html").read_text()) == busy


def test_tables_for_dvc(written):
    folder, merged, _ = written
    overall = pd.read_csv(folder / "comparison" / "overall.csv").set_index("candidate")
    assert overall.loc["stdc1", "parameters"] == 9_000_000
    assert overall.loc["stdc1", "winner"]
    assert not overall.loc["other", "winner"]
    speed = pd.read_csv(folder / "comparison" / "speed.csv")
    assert list(speed["fps"]) == [10.0, 20.0]
    missed = pd.read_csv(folder / "comparison" / "miss_rate.csv")
    assert set(missed["height"]) == {"all", "small", "medium", "large"}
    metrics = {path.stem: json.loads(path.read_text()) for path in (folder / "comparison" / "metrics").iterdir()}
    assert set(metrics) == {"stdc1", "other"}
    assert metrics["stdc1"]["iou_human"] == merged["candidates"][0]["accuracy"]["iou_human"]


def test_twenty_candidates_with_their_pictures_stay_small(params, write_result, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    busy = cv2.GaussianBlur(cv2.resize(noise, (320, 240)), (0, 0), 1.5)
    results = []
    for number in range(20):
        path = write_result(f"candidate_number_{number:02d}", recall=0.5 + number / 50, p50_ms=20.0 + number)
        (path.parent / "pictures").mkdir()
        for picture in range(1, 7):
            for kind in ("input", "truth", "predicted"):
                name = path.parent / "pictures" / f"{picture}_{kind}.jpg"
                cv2.imwrite(str(name), busy, [cv2.IMWRITE_JPEG_QUALITY, 80])
        results.append(path)
    selection = select(params, results)
    report(results, selection, tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 8_000_000


def test_what_it_did_not_write_is_escaped(params, write_result, tmp_path):
    path = write_result("odd")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"candidate": "<script>alert(1)</script>"}))
    selection = select(params, [path])
    report([path], selection, tmp_path / "benchmark.html")
    assert "<script" not in (tmp_path / "benchmark.html").read_text()


def test_other_candidates_than_selected(params, write_result, tmp_path):
    selection = select(params, [write_result("one")])
    with pytest.raises(DataError, match="does not cover the same candidates"):
        report([write_result("two")], selection, tmp_path / "benchmark.html")


def test_no_results(params, write_result, tmp_path):
    with pytest.raises(UsageError, match="got no benchmark result"):
        report([], select(params, [write_result("one")]), tmp_path / "benchmark.html")


def test_a_result_of_another_version_is_named(params, write_result, tmp_path):
    path = write_result("old")
    result = json.loads(path.read_text())
    del result["accuracy"]["boundary_f"]
    path.write_text(json.dumps(result))
    selection = select(params, [path])
    with pytest.raises(DataError, match=r"another version \(it has no accuracy\.boundary_f\)"):
        report([path], selection, tmp_path / "benchmark.html")
    assert not (tmp_path / "benchmark.html").exists()


def test_best_of_a_column():
    rows = [{"x": 0.5001}, {"x": 0.5}, {"x": 0.4}, {"x": None}]
    assert best_rows(Column("X", ("x",), ".2f"), rows) == {0, 1}, "what reads alike is alike"
    assert best_rows(Column("X", ("x",), ".2f", best="low"), rows) == {2}
    assert best_rows(Column("X", ("x",), best=""), rows) == set()
    assert best_rows(Column("X", ("x",)), rows[:1]) == set()
    assert best_rows(SUMMARY[0], [{}, {}]) == set()
