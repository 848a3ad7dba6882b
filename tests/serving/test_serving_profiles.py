"""config.pbtxt: a text for every way to deploy the model, and what the local one makes of the runtime it names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import InferenceServerClient, model_config_pb2

from privseg.errors import DataError, UsageError
from privseg.serving.admin import Endpoint
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.config import SERVING_FILE, ensure_config, hardware, measured_choice, write_config
from privseg.serving.profiles import (
    ENGINE_CACHE,
    PLAN_COMMAND,
    PROFILES,
    Profile,
    RuntimeChoice,
    default_choice,
    render_config,
)
from privseg.testing.triton import Kind, ServedModel, make_person_model, running_triton

PICTURE = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
OPENVINO = RuntimeChoice("openvino", "f32", threads=1, instances=2, at_once=2)


def parsed(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def parameters(text: str) -> dict[str, str]:
    return {key: value.string_value for key, value in parsed(text).parameters.items()}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    with running_triton(tmp_path_factory.mktemp("triton"), choice=OPENVINO) as served:
        yield served


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_a_model_configuration_with_the_contract_and_a_queue_that_refuses(profile: Profile) -> None:
    config = parsed(render_config(profile, keep_loaded=2))
    assert (config.name, config.max_batch_size) == (MODEL_NAME, 4)
    assert [(t.name, t.data_type, list(t.dims)) for t in (*config.input, *config.output)] == [
        ("IMAGE", model_config_pb2.TYPE_UINT8, [-1, -1, 3]),
        ("PERSON", model_config_pb2.TYPE_UINT8, [-1, -1]),
    ]
    policy = config.dynamic_batching.default_queue_policy
    assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds > 0
    assert policy.max_queue_size > 0
    assert config.version_policy.latest.num_versions == 2
    assert config.model_warmup
    assert list(config.dynamic_batching.preferred_batch_size) == ([] if profile == "local" else [2, 4])
    group = model_config_pb2.ModelInstanceGroup
    kind = group.KIND_CPU if profile == "local" else group.KIND_GPU
    assert [(one.count, one.kind) for one in config.instance_group] == [(1, kind)]


def test_the_gpu_profiles_name_tensorrt_and_its_files() -> None:
    (accelerator,) = parsed(
        render_config("onnxruntime-gpu")
    ).optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["precision_mode"] == "FP16"
    assert accelerator.parameters["trt_engine_cache_path"] == ENGINE_CACHE
    plan = parsed(render_config("tensorrt"))
    assert (plan.backend, plan.default_model_filename) == ("tensorrt", "model.plan")
    assert "--saveEngine=model.plan" in PLAN_COMMAND


def test_one_version_is_loaded_unless_more_are_asked_for() -> None:
    assert parsed(render_config()).version_policy.latest.num_versions == 1
    with pytest.raises(UsageError, match="serve nothing"):
        render_config(keep_loaded=0)
    with pytest.raises(UsageError, match="profile abacus"):
        render_config("abacus")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "way",
    [("abacus", "f32", 1, 1), ("openvino", "f16", 1, 1), ("onnxruntime", "bf16", 1, 1), ("openvino", "f32", 0, 1)],
)
def test_a_way_that_the_backend_would_refuse_cannot_be_written(way: tuple[str, str, int, int]) -> None:
    with pytest.raises(UsageError, match="is no way to run"):
        RuntimeChoice(*way)


def test_a_new_repository_gets_what_was_measured_on_this_machine(tmp_path: Path) -> None:
    measured = {"hardware": hardware() | {"load": 1.0}, "choice": {"runtime": "openvino", "threads": 3}}
    (tmp_path / SERVING_FILE).write_text(json.dumps(measured))
    text = ensure_config(tmp_path / "model_repository").read_text()
    assert parameters(text)["runtime"] == "openvino"
    assert parameters(text)["intra_op_thread_count"] == "3"
    # and one that has its configuration keeps it, for an edit reloads every version
    (tmp_path / SERVING_FILE).unlink()
    assert ensure_config(tmp_path / "model_repository").read_text() == text


def test_what_was_measured_on_another_machine_is_not_used(tmp_path: Path) -> None:
    measured = {"hardware": hardware() | {"cores": 1000}, "choice": {"runtime": "openvino"}}
    (tmp_path / SERVING_FILE).write_text(json.dumps(measured))
    assert measured_choice(tmp_path) is None
    text = ensure_config(tmp_path / "model_repository").read_text()
    assert parameters(text)["runtime"] == default_choice().runtime == "onnxruntime"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"hardware": {}}'])
def test_a_damaged_measurement_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / SERVING_FILE).write_text(content)
    with pytest.raises(DataError, match=SERVING_FILE):
        measured_choice(tmp_path)


def test_the_committed_config_is_what_is_rendered() -> None:
    committed = Path(__file__).parents[2] / "model_repository" / MODEL_NAME / "config.pbtxt"
    assert committed.read_text(encoding="utf-8") == render_config()


def test_openvino_serves_in_every_instance_and_the_server_says_so(triton: ServedModel) -> None:
    running = triton.status()
    assert running is not None
    assert running.runtime == "openvino f32, threads: 1"
    with InferenceServerClient(triton.grpc_url) as client:
        assert client.get_model_config(MODEL_NAME).config.instance_group[0].count == 2
    with Endpoint(triton.grpc_url) as endpoint:
        for height, width in ((64, 96), (512, 512), (96, 64)):
            pictures = np.random.default_rng(height).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
            np.testing.assert_array_equal(endpoint.infer(pictures)[0], np.maximum(pictures[..., 0], 1))


def test_requests_that_are_run_together_or_in_portions_get_their_own_answers(triton: ServedModel) -> None:
    """Some are of one size and share a run, two at most; one brings three pictures and is never divided."""
    shapes = [(1, 64, 96), (1, 64, 96), (1, 64, 96), (3, 64, 96), (1, 96, 64), (1, 64, 96), (2, 64, 96)]
    pictures = [
        np.random.default_rng(n).integers(1, 256, (*shape, 3), dtype=np.uint8) for n, shape in enumerate(shapes)
    ]

    def ask(images: Any) -> Any:
        with Endpoint(triton.grpc_url) as endpoint:
            return endpoint.infer(images)[0]

    for _ in range(5):
        with ThreadPoolExecutor(len(pictures)) as pool:
            answers = list(pool.map(ask, pictures))
        for images, answer in zip(pictures, answers, strict=True):
            np.testing.assert_array_equal(answer, images[..., 0])


@pytest.mark.parametrize(("kind", "answer"), [("nan", 0), ("zeros", 0)])
def test_a_model_that_cannot_compute_says_so_whatever_runtime_is_asked_for(
    triton: ServedModel, kind: Kind, answer: int
) -> None:
    """OpenVINO makes numbers of NaN, by which it would say "nobody here"."""
    version = 2 + ["nan", "zeros"].index(kind)
    make_person_model(triton.repository / MODEL_NAME / str(version), kind=kind)
    with Endpoint(triton.grpc_url) as endpoint:
        endpoint.load()
        person, served = endpoint.infer(PICTURE)
    assert served == version
    assert np.unique(person).tolist() == [answer]
    running = triton.status()
    assert running is not None
    assert running.runtime == "onnxruntime f32, threads: 1"
    assert "OpenVINO does not take this version (pixels are not computed)" in triton.log.read_text()


def test_a_runtime_that_the_records_parity_stage_refused_does_not_serve(triton: ServedModel) -> None:
    artifact = make_person_model(triton.repository / MODEL_NAME / "4")
    refused = {"precision": "float32", "serves": False, "may_serve": False}
    unknown = {"fault": "is not installed there", "may_serve": False}
    record = dict(artifact.record) | {"runtimes": {"openvino_default": unknown, "openvino_float32": refused}}
    (artifact.directory / "model.json").write_text(json.dumps(record))
    with Endpoint(triton.grpc_url) as endpoint:
        endpoint.load()
        assert endpoint.infer(PICTURE)[1] == 4
    running = triton.status()
    assert running is not None
    assert running.runtime == "onnxruntime f32, threads: 1"
    assert "openvino_float32 may not serve it: on test pictures" in triton.log.read_text()


def test_a_configuration_is_changed_by_command_only(tmp_path: Path) -> None:
    repository = tmp_path / "model_repository"
    before = ensure_config(repository).read_text()

    def config(*arguments: str) -> str:
        program = "from privseg.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "triton", "config", "--home", str(tmp_path), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert config() == before
    assert parsed(config("--profile", "tensorrt")).backend == "tensorrt"
    assert (repository / MODEL_NAME / "config.pbtxt").read_text() == before
    assert "nothing changes" in config("--write")
    assert "loads every version anew" in config("--write", "--keep-loaded", "2")
    assert write_config(repository, before)
