"""Audits of a real Triton: what holds stays, what leaks is taken back, and what cannot be asked changes nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from privseg import pipeline, publishing
from privseg.audit import measure
from privseg.audit.clips import Clip, golden_clips
from privseg.audit.witness import Witness
from privseg.errors import DataError, GateFailedError, ServerUnavailableError, UsageError
from privseg.params import PARAMS_FILE, AuditParams, read_params_file
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.versions import list_versions
from privseg.testing.camera import person_box, scene, write_video
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

WIDTH, HEIGHT, FRAMES = 320, 256, 8


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("audit")) as served:
        yield served


@pytest.fixture
def home(triton: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that names the server; its golden clips are a beacon that walks, and nothing drawn."""
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(triton.repository))
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", triton.grpc_url)
    (tmp_path / "workspace").mkdir()
    rules = read_params_file(PARAMS_FILE) | {"audit": {"clips": 0}}
    (tmp_path / "workspace" / "params.yaml").write_text(yaml.safe_dump(rules))
    beacon_clip(tmp_path / "audit" / "beacon")
    return tmp_path


def beacon_clip(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_video(folder / "clip.mp4", [scene(number, WIDTH, HEIGHT) for number in range(FRAMES)])
    (folder / "masks").mkdir()
    for number in range(FRAMES):
        left, top, right, bottom = person_box(number, WIDTH, HEIGHT)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[top:bottom, left:right] = 1
        (folder / "masks" / f"{number:06d}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())


def serve(triton: ServedModel, version: int, kind: Kind) -> None:
    """Put a version in place past every check, as a mistake in the checks would."""
    make_person_model(triton.repository / MODEL_NAME / str(version), kind=kind)
    with Endpoint(triton.grpc_url) as server:
        server.load()


def test_a_version_that_covers_everybody_stays(home: Path, triton: ServedModel) -> None:
    found = pipeline.audit(str(home))
    assert found["breaches"] == []
    assert (found["person_recall"], found["leak_frames"], found["frames"]) == (1.0, 0, FRAMES)
    assert found["mask_agreement"] == 1.0
    assert json.loads((home / "out" / "audit.json").read_text())["outcome"] == found["outcome"]
    metrics = (home / "out" / "audit.prom").read_text()
    assert f'privseg_audit_person_recall_ratio{{version="{found["version"]}"}} 1.0' in metrics
    assert triton.grpc_url not in metrics
    assert "within its limits" in (home / "out" / "audit.html").read_text()


def test_a_version_that_leaks_is_taken_back_and_the_one_before_serves(home: Path, triton: ServedModel) -> None:
    good = list_versions(triton.repository)[-1]
    pipeline.audit(str(home))
    serve(triton, good + 1, "blank")
    found = pipeline.audit(str(home))
    assert found["version"] == good + 1
    assert found["leak_frames"] == FRAMES
    assert any("of the people's pixels" in line for line in found["breaches"])
    assert any(f"version {good} covered 1.000" in line for line in found["breaches"])
    assert found["rolled_back_to"] == good
    assert list_versions(triton.repository)[-1] == good
    assert pipeline.audit(str(home))["breaches"] == []
    page = (home / "out" / "audits.jsonl").read_text().splitlines()
    assert [json.loads(line)["version"] for line in page] == [good, good + 1, good]


def test_a_version_that_covers_the_whole_scene_is_a_breach(home: Path, triton: ServedModel) -> None:
    good = list_versions(triton.repository)[-1]
    serve(triton, good + 2, "inverse")
    found = pipeline.audit(str(home), roll_back=False)
    assert any("of the background is covered" in line for line in found["breaches"])
    assert found["rolled_back_to"] is None
    assert list_versions(triton.repository)[-1] == good + 2
    assert pipeline.audit(str(home))["rolled_back_to"] == good


def test_every_replica_behind_a_name_is_audited(
    home: Path, triton: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = ServedModel(triton.repository, tmp_path / "second")
    try:
        pairs = sorted(
            (url.rpartition(":") for url in (triton.grpc_url, second.grpc_url)), key=lambda pair: int(pair[2])
        )
        resolve = socket.getaddrinfo

        def both(host: str, *rest: Any, **named: Any) -> Any:
            if host != "triton-headless":
                return resolve(host, *rest, **named)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address, _, port in pairs]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", "dns:///triton-headless:8001")
        found = pipeline.audit(str(home))
        assert (found["replicas"], found["breaches"]) == (2, [])
        assert [entry["replica"] for entry in found["clips"]] == [0, 1]

        good = list_versions(triton.repository)[-1]
        serve(triton, good + 1, "bright")  # and the second one is forgotten
        late = [f"{address}:{port}" for address, _, port in pairs].index(second.grpc_url)
        found = pipeline.audit(str(home), roll_back=False)
        assert f"server {late} answers with version {good}, not {good + 1}" in found["breaches"]
        assert len(found["breaches"]) == 1
    finally:
        second.kill()


def test_a_version_published_meanwhile_is_neither_judged_nor_taken_back(
    home: Path, triton: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_versions(triton.repository)
    newer, watch = before[-1] + 5, measure._watch

    def publish_meanwhile(clip: Clip, server: Endpoint) -> Witness:
        serve(triton, newer, "blank")
        return watch(clip, server)

    with monkeypatch.context() as patched:
        patched.setattr(measure, "_watch", publish_meanwhile)
        with pytest.raises(ServerUnavailableError, match=f"followed by version {newer}"):
            pipeline.audit(str(home))
    assert list_versions(triton.repository) == [*before, newer]
    with pytest.raises(GateFailedError, match=f"not {before[-1]}, which was to be taken back"):
        publishing.roll_back(home, expected=before[-1])
    assert pipeline.audit(str(home))["rolled_back_to"] == before[-1]


def test_a_server_that_has_loaded_nothing_yet_ends_the_audit_without_a_verdict(
    home: Path, triton: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_versions(triton.repository)
    with running_triton(tmp_path / "empty", kind=None) as empty:
        monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", f"{triton.grpc_url},{empty.grpc_url}")
        with pytest.raises(ServerUnavailableError, match="has no version loaded yet"):
            pipeline.audit(str(home))
    assert list_versions(triton.repository) == before


def test_clips_go_to_another_machine_encrypted_or_not_at_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", "192.0.2.7:8001")
    with pytest.raises(UsageError, match="in clear"):
        pipeline.audit(str(home))


def test_a_server_that_is_down_is_no_reason_to_take_anything_back(
    home: Path, triton: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list_versions(triton.repository)
    monkeypatch.setenv("PRIVSEG_TRITON_ENDPOINTS", "127.0.0.1:1")
    with pytest.raises(ServerUnavailableError):
        pipeline.audit(str(home))
    assert list_versions(triton.repository) == before
    assert not (home / "out").exists()


def test_an_empty_repository_has_nothing_to_audit(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVSEG_MODEL_REPOSITORY", str(tmp_path / "empty"))
    with pytest.raises(GateFailedError, match="no version"):
        pipeline.audit(str(home))


def test_drawn_clips_are_made_once_and_have_a_mask_a_frame(tmp_path: Path) -> None:
    rules = AuditParams(clips=1, frames=3)
    (clip,) = golden_clips(tmp_path, rules)
    assert len(list(clip.masks.glob("*.png"))) == 3
    made = clip.video.stat().st_mtime_ns
    (tmp_path / "mine" / "masks").mkdir(parents=True)
    (tmp_path / "mine" / "clip.mp4").touch()
    assert [entry.name for entry in golden_clips(tmp_path, rules)] == [clip.name, "mine"]
    assert clip.video.stat().st_mtime_ns == made
    (tmp_path / "mine" / "clip.mp4").unlink()
    with pytest.raises(DataError, match="mine"):
        golden_clips(tmp_path, rules)
