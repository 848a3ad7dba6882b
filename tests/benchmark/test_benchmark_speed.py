from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from privseg.benchmark.hardware import hardware
from privseg.benchmark.runtimes import Engine, onnxruntime_engine, openvino_engine, pytorch_engine
from privseg.benchmark.speed import BATCHES, Timing, best_batch, measure_speed, time_engine
from privseg.errors import GateFailedError
from privseg.training.onnx_file import to_onnx


class Blur(torch.nn.Module):
    """A model with the serving contract: brightness, smoothed a little."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 1, 3, padding=1, bias=False)
        torch.nn.init.constant_(self.layer.weight, 1 / 27)

    def forward(self, image):
        return self.layer(image.permute(0, 3, 1, 2).float()).squeeze(1).clamp(min=1).to(torch.uint8)


@pytest.fixture(scope="module")
def blur():
    model = Blur().eval()
    return model, to_onnx(model, 17)


class Watched:
    """An engine whose runs take as long as they are told, by a clock of its own."""

    def __init__(self, seconds):
        self.seconds, self.now, self.shapes, self.runs = itertools.cycle(seconds), 0.0, [], 0
        self.engine = Engine("pytorch", "cpu", "float32", 2, self.prepare)

    def prepare(self, pictures):
        self.shapes.append(pictures.shape)
        return self.infer

    def infer(self):
        self.runs += 1
        self.now += next(self.seconds)

    def clock(self):
        return self.now


def effort(params, **options):
    defaults = {"timed_runs": 5, "warm_up_runs": 2, "timed_seconds": 100.0}
    return params.benchmark.smoke.model_copy(update=defaults | options)


def test_warm_up_does_not_count(params):
    watched = Watched([9.0, 9.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    found = time_engine(watched.engine, (64, 96), effort(params), clock=watched.clock)
    assert (found.runs, watched.runs) == (5, 7)
    assert found.p50_ms == pytest.approx(300)
    assert found.p95_ms == pytest.approx(480)
    assert found.fps == pytest.approx(1 / 0.3)
    assert watched.shapes == [(1, 64, 96, 3)]
    assert (found.height, found.width, found.batch, found.threads) == (64, 96, 1, 2)


@pytest.mark.parametrize(("seconds", "runs"), [(0.001, 3), (3.5, 4), (100.0, 5)])
def test_a_slow_model_gets_fewer_runs_but_three(params, seconds, runs):
    watched = Watched([1.0])
    found = time_engine(
        watched.engine, (64, 64), effort(params, timed_seconds=seconds, warm_up_runs=0), clock=watched.clock
    )
    assert found.runs == watched.runs == runs


def test_pictures_a_second_count_the_batch(params):
    watched = Watched([0.5])
    found = time_engine(watched.engine, (64, 64), effort(params), batch=8, clock=watched.clock)
    assert (found.batch, found.fps) == (8, 16.0)
    assert watched.shapes == [(8, 64, 64, 3)]


def timing(batch, fps):
    return Timing("pytorch", "cuda", "float32", 64, 64, batch, 1, 3, 1.0, 1.0, fps)


def test_best_batch_of_a_gpu_is_the_one_with_most_pictures_a_second():
    speeds = {1: 100.0, 2: 150.0, 4: 220.0, 8: 260.0, 16: 255.0, 32: 250.0, 64: 240.0}
    assert [t.batch for t in best_batch(lambda batch: timing(batch, speeds[batch]))] == [1, 8]
    assert [t.batch for t in best_batch(lambda batch: timing(batch, 100.0 / batch))] == [1]


@pytest.mark.parametrize(("fits", "kept"), [(0, []), (1, [1]), (4, [1, 4])])
@pytest.mark.parametrize(
    "full", [torch.OutOfMemoryError("full"), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]
)
def test_batches_end_where_the_gpu_is_full(fits, kept, full):
    tried = []

    def measure(batch):
        tried.append(batch)
        if batch > fits:
            raise full
        return timing(batch, 10.0 * batch)

    assert [t.batch for t in best_batch(measure)] == kept
    assert tried == [batch for batch in (1, *BATCHES) if batch <= 2 * max(fits, 0.5)]


def test_another_fault_is_not_taken_for_a_full_gpu():
    def measure(batch):
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        best_batch(measure)


def test_every_runtime_gives_the_same_answer(blur):
    model, onnx = blur
    pictures = np.random.default_rng(3).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    engines = [pytorch_engine(model), onnxruntime_engine(onnx, 1), openvino_engine(onnx, 1)]
    assert [engine.runtime for engine in engines] == ["pytorch", "onnxruntime", "openvino"]
    answers = [np.asarray(engine.prepare(pictures)()).astype(float) for engine in engines]
    for answer in answers:
        assert answer.shape == (2, 64, 96)
        assert np.abs(answer - answers[0]).mean() < 1.5, "OpenVINO may compute in bfloat16"


@pytest.mark.parametrize("load", [onnxruntime_engine, openvino_engine])
def test_a_model_that_a_runtime_refuses_is_a_failed_gate(load):
    with pytest.raises(GateFailedError, match="refuses it"):
        load(b"no model", 1)


def test_every_runtime_at_every_shape_and_first_what_the_budget_is_for(params, blur):
    runs = effort(params, timed_runs=3, shapes=[(64, 64), (64, 128)], runtimes=["pytorch", "onnxruntime"])
    asked = params.model_copy(
        update={
            "benchmark": params.benchmark.model_copy(update={"smoke": runs}),
            "select": params.select.model_copy(update={"latency_runtime": "openvino"}),
        }
    )
    found = measure_speed(*blur, asked)
    assert (found[0].runtime, found[0].height, found[0].width) == ("openvino", 96, 96)
    shapes = [(96, 96), (64, 64), (64, 128)]
    runtimes = ["openvino", "pytorch", "onnxruntime"]
    on_cpu = [(t.runtime, (t.height, t.width)) for t in found if t.device == "cpu"]
    assert on_cpu == [(runtime, shape) for runtime in runtimes for shape in shapes]
    assert all(0 < t.p50_ms <= t.p95_ms and t.threads == torch.get_num_threads() for t in found)
    assert {t.precision for t in found if t.runtime == "onnxruntime"} == {"float32"}


def test_hardware_names_machine_and_versions():
    found = hardware()
    assert found["cpu"]
    assert found["logical_cpus"] >= 1
    assert found["memory_bytes"] > 2**28
    assert found["threads"] == torch.get_num_threads()
    assert found["versions"]["torch"] == torch.__version__
    assert {"privseg", "onnxruntime", "openvino"} <= set(found["versions"])
    assert (found["gpu"] is None) == (not torch.cuda.is_available())
