"""The population stability index, and the distributions that the gate compares with it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privseg.datasets.drift import BINS, Baseline, chance_psi, compare, distribution, psi, read_baseline
from privseg.datasets.manifest import empty_row, manifest_frame, write_manifest
from privseg.datasets.validate import Outcome, ValidationReport, validate
from privseg.errors import DataError

Counts = list[int]


@st.composite
def two_histograms(draw: st.DrawFn) -> tuple[Counts, Counts]:
    bins = draw(st.integers(2, 12))
    counts = st.lists(st.integers(0, 100), min_size=bins, max_size=bins).filter(any)
    return draw(counts), draw(counts)


@given(two_histograms())
def test_psi_is_a_symmetric_measure_of_difference(pair: tuple[Counts, Counts]) -> None:
    first, second = pair
    assert psi(first, first) == 0.0
    assert psi(first, second) == pytest.approx(psi(second, first), abs=1e-15)
    if [count * sum(second) for count in first] == [count * sum(first) for count in second]:
        assert psi(first, second) == pytest.approx(0.0, abs=1e-15)
    else:
        assert psi(first, second) > 1e-15


@given(two_histograms(), st.integers(1, 50), st.integers(1, 50))
def test_psi_depends_on_shares_not_on_how_many_there_are(pair: tuple[Counts, Counts], many: int, more: int) -> None:
    first, second = pair
    scaled = psi([many * count for count in first], [more * count for count in second])
    assert scaled == pytest.approx(psi(first, second), abs=1e-12)


def test_psi_of_known_shares() -> None:
    """0.2 * ln(0.6 / 0.4) twice, less a little for what every bin is given."""
    assert psi([40, 60], [60, 40]) == pytest.approx(0.4 * math.log(1.5), rel=0.03)
    assert psi([50, 50], [51, 49]) < 0.1 < 0.25 < psi([90, 10], [10, 90])
    assert math.isfinite(psi([1, 0], [0, 1]))


@pytest.mark.parametrize("size", [40, 400, 4000])
def test_samples_of_one_population_rarely_exceed_what_chance_allows(size: int) -> None:
    rng = np.random.default_rng(size)
    shares = np.array([0.02, 0.08, 0.2, 0.3, 0.2, 0.1, 0.06, 0.04])
    draws = [[rng.multinomial(size, shares).tolist() for _ in range(2)] for _ in range(500)]
    assert sum(psi(*pair) > chance_psi(*pair) for pair in draws) <= 5
    assert sum(psi(*pair) > chance_psi(*pair) / 10 for pair in draws) > 50  # nor is it a bound that nothing reaches


def test_a_distribution_counts_kept_pictures_with_people() -> None:
    rows = [
        empty_row(sample_id=f"s/{index}", is_human=True, human_ratio=ratio, tallest_ratio=height)
        for index, (ratio, height) in enumerate([(0.001, 0.05), (0.01, 0.1), (0.3, 1.0), (0.64, 0.99)])
    ]
    rows += [empty_row(sample_id="s/nobody"), empty_row(sample_id="s/gone", is_human=True, status="removed")]
    found = distribution(manifest_frame(rows))
    assert json.loads(json.dumps(found)) == found
    assert (found["kept"], found["with_people"]) == (5, 4)
    assert found["human_ratio"] == {"edges": list(BINS["human_ratio"]), "counts": [1, 0, 0, 1, 0, 0, 0, 1, 0, 1]}
    assert found["tallest_ratio"]["counts"] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]


def test_a_side_without_people_is_not_compared() -> None:
    empty = distribution(manifest_frame([]))
    full = distribution(manifest_frame([empty_row(is_human=True, human_ratio=0.1, tallest_ratio=0.4)]))
    nobody = Baseline("ds-0", {measure: empty[measure]["counts"] for measure in BINS})
    assert {drift.psi for drift in compare(nobody, full).values()} == {0.0}


def spread(*, people: int, place: int) -> dict[str, Any]:
    """A distribution with everybody in one bin."""
    return {
        measure: {
            "edges": list(edges),
            "counts": [people if index == place else 0 for index in range(len(edges) - 1)],
        }
        for measure, edges in BINS.items()
    }


def write(path: Path, **values: Any) -> Path:
    path.write_text(json.dumps({"dataset_version": "ds-before", "distribution": spread(people=5000, place=4)} | values))
    return path


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        ({"dataset_version": 3}, "dataset_version"),
        ({"distribution": None}, "no baseline"),
        ({"distribution": {}}, "human_ratio"),
        ({"distribution": {"human_ratio": {"edges": [0, 1], "counts": [5]}, "tallest_ratio": {}}}, "no baseline"),
        ({"distribution": spread(people=-1, place=2)}, "10 counts of human_ratio"),
        (
            {"distribution": {measure: {"edges": [0.0, 1.0], "counts": [5]} for measure in BINS}},
            "human_ratio in other bins",
        ),
    ],
)
def test_a_broken_baseline_is_bad_data(broken: dict[str, Any], fault: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=fault) as caught:
        read_baseline(write(tmp_path / "before.json", **broken))
    assert "before.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\xfe", b"{" * 100_000, None])
def test_a_baseline_that_is_no_such_file_is_bad_data(content: bytes | None, make_params: Any, tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    if content is not None:
        path.write_bytes(content)
    params = make_params(tmp_path, {"some": {"kind": "synthetic"}})
    with pytest.raises(DataError, match=r"before\.json"):
        validate(params, tmp_path / "manifest.parquet", tmp_path, tmp_path / "report", baseline=path)


@pytest.fixture
def params(make_params: Any, tmp_path: Path) -> Any:
    return make_params(tmp_path, {"some": {"kind": "synthetic"}})


def judge(params: Any, folder: Path, places: list[float], baseline: Path | None = None) -> ValidationReport:
    """The gate on pictures of people with these shares and heights; another check is about their missing files."""
    rows = [
        empty_row(sample_id=f"some/{index}", source="some", is_human=True, human_ratio=place, tallest_ratio=place)
        for index, place in enumerate(places)
    ]
    write_manifest(folder / "manifest.parquet", manifest_frame(rows))
    return validate(params, folder / "manifest.parquet", folder, folder, baseline=baseline, data_docs=False)


def of_drift(report: ValidationReport) -> dict[str, Outcome]:
    return {one.name.removeprefix("drift_"): one for one in report.expectations if one.group == "drift"}


def test_the_first_version_has_nothing_to_compare_with_and_says_so(params: Any, tmp_path: Path) -> None:
    outcomes = of_drift(judge(params, tmp_path, [0.1, 0.2, 0.3]))
    assert list(outcomes) == ["human_ratio", "tallest_ratio", "human_ratio_warning", "tallest_ratio_warning"]
    for outcome in outcomes.values():
        assert outcome.success
        assert "no previous version" in outcome.meaning


def test_a_version_that_is_as_the_one_before_does_not_drift(params: Any, tmp_path: Path) -> None:
    before = judge(params, tmp_path, [0.1, 0.2, 0.3])
    shutil.move(tmp_path / "distribution.json", tmp_path / "before.json")
    report = judge(params, tmp_path, [0.1, 0.2, 0.3], tmp_path / "before.json")
    assert report.baseline == before.dataset_version
    assert {outcome.observed for outcome in of_drift(report).values()} == {"0"}
    assert report.drift["human_ratio"]["previous"] == report.drift["human_ratio"]["current"]
    assert before.dataset_version in report.page.read_text()


@pytest.mark.parametrize(
    ("moved", "closed"), [(0.3, {"critical", "warning"}), (0.2, {"warning"}), (0.02, set())], ids=["far", "bit", "not"]
)
def test_a_shift_warns_then_closes_the_gate(moved: float, closed: set[str], params: Any, tmp_path: Path) -> None:
    """Before, all people were in two bins, half and half; now a share of them has moved to the higher one."""
    before = {measure: {"edges": list(edges), "counts": [0] * (len(edges) - 1)} for measure, edges in BINS.items()}
    for measure, bins in (("human_ratio", (6, 8)), ("tallest_ratio", (1, 4))):
        for place in bins:
            before[measure]["counts"][place] = 2000
    path = write(tmp_path / "before.json", distribution=before)
    high = round(2000 * (0.5 + moved))
    report = judge(params, tmp_path, [0.41] * high + [0.11] * (2000 - high), path)
    failed = [one for one in of_drift(report).values() if not one.success]
    assert {one.severity for one in failed} == closed
    assert all(one.examples[0] == "some/0" for one in failed)  # of the bin that grew


def test_a_few_pictures_may_differ_as_far_as_chance_goes(params: Any, tmp_path: Path) -> None:
    before = write(tmp_path / "before.json", distribution=spread(people=20, place=4))
    one = BINS["tallest_ratio"][4] + 0.01
    report = judge(params, tmp_path, [one] * 17 + [0.1, 0.2, 0.3], before)
    outcome = of_drift(report)["tallest_ratio"]
    assert outcome.success
    assert outcome.value is not None
    assert outcome.value > params.gate.psi_limit
    assert "by chance" in outcome.meaning
