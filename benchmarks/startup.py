"""How long the light parts take to start: parsing the DAG, `privseg --help`, importing the pipeline.

Each is timed in processes of its own, the fastest of five runs, beside importing `airflow.sdk` alone: that
ratio says what privseg adds, on any machine.

    python benchmarks/startup.py            writes benchmarks/results/startup.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARSE = """
import time
from airflow.dag_processing.dagbag import DagBag
begun = time.perf_counter()
bag = DagBag("dags")
assert not bag.import_errors and bag.dags
print(time.perf_counter() - begun)
"""
CASES = {
    "import airflow.sdk": [sys.executable, "-c", "import airflow.sdk; airflow.sdk.DAG"],
    "import privseg.pipeline": [sys.executable, "-c", "import privseg.pipeline"],
    "privseg --help": [sys.executable, "-m", "privseg", "--help"],
}


def fastest(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Seconds of the fastest of five runs, and the output of the last."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        done = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
        times.append(time.perf_counter() - begun)
    return min(times), done.stdout


def main() -> None:
    """Measure and write the results."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        seconds = {name: fastest(command, environment)[0] for name, command in CASES.items()}
        parses = [float(fastest([sys.executable, "-c", PARSE], environment)[1].split()[-1]) for _ in range(3)]
    seconds["parse dags/ (Airflow imported already)"] = min(parses)
    base = seconds["import airflow.sdk"]
    result = {name: {"seconds": round(s, 3), "ratio": round(s / base, 2)} for name, s in seconds.items()}
    out = ROOT / "benchmarks" / "results" / "startup.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
