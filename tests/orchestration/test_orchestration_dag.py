"""The retraining DAG as Airflow sees it: light to parse, wired as drawn, red when the data is bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from privseg.runner import airflow_environment
from privseg.serving.shipped import SHIPPED
from privseg.serving.versions import current, list_versions
from privseg.testing.airflow import airflow, run_dag
from privseg.testing.datasets import make_tiny_pairs

DAG = "privseg_retrain"
_PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
bag = DagBag(sys.argv[1])
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
dag = bag.dags["privseg_retrain"]
print("RESULT" + json.dumps({
    "errors": {str(k): str(v) for k, v in bag.import_errors.items()},
    "loaded": sorted(loaded),
    "edges": {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks},
    "mapped": sorted(t.task_id for t in dag.tasks if t.is_mapped),
    "schedule": repr(dag.schedule),
    "max_active_runs": dag.max_active_runs,
}))
"""


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("airflow") / "home"
    airflow(home, "db", "migrate")
    return home


@pytest.fixture(scope="module")
def parsed(airflow_home: Path) -> dict[str, object]:
    environment = os.environ | airflow_environment(airflow_home, data=None)
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, environment["AIRFLOW__CORE__DAGS_FOLDER"]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    result: dict[str, object] = json.loads(line.removeprefix("RESULT"))
    return result


def test_it_imports_without_errors_and_without_anything_heavy(parsed: dict[str, object]) -> None:
    assert parsed["errors"] == {}
    heavy = {"torch", "cv2", "great_expectations", "mmseg", "mmengine", "onnxruntime", "pandas", "av", "tritonclient"}
    assert heavy & set(parsed["loaded"]) == set()  # type: ignore[call-overload]


def test_it_is_weekly_and_the_gate_stands_between_the_data_and_training(parsed: dict[str, object]) -> None:
    edges: dict[str, list[str]] = parsed["edges"]  # type: ignore[assignment]
    assert "record_dataset" in edges["validate"]
    assert "train" in edges["record_dataset"]
    assert edges["evaluate"] == ["champion"]
    assert edges["champion"] == ["select"]
    assert edges["publish"] == []
    assert edges["export"] == ["parity"]
    assert "publish" in edges["parity"]
    assert parsed["mapped"] == ["evaluate", "identify", "ingest", "ingest_shard", "train"]
    assert parsed["max_active_runs"] == 1
    assert "0 3 * * 1" in str(parsed["schedule"])
    assert "privseg_raw_data" in str(parsed["schedule"])


def test_bad_data_stops_the_run_before_training_and_names_the_file(airflow_home: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_tiny_pairs(data / "people", images=12, size=96)
    victim = sorted((data / "people" / "train" / "images").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:200])
    sources = (
        "{people: {kind: pairs, path: people, human: [1], ignore: [255], terms: generated, "
        "partitions: [{pool: train, images: train/images, masks: train/masks}]}}"
    )

    run = run_dag(
        airflow_home,
        DAG,
        conf={
            "overrides": {
                "sources": sources,
                "image.size": "96",
                "cleanse.min_original_side": "32",
                "ingest": "{shard_size: 4, workers: 2}",  # large enough to be spread over two workers
            }
        },
        data=data,
    )

    assert run.state == "failed"
    assert [state for name, state in run.tasks.items() if name.startswith("ingest_shard")] == ["success"] * 2
    assert "all from an earlier run" in run.log  # the stage found its shards done
    assert run.tasks["validate"] == "failed"
    assert run.tasks["record_dataset"] == "upstream_failed"
    assert not any(state == "success" for name, state in run.tasks.items() if name.startswith(("train", "publish")))
    assert victim.name in run.log
    shipped = [1] if current(SHIPPED) else []
    assert list_versions(airflow_home / "model_repository") == shipped
