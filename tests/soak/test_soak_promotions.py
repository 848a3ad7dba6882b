"""Fifty promotions and twenty roll backs while four clients ask without pause: no request may fail.

``make soak`` runs it; its figures go to ``PRIVSEG_SOAK_RESULTS``, else ``soak_promotions.json`` in the current folder.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.benchmark.hardware import hardware
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.repository import KEEP, current, list_versions, promote, publish, read_record, roll_back
from privseg.serving.triton_state import processes
from privseg.testing.asking import AskingClients
from privseg.testing.bad_models import make_bad_model
from privseg.testing.triton import make_person_model, running_triton

pytestmark = [pytest.mark.soak, pytest.mark.timeout(4 * 3600)]

PROMOTIONS = int(os.environ.get("PRIVSEG_SOAK_PROMOTIONS", "50"))
ROLL_BACKS = PROMOTIONS * 2 // 5
CLIENTS = 4
PICTURE = np.random.default_rng(1).integers(1, 255, (1, 256, 320, 3), dtype=np.uint8)
ANSWERS = {"test_bright": PICTURE[..., 0], "test_inverse": 255 - PICTURE[..., 0], "test_green": PICTURE[..., 1]}


def test_clients_notice_nothing_of_fifty_promotions_and_twenty_roll_backs(tmp_path: Path) -> None:
    make_person_model(tmp_path / "bright", kind="bright")
    make_person_model(tmp_path / "inverse", kind="inverse")
    make_bad_model(tmp_path / "green", "green")
    kinds = ["inverse", "green", "bright"]
    candidates: dict[int, str] = {}
    seconds: dict[str, list[float]] = {"publish": [], "promote": [], "roll_back": []}
    with running_triton(tmp_path / "served", kind=None) as triton:
        repository = triton.repository
        how: dict[str, Any] = {"endpoints": [triton.grpc_url]}

        def timed(name: str, version: int, started: float) -> None:
            seconds[name].append(round(time.monotonic() - started, 3))
            candidates[version] = str(read_record(repository, version)["candidate"])

        timed("publish", publish(repository, tmp_path / "bright", **how).version, time.monotonic())
        with AskingClients(triton.grpc_url, PICTURE, count=CLIENTS) as quiet:
            quiet.wait_for_more(100, seconds=300)
        with AskingClients(triton.grpc_url, PICTURE, count=CLIENTS) as clients:
            for number in range(PROMOTIONS):
                clients.wait_for_more(2, seconds=300)
                started = time.monotonic()
                if number % 5 == 4:  # an older one again
                    timed("promote", promote(repository, list_versions(repository)[-2], **how).version, started)
                else:
                    timed("publish", publish(repository, tmp_path / kinds[number % 3], **how).version, started)
                if number % 5 in {1, 3}:
                    clients.wait_for_more(2, seconds=300)
                    started = time.monotonic()
                    timed("roll_back", roll_back(repository, endpoints=[triton.grpc_url]), started)
            clients.wait_for_more(2, seconds=300)
        running = triton.status()
        assert running is not None
        results = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "hardware": hardware(),
            "clients": CLIENTS,
            "picture": list(PICTURE.shape),
            "promotions": len(seconds["publish"]) + len(seconds["promote"]) - 1,
            "roll_backs": len(seconds["roll_back"]),
            "requests": clients.total,
            "failed": len(clients.failures),
            "failures": [str(failure) for failure in clients.failures[:10]],
            "wrong": sum(clients.differing.values()),
            "versions_seen": len(clients.answers),
            "longest_gap_seconds": round(max(clients.gaps), 3),
            "median_gap_seconds": round(float(np.median(clients.gaps)), 4),
            "longest_gap_seconds_without_promotions": round(max(quiet.gaps), 3),
            "median_seconds": {name: float(np.median(values)) for name, values in seconds.items()},
            "longest_seconds": {name: max(values) for name, values in seconds.items()},
            "processes_at_the_end": len(processes(running)),
            "rejected_at_the_end": sorted(entry.name for entry in (repository / ".rejected").iterdir()),
        }
        file = Path(os.environ.get("PRIVSEG_SOAK_RESULTS", "soak_promotions.json"))
        file.write_text(json.dumps(results, indent=2) + "\n")
        assert (results["failed"], results["wrong"]) == (0, 0), results["failures"]
        assert (results["promotions"], results["roll_backs"]) == (PROMOTIONS, ROLL_BACKS)
        for version, person in clients.answers.items():
            np.testing.assert_array_equal(person, ANSWERS[candidates[version]])
        assert {runs[-1][0] for runs in clients.versions} == {current(repository)}
        assert len(list_versions(repository)) <= KEEP + 1
        assert {entry.name for entry in (repository / MODEL_NAME).iterdir()} == {
            "config.pbtxt",
            *map(str, list_versions(repository)),
        }
