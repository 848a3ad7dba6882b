"""Does the gateway's memory stay flat? Four cameras for an hour, its resident memory sampled.

    python benchmarks/soak.py --minutes 60

Four drawn cameras (640 x 360, 10 pictures a second) with the shipped model in the gateway's own process, schedule
adaptive, each recorded in files of a minute, and shown on the live page, which is read every few seconds. The slope is
a line through all samples after the first fifth. Goal: below 1 MiB an hour. Writes ``benchmarks/results/soak.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from privseg.cli_options import local_model

RESULT: Final = Path(__file__).parent / "results" / "soak.json"
CAMERAS: Final = 4
SAMPLE_SECONDS: Final = 5.0
PAGE_PORT: Final = 18170


def resident_mib(pid: int) -> float:
    """What a process holds in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def configuration(folder: Path) -> dict[str, Any]:
    """``cameras.yaml`` of the soak."""
    cameras = {
        f"camera{number}": {
            "source": f"synthetic://640x360?fps=10&seed={number}", "method": "blank", "schedule": "adaptive",
            "purpose": "soak", "retention_hours": 1,
            "recording": {"folder": str(folder / "recordings"), "segment_minutes": 1},
        }
        for number in range(CAMERAS)
    }  # fmt: skip
    return {"metrics": {"port": 0}, "live": {"port": PAGE_PORT}, "local": str(local_model(None)), "cameras": cameras}


def main() -> int:
    """Run it, and write what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    seconds = parser.parse_args().minutes * 60
    samples: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cameras.yaml"
        path.write_text(json.dumps(configuration(Path(name))))
        command = [sys.executable, "-m", "privseg", "stream", "--config", str(path), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as gateway:
            begun = time.monotonic()
            while gateway.poll() is None and (now := time.monotonic() - begun) < seconds:
                samples.append((now, resident_mib(gateway.pid)))
                try:
                    httpx.get(f"http://127.0.0.1:{PAGE_PORT}/api/cameras/camera0/snapshot.jpg", timeout=5)
                except httpx.HTTPError:
                    print("the page does not answer", file=sys.stderr)
                time.sleep(SAMPLE_SECONDS)
            gateway.terminate()
            reports = json.loads(gateway.communicate(timeout=120)[0])
    times, memory = np.array([sample for sample in samples if sample[0] > seconds / 5]).T
    slope = float(np.polyfit(times, memory, 1)[0] * 3600)
    result = {
        "minutes": round(seconds / 60, 1),
        "cameras": CAMERAS,
        "frames": sum(report["frames_out"] for report in reports.values()),
        "blank": sum(report["frames_blanked"] for report in reports.values()),
        "lost_by_recordings": sum(report["outputs"]["recording"]["frames_lost"] for report in reports.values()),
        "resident_mib": {"first": round(float(memory[:10].mean()), 1), "last": round(float(memory[-10:].mean()), 1)},
        "slope_mib_an_hour": round(slope, 2),
        "goal": "below 1",
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
