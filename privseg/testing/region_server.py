"""A server that speaks Triton's protocol, keeps its shared memory in a folder, and misuses it on demand."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

__all__ = ["RegionServer", "serve"]


class RegionServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Takes the red channel for the answer, whether a picture comes in a message or in shared memory.

    Args:
        folder: What is the server's ``/dev/shm``.

    Attributes:
        regions: The registered ones, by name.
        used: Names of the regions that requests came in, in order.
        before: Called with the picture's first value, between reading a picture and writing its answer.
        written: Makes of an answer what is written, from the answer's beginning.
        altered: Changes a response whose answer is in shared memory, after it was written.
        refusal: The message with which a region is refused, if any.
        stream_error: What every frame of a stream gets for an answer, if anything.
        names_errors: An error on a stream tells which request it is about.
        hangs_up: A stream is ended after each answer.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.regions: dict[str, Any] = {}
        self.used: list[str] = []
        self.before: Callable[[int], None] = lambda level: None
        self.written: Callable[[Any], Any] = lambda red: red
        self.altered: Callable[[Any], None] = lambda response: None
        self.refusal = ""
        self.stream_error = ""
        self.names_errors = True
        self.hangs_up = False

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is Triton's
        """Map a file of the folder."""
        if self.refusal:
            context.abort(grpc.StatusCode.UNAVAILABLE, self.refusal)
        try:
            descriptor = os.open(self.folder / request.key, os.O_RDWR)
        except OSError:
            context.abort(grpc.StatusCode.INTERNAL, f"Unable to open shared memory region: '{request.key}'")
        self.regions[request.name] = np.frombuffer(mmap.mmap(descriptor, request.byte_size), np.uint8)
        os.close(descriptor)
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the name is Triton's
        """Forget a region."""
        self.regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def SystemSharedMemoryStatus(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the name is Triton's
        """Tell what is registered."""
        response = service_pb2.SystemSharedMemoryStatusResponse()
        for name in self.regions:
            response.regions[name].name = name
        return response

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name is Triton's
        """Answer one picture."""
        try:
            return self._answer(request)
        except LookupError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, error.args[0])

    def ModelStreamInfer(self, requests: Iterator[Any], _context: Any) -> Iterator[Any]:  # noqa: N802 - as above
        """Answer the pictures of a stream."""
        for request in requests:
            reply = service_pb2.ModelStreamInferResponse(error_message=self.stream_error)
            try:
                if not self.stream_error:
                    reply.infer_response.CopyFrom(self._answer(request))
            except LookupError as error:
                reply.error_message = error.args[0]
            if reply.error_message and self.names_errors:
                reply.infer_response.id = request.id
            yield reply
            if self.hangs_up:
                return

    def _answer(self, request: Any) -> Any:
        """The answer to one request; raises LookupError for an unknown region."""
        height, width = request.inputs[0].shape[1:3]
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="7", id=request.id)
        response.outputs.add(name="PERSON", datatype="UINT8", shape=[1, height, width])
        if request.raw_input_contents:
            image = np.frombuffer(request.raw_input_contents[0], np.uint8)
            response.raw_output_contents.append(image[::3].tobytes())
            return response
        name = request.inputs[0].parameters["shared_memory_region"].string_param
        if name not in self.regions:
            raise LookupError(f"Unable to find shared memory region: '{name}'")
        memory = self.regions[name]
        self.used.append(name)
        red = memory[: height * width * 3 : 3].copy()
        self.before(int(red[0]))
        written = self.written(red)
        offset = request.outputs[0].parameters["shared_memory_offset"].int64_param
        memory[offset : offset + written.size] = written
        self.altered(response)
        return response


def serve(server: RegionServer, pool: ThreadPoolExecutor, port: int = 0) -> tuple[Any, str]:
    """Start a gRPC service on a loopback port, any for 0; return it and its address."""
    service = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, service)
    url = f"127.0.0.1:{service.add_insecure_port(f'127.0.0.1:{port}')}"
    service.start()
    return service, url
