"""Audit: does what serves still cover people?

Runs when a version was published, and every day: golden clips go through the live servers as a camera's frames do.
A version whose rules (`audit` in params.yaml) do not hold is taken back by itself, and the run fails so that somebody
hears of it. Report, metrics and history lie in `<home>/out`: `audit.html`, `audit.json`, `audit.prom`, `audits.jsonl`.

Wiring only; deployment settings as for `privseg_retrain`.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, AssetOrTimeSchedule, CronTriggerTimetable, Param, dag, task

from privseg import pipeline
from privseg.errors import PrivacyViolationPrevented
from privseg.retry_policy import RETRY_POLICY

# The same name and address as in retrain.py, which says when a version was published.
MODEL = Asset(name="person_segmentation", uri="x-privseg://model/person_segmentation")


@dag(
    dag_id="privseg_privacy_audit",
    description="Golden clips through the live servers; a version that leaks is taken back",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 5 * * *", timezone="UTC"), assets=[MODEL]),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={"roll_back": Param(True, type="boolean", description="Take a version back that does not hold.")},
    tags=["privseg"],
    doc_md=__doc__,
)
def privacy_audit() -> None:
    """Wire the tasks."""
    data = os.environ.get("PRIVSEG_DATA") or None
    home = str(pipeline.default_home(Path(data) if data else None))

    @task(retries=2, retry_policy=RETRY_POLICY, execution_timeout=timedelta(minutes=30))
    def audit(params: dict[str, Any] | None = None) -> dict[str, Any]:
        return pipeline.audit(home, roll_back=(params or {}).get("roll_back", True))

    @task(retries=0)
    def hold(found: dict[str, Any]) -> None:
        if found["breaches"]:
            fault = "; ".join(found["breaches"])
            raise PrivacyViolationPrevented(f"version {found['version']}", fault, found["outcome"])

    hold(audit())


privacy_audit()
