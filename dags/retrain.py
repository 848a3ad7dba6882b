"""Retrain: public datasets in, a new version of the person segmentation model out.

Wiring only. Every task brings one DVC stage up to date in a workspace of its own, so a retry or a second run repeats
nothing that has not changed. Deployment settings come from the environment: ``PRIVSEG_HOME``, ``PRIVSEG_DATA``,
``PRIVSEG_TRITON_ENDPOINTS``, ``PRIVSEG_MODEL_REPOSITORY``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow.sdk import (
    Asset,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Metadata,
    Param,
    dag,
    task,
)

from privseg import pipeline
from privseg.retry_policy import RETRY_POLICY

# Whoever changes the raw data says so with an event on this asset (`airflow assets materialize`, the REST API).
RAW_DATA = Asset(name="privseg_raw_data", uri="x-privseg://raw-data")
MODEL = Asset(name="person_segmentation", uri="x-privseg://model/person_segmentation")


@dag(
    dag_id="privseg_retrain",
    description="Datasets → gate → train → benchmark → select → export → parity → publish",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 3 * * 1", timezone="UTC"), assets=[RAW_DATA]),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # one workspace, one run
    params={
        "overrides": Param({}, type="object", description='Parameters to change: {"train.smoke.seconds": "20"}'),
    },
    default_args={"retries": 2, "retry_policy": RETRY_POLICY},
    tags=["privseg"],
    doc_md=__doc__,
)
def retrain() -> None:
    """Wire the tasks."""
    data = os.environ.get("PRIVSEG_DATA") or None
    home = str(pipeline.default_home(Path(data) if data else None))

    @task
    def prepare(params: dict[str, Any] | None = None) -> dict[str, Any]:
        return pipeline.prepare(home, data, (params or {}).get("overrides"))

    @task
    def list_of(ready: dict[str, Any], what: str) -> list[str]:
        return list(ready[what])

    @task(map_index_template="{{ source }}")
    def identify(ready: dict[str, Any], source: str) -> dict[str, Any]:
        return pipeline.reproduce(ready["path"], f"identify@{source}")

    @task
    def shards(ready: dict[str, Any]) -> list[dict[str, Any]]:
        return pipeline.shards(ready["path"], ready["sources"])

    # Large sources only: their shards, wherever there is a worker. A source of one shard has no such task.
    @task(map_index_template="{{ task.op_kwargs['shard']['source'] }} {{ task.op_kwargs['shard']['index'] }}")
    def ingest_shard(ready: dict[str, Any], shard: dict[str, Any]) -> dict[str, Any]:
        return pipeline.ingest_shard(ready["path"], **shard)

    @task(map_index_template="{{ source }}", trigger_rule="none_failed")
    def ingest(ready: dict[str, Any], source: str) -> dict[str, Any]:
        return pipeline.reproduce(ready["path"], f"ingest@{source}")

    @task
    def stage(ready: dict[str, Any], name: str) -> dict[str, Any]:
        return pipeline.reproduce(ready["path"], name)

    @task
    def record_dataset(ready: dict[str, Any]) -> str:
        return pipeline.record_dataset(ready["path"])

    # One candidate at a time: budgets are wall-clock seconds and latencies are compared, so they must not compete.
    @task(map_index_template="{{ candidate }}", max_active_tis_per_dagrun=1)
    def train(ready: dict[str, Any], candidate: str) -> dict[str, Any]:
        return pipeline.reproduce(ready["path"], f"train@{candidate}")

    @task(map_index_template="{{ candidate }}", max_active_tis_per_dagrun=1)
    def evaluate(ready: dict[str, Any], candidate: str) -> dict[str, Any]:
        return pipeline.reproduce(ready["path"], f"evaluate@{candidate}")

    @task(outlets=[MODEL])
    def publish(ready: dict[str, Any]) -> Iterator[Metadata]:
        yield Metadata(MODEL, pipeline.publish(ready["path"], home))

    ready = prepare()
    sources = list_of.override(task_id="sources")(ready, "sources")
    candidates = list_of.override(task_id="candidates")(ready, "candidates")

    identified = identify.partial(ready=ready).expand(source=sources)
    isolated = stage.override(task_id="isolate")(ready, "isolate")
    chosen = stage.override(task_id="add_no_human")(ready, "add_no_human")
    spread = shards(ready)
    sharded = ingest_shard.partial(ready=ready).expand(shard=spread)
    ingested = ingest.partial(ready=ready).expand(source=sources)
    analysed = stage.override(task_id="analyse")(ready, "analyse")
    cleansed = stage.override(task_id="cleanse")(ready, "cleanse")
    merged = stage.override(task_id="merge")(ready, "merge")
    divided = stage.override(task_id="split")(ready, "split")
    described = stage.override(task_id="reevaluate")(ready, "reevaluate")
    gate = stage.override(task_id="validate")(ready, "validate")
    version = record_dataset(ready)
    trained = train.partial(ready=ready).expand(candidate=candidates)
    evaluated = evaluate.partial(ready=ready).expand(candidate=candidates)
    champion = stage.override(task_id="champion")(ready, "champion")
    selected = stage.override(task_id="select")(ready, "select")
    exported = stage.override(task_id="export")(ready, "export")
    compared = stage.override(task_id="parity")(ready, "parity")

    identified >> isolated >> chosen >> spread >> sharded >> ingested
    ingested >> analysed >> cleansed >> merged >> divided >> described >> gate >> version
    version >> trained >> evaluated >> champion >> selected >> exported >> compared >> publish(ready)


retrain()
