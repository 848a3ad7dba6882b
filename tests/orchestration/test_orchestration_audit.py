"""The audit DAG, executed: green while the model holds, red and rolled back when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from privseg import pipeline
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.versions import list_versions
from privseg.testing.airflow import airflow, run_dag
from privseg.testing.triton import make_person_model, running_triton

DAG = "privseg_privacy_audit"


def test_a_leaking_version_turns_the_run_red_and_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    airflow(home, "db", "migrate")
    with running_triton(tmp_path, kind=None) as triton:
        monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(triton.repository))
        monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", triton.grpc_url)
        pipeline.prepare(
            str(home),
            None,
            {
                "audit.clips": "1",
                "audit.frames": "4",
                "audit.min_person_recall": "0.2",
                "audit.max_leak_frame_ratio": "1",
            },
        )
        shipped = list_versions(triton.repository)
        assert shipped  # an empty repository was given the model that comes with privseg

        held = run_dag(home, DAG, conf={})
        assert held.state == "success", held.log
        assert list_versions(triton.repository) == shipped

        make_person_model(triton.repository / MODEL_NAME / str(shipped[-1] + 1), kind="blank")
        with Endpoint(triton.grpc_url) as server:
            server.load()
        leaked = run_dag(home, DAG, conf={})
        assert leaked.state == "failed"
        assert leaked.tasks == {"audit": "success", "hold": "failed"}
        assert list_versions(triton.repository) == shipped
        assert "people's pixels is covered" in leaked.log
        assert (home / "out" / "audit.html").is_file()
