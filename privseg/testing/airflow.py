"""A real Airflow for tests: a home of its own, the DAG run by ``dag.test()`` or by ``airflow standalone``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privseg.errors import ServerUnavailableError
from privseg.runner import airflow_environment

__all__ = ["DagRun", "airflow", "run_dag", "standalone"]

_DAG_TEST = """
import json, sys
from airflow.utils.cli import get_bagged_dag
run = get_bagged_dag(bundle_names=None, dag_id=sys.argv[1]).test(run_conf=json.loads(sys.argv[2]))
tasks = [[t.task_id, t.map_index, str(t.state)] for t in run.get_task_instances()]
print("RESULT" + json.dumps({"state": str(run.state), "tasks": tasks}))
"""


@dataclass(frozen=True)
class DagRun:
    """How a run ended: its state, and the state of every task instance by ``task_id`` or ``task_id[map_index]``."""

    state: str
    tasks: dict[str, str]
    log: str


def airflow(home: Path, *arguments: str, data: Path | None = None) -> str:
    """Run one ``airflow`` command in the home's Airflow and return its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=os.environ | airflow_environment(home, data=data),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerUnavailableError(f"airflow {' '.join(arguments)}", done.stderr[-500:], "read the message")
    return done.stdout


def run_dag(home: Path, dag_id: str, *, conf: dict[str, Any], data: Path | None = None) -> DagRun:
    """Execute a DAG with ``dag.test()`` in a process of its own; needs ``airflow db migrate`` before."""
    airflow(home, "dags", "reserialize")
    environment = os.environ | airflow_environment(home, data=data)
    done = subprocess.run(
        [sys.executable, "-c", _DAG_TEST, dag_id, json.dumps(conf)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not lines:
        raise ServerUnavailableError(f"DAG {dag_id}", f"did not run: {done.stderr[-800:]}", "read the message")
    result = json.loads(lines[-1].removeprefix("RESULT"))
    tasks = {name if index < 0 else f"{name}[{index}]": state for name, index, state in result["tasks"]}
    return DagRun(result["state"], tasks, done.stdout + done.stderr)


@contextmanager
def standalone(home: Path, *, data: Path | None = None, timeout: float = 120.0) -> Iterator[str]:
    """Run ``airflow standalone`` until the block ends; yields the address of its healthy API server."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | airflow_environment(home, data=data) | {"AIRFLOW__API__PORT": str(port)}
    environment |= {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",  # only runs that a test triggers
    }
    log = home / "airflow-standalone.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_until_healthy(url, process, log, timeout)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):  # its children share the process group: none outlives the block
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310
                health = json.load(answer)
            if all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor")):
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.5)
    raise ServerUnavailableError("airflow standalone", f"not healthy: {log.read_text()[-500:]}", f"read {log}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
