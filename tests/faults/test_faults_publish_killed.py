"""A publisher killed by SIGKILL at each step: a good model answers on, the next call finishes or undoes the job.

The publisher is a real process. It kills itself before or after a named function, which is where the steps meet.
"""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.repository import current, list_versions, publish, roll_back, verify
from privseg.serving.verification import verify_live
from privseg.serving.versions import accepted
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

PICTURE = np.random.default_rng(1).integers(1, 255, (1, 64, 96, 3), dtype=np.uint8)
ANSWERS = {"bright": PICTURE[..., 0], "inverse": 255 - PICTURE[..., 0]}
publish = functools.partial(publish, skip_smoke_load="not what is tested")

_CHILD = """
import os, signal, sys
from pathlib import Path
from privseg.serving import repository, versions
from privseg.serving.admin import Endpoint
from privseg.serving.exam import Exam
from privseg.serving.versions import Store

def kill(owner, name, when, call=1):
    real, calls = getattr(owner, name), []
    def dying(*arguments, **named):
        calls.append(1)
        if when == "before" and len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **named)
        if when == "after" and len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, dying)

folder, artifact, url, place, skip = sys.argv[1:]
kill(*eval(place))
if artifact == "roll back":
    repository.roll_back(Path(folder), endpoints=[url])
else:
    repository.publish(Path(folder), Path(artifact), endpoints=[url], skip_smoke_load=skip or None, keep=2)
"""

PUBLISHING = {
    "before anything": "(repository, 'read_artifact', 'before')",
    "its throw-away Triton runs": "(repository.smoke_load.__globals__['LocalTriton'], 'start', 'after')",
    "model staged": "(versions, '_write_durably', 'after', 1)",
    "record staged": "(versions, '_write_durably', 'after', 2)",
    "mark written": "(versions, '_write_durably', 'after', 3)",
    "in the repository": "(Store, 'add', 'after')",
    "loaded": "(Endpoint, 'load', 'after')",
    "asked": "(Exam, 'check', 'after')",
    "in the history": "(repository, 'note', 'after')",
    "accepted": "(Store, 'accept', 'after')",
    "removing an old one": "(versions.shutil, 'rmtree', 'before')",
}
TAKING_BACK = {
    "about to take back": "(Store, 'reject', 'before')",
    "taken out of sight": "(Store, 'reject', 'after')",
    "servers told": "(Store, 'accept', 'before')",
}
ROLLING_BACK = {
    "mark written": "(Store, 'begin_taking_down', 'after')",
    "taken out of sight": "(Store, 'reject', 'after')",
    "server told": "(Store, 'accept', 'before')",
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("killed"), kind=None) as served:
        yield served


def model(folder: Path, kind: Kind) -> Path:
    make_person_model(folder / kind, kind=kind)
    return folder / kind


def killed(triton: ServedModel, what: Path | str, place: str, *, smoke: bool = False) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, triton.repository, what, triton.grpc_url, place, "" if smoke else "no need"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def answers(triton: ServedModel) -> tuple[str, int]:
    """Which model answers, and as which version; a failed request fails the test."""
    with Endpoint(triton.grpc_url) as endpoint:
        person, version = endpoint.infer(PICTURE)
    return next(kind for kind, expected in ANSWERS.items() if np.array_equal(person, expected)), version


def assert_sound(triton: ServedModel) -> None:
    for version in list_versions(triton.repository):
        verify(triton.repository, version)
    assert list((triton.repository / ".staging").iterdir()) == []
    assert not (triton.repository / ".pending").exists()
    assert accepted(triton.repository) == current(triton.repository)
    kept = {entry.name for entry in (triton.repository / MODEL_NAME).iterdir()}
    assert kept == {"config.pbtxt", *map(str, list_versions(triton.repository))}
    (live,) = verify_live(triton.repository, [triton.grpc_url])
    assert live.error is None


@pytest.mark.parametrize("step", PUBLISHING)
def test_a_publisher_killed_while_it_publishes(triton: ServedModel, tmp_path: Path, step: str) -> None:
    before = publish(
        triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url], skip_smoke_load="tried elsewhere"
    ).version
    killed(triton, model(tmp_path, "inverse"), PUBLISHING[step], smoke="throw-away" in step)
    kind, version = answers(triton)
    done = accepted(triton.repository) != before
    assert done == (step == "accepted") or step == "removing an old one"  # it sweeps before and after
    assert not done or (kind, accepted(triton.repository)) == ("inverse", version)
    assert (kind, version) == ("bright", before) or step in {"loaded", "asked", "in the history"} or done

    again = publish(triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url])
    assert answers(triton) == ("bright", again.version)
    assert again.reused != done
    assert_sound(triton)


@pytest.mark.parametrize("step", TAKING_BACK)
def test_a_publisher_killed_while_it_takes_a_bad_version_back(triton: ServedModel, tmp_path: Path, step: str) -> None:
    before = publish(
        triton.repository, model(tmp_path, "bright"), endpoints=[triton.grpc_url], skip_smoke_load="tried elsewhere"
    ).version
    killed(triton, model(tmp_path, "random"), TAKING_BACK[step])
    assert accepted(triton.repository) == before
    again = publish(triton.repository, model(tmp_path, "inverse"), endpoints=[triton.grpc_url])
    assert answers(triton) == ("inverse", again.version)
    assert_sound(triton)


@pytest.mark.parametrize("step", ROLLING_BACK)
def test_a_roll_back_that_is_killed_is_finished_and_goes_one_step_only(
    triton: ServedModel, tmp_path: Path, step: str
) -> None:
    for kind in ("inverse", "bright", "inverse"):
        previous = accepted(triton.repository)
        publish(triton.repository, model(tmp_path, kind), endpoints=[triton.grpc_url])
    killed(triton, "roll back", ROLLING_BACK[step])
    assert accepted(triton.repository) == previous
    answers(triton)
    assert roll_back(triton.repository, endpoints=[triton.grpc_url]) == previous
    assert answers(triton) == ("bright", previous)
    assert_sound(triton)
