"""A signal in the middle of a clip: the earlier file stays, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from privseg.testing.camera import scene, write_video

PROGRAM = """
    import sys
    from pathlib import Path
    from privseg.privacy.filters.registry import create_method
    from privseg.streaming.anonymize import anonymize_file

    source, out, triton = sys.argv[1:]
    anonymize_file(source, Path(out), method=create_method("blank"), triton=triton)
"""


class Stuck(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers five frames, then no more."""

    def __init__(self) -> None:
        self.asked = 0
        self.stuck = threading.Event()
        self.released = threading.Event()

    def ModelReady(self, _request: Any, _context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=True)

    def ModelInfer(self, request: Any, _context: Any) -> Any:
        self.asked += 1
        if self.asked > 5:
            self.stuck.set()
            self.released.wait(60)
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        shape = list(request.inputs[0].shape)[:3]
        response.outputs.add(name="PERSON", datatype="UINT8", shape=shape)
        response.raw_output_contents.append(bytes([1]) * (shape[1] * shape[2]))
        return response


@pytest.fixture
def server() -> Iterator[tuple[Stuck, str]]:
    servicer = Stuck()
    with ThreadPoolExecutor(8) as pool:
        running = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, running)
        port = running.add_insecure_port("127.0.0.1:0")
        running.start()
        try:
            yield servicer, f"127.0.0.1:{port}"
        finally:
            servicer.released.set()
            running.stop(None).wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_clip_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, number: signal.Signals, server: tuple[Stuck, str]
) -> None:
    servicer, url = server
    clip = write_video(tmp_path / "clip.avi", [scene(n, 160, 120) for n in range(40)])
    out = tmp_path / "out.mp4"
    out.write_bytes(b"earlier")
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(clip), str(out), url], stderr=subprocess.PIPE, text=True
    ) as process:
        assert servicer.stuck.wait(60)
        assert list(tmp_path.glob(".out.mp4.*.partial"))  # it has begun to write
        process.send_signal(number)
        servicer.released.set()
        _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert process.returncode != 0
    assert out.read_bytes() == b"earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"clip.avi", "out.mp4"}
