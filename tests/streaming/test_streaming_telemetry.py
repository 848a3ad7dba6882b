"""The metrics that the dashboards and alerts read."""

from __future__ import annotations

import urllib.request
from fractions import Fraction
from pathlib import Path

import pytest

from privseg.errors import ServerUnavailableError, StorageError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import RawFrame, Withheld, slate
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import scene

BASE = Fraction(1, 10)


def scrape(telemetry: Telemetry) -> str:
    server = telemetry.serve(0)
    try:
        with urllib.request.urlopen(server.url, timeout=10) as answer:  # noqa: S310
            text: str = answer.read().decode()
            return text
    finally:
        server.close()


def test_every_series_is_there_before_the_first_frame() -> None:
    telemetry = Telemetry()
    telemetry.register("door", create_method("pixelate"))
    text = scrape(telemetry)
    for line in (
        'privseg_frames_total{camera="door",outcome="protected"} 0.0',
        'privseg_frames_total{camera="door",outcome="blanked"} 0.0',
        'privseg_frames_total{camera="door",outcome="dropped"} 0.0',
        "privseg_raw_frames_published_total 0.0",
        'privseg_reconnects_total{camera="door"} 0.0',
        'privseg_degraded{camera="door"} 0.0',
        'privseg_method_info{camera="door",method="pixelate",privacy_class="obfuscation"} 1.0',
    ):
        assert line in text


def test_latency_buckets_sit_on_frame_budgets() -> None:
    telemetry = Telemetry()
    telemetry.observe_stage("door", "segment", 0.04)
    text = scrape(telemetry)
    for bound in (
        "0.005",
        "0.01",
        "0.02",
        "0.033",
        "0.05",
        "0.066",
        "0.1",
        "0.15",
        "0.25",
        "0.5",
        "1.0",
        "2.5",
        "+Inf",
    ):
        assert f'privseg_stage_seconds_bucket{{camera="door",le="{bound}",stage="segment"}}' in text


def test_a_raw_frame_that_left_is_counted_as_such() -> None:
    telemetry = Telemetry()
    telemetry.published("door", slate(8, 8, Withheld.LATE, sequence=0, pts=0, time_base=BASE))
    assert telemetry.registry.get_sample_value("privseg_raw_frames_published_total") == 0
    telemetry.published("door", RawFrame(scene(0, 8, 8), sequence=0, pts=0, time_base=BASE))
    assert telemetry.registry.get_sample_value("privseg_raw_frames_published_total") == 1


def test_only_the_version_that_answers_now_is_shown() -> None:
    telemetry = Telemetry()
    telemetry.set_model("person_segmentation", "1")
    telemetry.set_model("person_segmentation", "2")
    text = scrape(telemetry)
    assert 'version="2"' in text
    assert 'version="1"' not in text


def test_a_taken_port_is_one_clear_line() -> None:
    first = Telemetry().serve(0)
    port = int(first.url.rpartition(":")[2].removesuffix("/metrics"))
    try:
        with pytest.raises(ServerUnavailableError, match=f"127.0.0.1:{port}"):
            Telemetry().serve(port)
    finally:
        first.close()


def test_metrics_can_be_kept_in_a_file(tmp_path: Path) -> None:
    Telemetry().write(tmp_path / "deep" / "metrics.prom")
    assert "privseg_raw_frames_published_total 0.0" in (tmp_path / "deep" / "metrics.prom").read_text()
    with pytest.raises(StorageError):
        Telemetry().write(tmp_path / "deep" / "metrics.prom" / "below")
