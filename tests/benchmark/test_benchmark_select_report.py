from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from privseg.benchmark.report import report
from privseg.benchmark.select import select
from privseg.errors import DataError, GateFailedError, UsageError


def rules(params, **options):
    return params.model_copy(update={"select": params.select.model_copy(update=options)})


def test_recall_outweighs_precision(params, write_result, tmp_path):
    results = [write_result("careful", precision=0.6, recall=0.95), write_result("strict", precision=0.95, recall=0.6)]
    selection = select(rules(params, beta=2.0), results, tmp_path / "selection.json")
    assert selection["winner"] == "careful"
    assert json.loads((tmp_path / "selection.json").read_text()) == selection
    assert select(rules(params, beta=0.5), results, tmp_path / "selection.json")["winner"] == "strict"


def test_too_slow_cannot_win_and_every_candidate_has_its_reason(params, write_result, tmp_path):
    results = [
        write_result("slow", recall=0.99, p50_ms=500),
        write_result("good", recall=0.9),
        write_result("poor", recall=0.5),
    ]
    selection = select(rules(params, max_latency_ms=400.0), results, tmp_path / "selection.json")
    assert selection["winner"] == "good"
    rows = {row["candidate"]: row for row in selection["candidates"]}
    assert rows["slow"]["reason"] == "too slow: 500 ms of 400 ms"
    assert not rows["slow"]["accepted"]
    assert rows["good"]["reason"] == "highest score within 400 ms"
    assert rows["poor"]["reason"] == "within the budget, but scores less than good"
    assert [row["candidate"] for row in selection["candidates"]] == ["slow", "good", "poor"]


def test_budget_includes_its_bound(params, write_result, tmp_path):
    chosen = select(rules(params, max_latency_ms=400.0), [write_result("edge", p50_ms=400.0)], tmp_path / "s.json")
    assert chosen["winner"] == "edge"


def test_equal_scores_go_to_the_faster(params, write_result, tmp_path):
    results = [write_result("slower", p50_ms=90), write_result("faster", p50_ms=80)]
    assert select(params, results, tmp_path / "selection.json")["winner"] == "faster"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"max_latency_ms": 50.0}, "no candidate is within 50 ms; only needs 100"),
        ({"min_iou": 0.9}, r"candidate only: is the best, but its human IoU 0\.667 is below 0\.9"),
    ],
)
def test_refusal_leaves_the_last_selection_alone(params, write_result, tmp_path, options, fault):
    out = tmp_path / "selection.json"
    out.write_text("the last one")
    with pytest.raises(GateFailedError, match=fault):
        select(rules(params, **options), [write_result("only")], out)
    assert out.read_text() == "the last one"


def test_same_candidate_twice_and_none_at_all(params, write_result, tmp_path):
    path = write_result("one")
    with pytest.raises(UsageError, match="got one more than once"):
        select(params, [path, path], tmp_path / "selection.json")
    with pytest.raises(UsageError, match="no benchmark result"):
        select(params, [], tmp_path / "selection.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accuracy": {"iou_human": "high"}}'])
def test_broken_result_is_named(params, tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"result\.json: is not a benchmark result"):
        select(params, [path], tmp_path / "selection.json")


def test_candidate_that_finds_nobody_scores_zero(params, write_result, tmp_path):
    path = write_result("blind")
    result = json.loads(path.read_text())
    result["accuracy"] |= {"precision": 0.0, "recall": 0.0, "iou_human": 0.0}
    path.write_text(json.dumps(result))
    selection = select(rules(params, min_iou=0.0), [path], tmp_path / "selection.json")
    assert selection["candidates"][0]["score"] == 0.0


class Page(HTMLParser):
    """Table cells by row, and every address the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in {"src", "href"}]
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self._cell = False

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


@pytest.fixture
def page(params, write_result, tmp_path) -> tuple[Page, str]:
    results = [write_result("alpha", recall=0.9), write_result("beta", recall=0.7, p50_ms=50.0)]
    for path in results:
        path.with_suffix("").mkdir()
        for kind in ("input", "truth", "predicted"):
            cv2.imwrite(str(path.with_suffix("") / f"1_{kind}.jpg"), np.zeros((32, 32, 3), np.uint8))
    select(params, results, tmp_path / "selection.json")
    text = report(results, tmp_path / "selection.json", tmp_path / "benchmark.html").read_text()
    return Page(text), text


def test_report_numbers_are_those_of_the_results(page, tmp_path):
    rows = {row[0]: row for row in page[0].rows if len(row) > 5}
    headings = rows.pop("Candidate")
    assert set(rows) == {"alpha ★", "beta"}
    for name in ("alpha", "beta"):
        result = json.loads((tmp_path / name / "result.json").read_text())
        row = dict(zip(headings, rows["alpha ★" if name == "alpha" else name], strict=True))
        figures = result["accuracy"] | result["complexity"] | result["speed"]
        expected = {
            "IoU human": figures["iou_human"],
            "Dice": figures["dice"],
            "Pixel accuracy": figures["pixel_accuracy"],
            "Precision": figures["precision"],
            "Recall": figures["recall"],
            "Parameters, M": figures["parameters"] / 1e6,
            "GFLOPs": figures["flops"] / 1e9,
            "p50, ms": figures["p50_ms"],
            "p95, ms": figures["p95_ms"],
            "FPS": figures["fps"],
        }
        for heading, value in expected.items():
            assert float(row[heading]) == pytest.approx(value, abs=0.051 if "ms" in heading else 0.006), heading


def test_report_needs_nothing_beside_itself(page):
    parsed, text = page
    assert parsed.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in parsed.addresses)
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert parsed.tags.count("img") == 4, "picture, truth, and two candidates"
    assert parsed.tags.count("circle") == 2


def test_bubbles_stand_where_the_figures_say(page):
    bubbles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)".*?<title>(\w+):', page[1])
    places = {name: (float(x), float(y)) for x, y, _, name in bubbles}
    assert places["beta"][0] > places["alpha"][0], "faster is to the right"
    assert places["beta"][1] > places["alpha"][1], "better is higher up"


def test_report_escapes_what_it_did_not_write(params, write_result, tmp_path):
    path = write_result("odd")
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"candidate": "<script>alert(1)</script>"}))
    select(params, [path], tmp_path / "selection.json")
    text = report([path], tmp_path / "selection.json", tmp_path / "benchmark.html").read_text()
    assert "<script" not in text


def test_report_of_other_candidates_than_selected(params, write_result, tmp_path):
    select(params, [write_result("one")], tmp_path / "selection.json")
    with pytest.raises(DataError, match="does not cover the same candidates"):
        report([write_result("two")], tmp_path / "selection.json", tmp_path / "benchmark.html")


def test_report_without_selection(write_result, tmp_path):
    with pytest.raises(DataError, match=r"selection\.json: does not exist"):
        report([write_result("one")], tmp_path / "selection.json", tmp_path / "benchmark.html")
