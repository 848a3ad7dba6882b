"""Several cameras at once, each in a thread of its own: what befalls one never touches another."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any, Final

from privseg.errors import PrivsegError, UsageError
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import create_method
from privseg.streaming.camera import CameraReport, run_camera
from privseg.streaming.config import CameraConfig, GatewayConfig
from privseg.streaming.segmenter import SegmenterBackend, TritonSegmenter
from privseg.streaming.sinks import H264FileSink, output_format
from privseg.streaming.source import VideoSource, redact
from privseg.streaming.telemetry import Telemetry

__all__ = ["run_gateway", "run_until_stopped", "stop_on_signals"]

Progress = Callable[[CameraReport], None]
_JOIN_SECONDS: Final = 0.2


def run_gateway(
    config: GatewayConfig,
    stop: threading.Event | None = None,
    *,
    telemetry: Telemetry | None = None,
    open_segmenter: Callable[[GatewayConfig], SegmenterBackend] | None = None,
    progress: Progress | None = None,
) -> dict[str, CameraReport]:
    """Protect every configured camera until all have ended or ``stop`` is set.

    The model need not be ready: until it answers, frames leave as slates.

    Args:
        config: See :mod:`privseg.streaming.config`.
        stop: Ends all cameras; their files are finished and playable.
        telemetry: Metrics, served on the configured port while this runs.
        open_segmenter: Makes one segmenter a camera; Triton by default.
        progress: Called from the cameras' threads with a report so far, and once with the last one of each.

    Returns:
        One report a camera; ``fault`` tells what ended it, if anything did.

    Raises:
        UsageError: A method, one of its parameters or an output is wrong; no camera was started.
        ServerUnavailableError: The metrics port is taken; no camera was started.
    """
    stop = stop or threading.Event()
    telemetry = telemetry or Telemetry()
    methods = _checked(config)
    server = telemetry.serve(config.metrics.port, config.metrics.address)
    reports: dict[str, CameraReport] = {}

    def run(name: str, camera: CameraConfig, method: Method) -> None:
        report = _run_one(name, camera, method, config, open_segmenter or _triton, telemetry, stop, progress)
        reports[name] = report
        if progress:
            progress(report)

    threads = [
        threading.Thread(target=run, args=(name, camera, methods[name]), name=f"camera {name}")
        for name, camera in config.cameras.items()
    ]
    try:
        for thread in threads:
            thread.start()
        _join(threads)
    finally:
        stop.set()
        _join(threads)
        server.close()
    return {name: reports[name] for name in config.cameras if name in reports}


def run_until_stopped(config: GatewayConfig) -> dict[str, dict[str, Any]]:
    """Run the gateway until SIGINT or SIGTERM, telling its state on stderr; for the main thread.

    Returns:
        One report a camera, as plain data.

    Raises:
        PrivsegError: As :func:`run_gateway`; also the error of a camera, when no camera got through.
    """
    stop = threading.Event()

    def tell(report: CameraReport) -> None:
        line = f"{report.progress_line()}; ended: {report.fault}" if report.fault else report.progress_line()
        print(line, file=sys.stderr, flush=True)

    with stop_on_signals(stop):
        reports = run_gateway(config, stop, progress=tell)
    errors = [report.error for report in reports.values() if isinstance(report.error, PrivsegError)]
    if errors and len(errors) == len(reports):
        raise errors[0]
    return {name: report.model_dump(mode="json") for name, report in reports.items()}


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM set ``stop`` instead of ending the process; for the main thread."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _checked(config: GatewayConfig) -> dict[str, Method]:
    """The method of every camera; refuses what cannot work before anything starts."""
    outputs: dict[str, str] = {}
    methods: dict[str, Method] = {}
    for name, camera in config.cameras.items():
        output_format(Path(camera.output))
        if camera.output in outputs:
            fault = f"writes to the same file as camera {outputs[camera.output]}"
            raise UsageError(f"camera {name}", fault, "give each camera its own output")
        outputs[camera.output] = name
        methods[name] = create_method(camera.method, camera.params)
    return methods


def _run_one(
    name: str,
    camera: CameraConfig,
    method: Method,
    config: GatewayConfig,
    open_segmenter: Callable[[GatewayConfig], SegmenterBackend],
    telemetry: Telemetry,
    stop: threading.Event,
    progress: Progress | None,
) -> CameraReport:
    """Run one camera to its end, whatever that is; never raises."""
    uri = camera.source.get_secret_value()
    out = Path(time.strftime(camera.output))

    def open_sink(width: int, height: int, frame_rate: Fraction) -> H264FileSink:
        return H264FileSink(out, frame_rate, (width, height))

    try:
        with contextlib.closing(open_segmenter(config)) as segmenter:
            report = run_camera(
                name,
                VideoSource(uri, realtime=camera.realtime, loop=camera.loop),
                segmenter,
                method,
                open_sink,
                output=str(out),
                telemetry=telemetry,
                policy=config.policy,
                long_side=config.triton.long_side,
                max_frames=camera.max_frames,
                reconnect=True,
                stop=stop,
                progress=progress,
            )
    except Exception as error:
        if not isinstance(error, PrivsegError):
            traceback.print_exc(file=sys.stderr)
        report = CameraReport(
            camera=name,
            source=redact(uri),
            output=str(out),
            method=method.name,
            method_params=method.params.model_dump(),
            privacy_class=method.privacy_class,
            fault=str(error) if isinstance(error, PrivsegError) else f"internal error ({type(error).__name__})",
            error=error,
        )
        telemetry.lost(name)
    return report.model_copy(update={"purpose": camera.purpose})


def _triton(config: GatewayConfig) -> TritonSegmenter:
    triton = config.triton
    return TritonSegmenter(
        triton.url, triton.model, deadline_seconds=triton.deadline_seconds, max_in_flight=triton.max_in_flight
    )


def _join(threads: list[threading.Thread]) -> None:
    """Wait in slices, so that the main thread can still handle a signal."""
    for thread in threads:
        while thread.is_alive():
            thread.join(_JOIN_SECONDS)
