"""A real Triton server over a tiny real model, for tests.

::

    with running_triton(tmp_path) as triton:
        client = InferenceServerClient(triton.grpc_url)
        …
        triton.kill()      # as a crash would
        triton.restart()   # the same ports
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from onnx import TensorProto, helper

from privseg.serving.artifact import INPUT_NAME, MODEL_NAME, OUTPUT_NAME, Artifact, write_artifact
from privseg.serving.config import ensure_config, write_config
from privseg.serving.local_triton import LocalTriton, RunningTriton
from privseg.serving.profiles import RuntimeChoice, render_config
from privseg.serving.supervisor import DELAYS, Supervisor, supervised
from privseg.serving.triton_state import processes

__all__ = ["Kind", "ServedModel", "make_person_model", "running_triton"]

Kind = Literal["bright", "inverse", "blank", "random", "zeros", "nan", "garbage"]
_OPSET: Final = 17


def make_person_model(path: Path, *, kind: Kind = "bright") -> Artifact:
    """Write ``model.onnx`` and ``model.json`` of a tiny model into the directory ``path``.

    Args:
        path: The artifact's directory; made when absent.
        kind: ``bright``: probability is the red channel, so bright red (or white) means person. ``inverse``: 255
            minus it. ``blank``: nobody, ever. ``random``: differs at every call, so no golden frame can match. All
            answer at least 1, as the contract asks. ``zeros``: 0 everywhere, "not computed". ``nan``: its weight is
            NaN, and it says so by 0, as the exported models do. ``garbage``: bytes that are no ONNX model, with a
            correct hash.
    """
    content = b"no model at all" * 100 if kind == "garbage" else _person_graph(kind)
    record = {"candidate": f"test_{kind}", "input": INPUT_NAME, "output": OUTPUT_NAME, "opset": _OPSET}
    return write_artifact(path, content, record)


def _person_graph(kind: Kind) -> bytes:
    def scalar(name: str, data_type: int, value: float) -> object:
        return helper.make_tensor(name, data_type, [], [value])

    constants = [scalar("red", TensorProto.INT64, 0)]
    nodes = [helper.make_node("Gather", [INPUT_NAME, "red"], ["plane"], axis=3)]
    if kind == "bright":
        nodes.append(helper.make_node("Identity", ["plane"], ["level"]))
    elif kind == "inverse":
        constants.append(scalar("full", TensorProto.UINT8, 255))
        nodes.append(helper.make_node("Sub", ["full", "plane"], ["level"]))
    elif kind == "random":
        nodes.append(helper.make_node("Cast", ["plane"], ["floats"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("RandomUniformLike", ["floats"], ["noise"], low=0.0, high=255.0))
        nodes.append(helper.make_node("Cast", ["noise"], ["level"], to=TensorProto.UINT8))
    elif kind == "nan":
        constants += [scalar("weight", TensorProto.FLOAT, float("nan")), scalar("none", TensorProto.FLOAT, 0)]
        nodes += [
            helper.make_node("Cast", ["plane"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "weight"], ["product"]),
            helper.make_node("Relu", ["product"], ["probability"]),
            helper.make_node("GreaterOrEqual", ["probability", "none"], ["computed"]),
            helper.make_node("Cast", ["computed"], ["level"], to=TensorProto.UINT8),
        ]
    else:
        nodes.append(helper.make_node("Sub", ["plane", "plane"], ["level"]))
    constants.append(scalar("least", TensorProto.UINT8, 0 if kind in ("zeros", "nan") else 1))
    nodes.append(helper.make_node("Clip", ["level", "least"], [OUTPUT_NAME]))
    graph = helper.make_graph(
        nodes,
        f"person_{kind}",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.UINT8, ["N", "H", "W"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    return bytes(model.SerializeToString())


class ServedModel:
    """A Triton that a test may kill and restart.

    Attributes:
        repository: The model repository it serves.
        state_dir: Where its log and record lie.
    """

    def __init__(self, repository: Path, state_dir: Path) -> None:
        self.repository = repository
        self.state_dir = state_dir
        self._server = LocalTriton(repository, state_dir)
        self._started = self._server.start()

    @property
    def grpc_url(self) -> str:
        """``127.0.0.1:port``; the same after a restart."""
        return self._started.grpc_url

    @property
    def http_url(self) -> str:
        """``http://127.0.0.1:port``; the same after a restart."""
        return self._started.http_url

    @property
    def metrics_url(self) -> str:
        """``http://127.0.0.1:port/metrics``; the same after a restart."""
        return self._started.metrics_url

    @property
    def log(self) -> Path:
        """The server's log."""
        return Path(self._started.log)

    def status(self) -> RunningTriton | None:
        """Return what the server is doing now; None when it does not run."""
        return self._server.status()

    def supervised(self, *, delays: tuple[float, ...] = DELAYS) -> contextlib.AbstractContextManager[Supervisor]:
        """Mend the server inside the ``with`` block, as ``privseg triton up`` does; stop or kill it outside of it."""
        return supervised(self._server, delays=delays)

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Let the processes behind the model hang inside the ``with`` block: requests arrive, no answer does.

        Triton takes a process that is silent for more than a second or two for dead, and refuses what comes then.
        """
        running = self._server.status()
        stubs = set() if running is None else set(processes(running)) - {running.pid}
        for stub in stubs:
            os.kill(stub, signal.SIGSTOP)
        try:
            yield
        finally:
            for stub in stubs:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stub, signal.SIGCONT)

    def kill(self) -> None:
        """End server and stubs by SIGKILL."""
        self._server.kill()

    def stop(self) -> None:
        """End the server in order."""
        self._server.stop()

    def restart(self) -> None:
        """Start the server again on the same ports, stopping it first if it runs."""
        self._server.stop()
        self._server = LocalTriton(
            self.repository,
            self.state_dir,
            grpc_port=self._started.grpc_port,
            http_port=self._started.http_port,
            metrics_port=self._started.metrics_port,
        )
        self._server.start()


@contextlib.contextmanager
def running_triton(
    directory: Path, *, kind: Kind | None = "bright", choice: RuntimeChoice | None = None
) -> Iterator[ServedModel]:
    """Run Triton in ``directory`` on free ports, serving a tiny model as version 1.

    Args:
        directory: Gets ``model_repository`` and ``triton``, the server's state.
        kind: See ``make_person_model``; None serves nothing yet.
        choice: The runtime; None: what a new repository gets.
    """
    repository = directory / "model_repository"
    if choice is not None:
        write_config(repository, render_config("local", choice))
    ensure_config(repository)
    if kind is not None:
        make_person_model(repository / MODEL_NAME / "1", kind=kind)
    triton = ServedModel(repository, directory / "triton")
    try:
        yield triton
    finally:
        triton.kill()  # an orderly stop takes Triton two seconds, and nobody waits for an answer any more
