"""The Prometheus rules do what they say, on metrics that the gateway really exports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from privseg.streaming.telemetry import Telemetry

FOLDER = Path(__file__).resolve().parents[2] / "monitoring" / "prometheus"


@pytest.mark.parametrize(
    "command", [("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")], ids=" ".join
)
def test_promtool_accepts(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_in_a_rule_is_one_the_gateway_exports() -> None:
    named = set(re.findall(r"(?<![:\w])privseg_[a-z_]+", (FOLDER / "rules.yml").read_text()))
    exported = {
        line.split()[2] for line in generate_latest(Telemetry().registry).decode().splitlines() if line[:6] == "# HELP"
    }
    assert named
    assert named <= exported
