"""Several cameras at once, each in a thread of its own: what befalls one never touches another."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from privseg.errors import PrivsegError, UsageError
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.registry import create_method
from privseg.privacy.key_ring import open_key_ring
from privseg.privacy.keys import Secrets
from privseg.streaming.address import redact
from privseg.streaming.backends import configured_backend
from privseg.streaming.camera import run_camera
from privseg.streaming.config import CameraConfig, GatewayConfig
from privseg.streaming.fan_out import FanOut
from privseg.streaming.live.config import LiveConfig
from privseg.streaming.places import refuse_shared_files
from privseg.streaming.process import forbid_core_dumps, keep_freed_memory, stop_on_signals
from privseg.streaming.report import CameraReport, method_line
from privseg.streaming.scramble_record import sidecar_path
from privseg.streaming.segmenter import SegmenterBackend
from privseg.streaming.sinks import FrameSink, H264FileSink, output_format
from privseg.streaming.sources import open_source
from privseg.streaming.telemetry import Telemetry

if TYPE_CHECKING:
    from privseg.streaming.live.page import LivePage

__all__ = ["run_gateway", "run_until_stopped"]

Progress = Callable[[CameraReport], None]
_JOIN_SECONDS: Final = 0.2


def run_gateway(
    config: GatewayConfig,
    stop: threading.Event | None = None,
    *,
    telemetry: Telemetry | None = None,
    open_segmenter: Callable[[GatewayConfig], SegmenterBackend] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, CameraReport]:
    """Protect every configured camera until all have ended or ``stop`` is set.

    The model need not be ready: until it answers, frames leave as slates.

    Args:
        config: See :mod:`privseg.streaming.config`.
        stop: Ends all cameras; their files are finished and playable.
        telemetry: Metrics, served on the configured port while this runs.
        open_segmenter: Makes one segmenter a camera; Triton by default.
        progress: Called from the cameras' threads with a report so far, and once with the last one of each.
        say: Takes a line a camera that names its method and its class; then, from the cameras' threads, one when a
            camera is lost, once a minute while it is, and when it is back.

    Returns:
        One report a camera; ``fault`` tells what ended it, if anything did. A recording is kept in any case.

    Raises:
        UsageError: A method, one of its parameters, the key ring or an output is wrong, or an output is another
            camera's output or a source; no camera was started.
        ServerUnavailableError: The metrics port or the live page's is taken; no camera was started.
    """
    stop = stop or threading.Event()
    telemetry = telemetry or Telemetry()
    plans = _checked(config)
    server = telemetry.serve(config.metrics.port, config.metrics.address)
    try:
        page = _open_page(config.live, plans) if config.live else None
    except BaseException:
        server.close()
        raise
    if page and say:
        say(f"live page on {page.url}")
    for name, plan in plans.items():
        if say:
            say(method_line(name, plan.method, config.profile, plan.camera.allow_obfuscation))
    reports: dict[str, CameraReport] = {}

    def run(name: str, plan: _Plan) -> None:
        report = _run_one(
            name, plan, config, open_segmenter or configured_backend, telemetry, stop, progress, say, page
        )
        reports[name] = report
        if progress:
            progress(report)

    threads = [threading.Thread(target=run, args=(name, plan), name=f"camera {name}") for name, plan in plans.items()]
    try:
        for thread in threads:
            thread.start()
        _join(threads)
    finally:
        stop.set()
        _join(threads)
        server.close()
        if page:
            page.close()
    return {name: reports[name] for name in config.cameras if name in reports}


def run_until_stopped(
    config: GatewayConfig, on_reports: Callable[[dict[str, dict[str, Any]]], None] | None = None
) -> dict[str, dict[str, Any]]:
    """Run the gateway until SIGINT or SIGTERM, telling its state on stderr; for the main thread.

    Args:
        config: See :mod:`privseg.streaming.config`.
        on_reports: Takes what is returned, before a camera's error is raised.

    Returns:
        One report a camera, as plain data.

    Raises:
        PrivsegError: As :func:`run_gateway`.
        Exception: What ended the first camera, in the order of the configuration, that did not get through.
    """
    forbid_core_dumps()
    keep_freed_memory()
    stop = threading.Event()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def tell(report: CameraReport) -> None:
        say(f"{report.progress_line()}; ended: {report.fault}" if report.fault else report.progress_line())

    with stop_on_signals(stop):
        reports = run_gateway(config, stop, progress=tell, say=say)
    plain = {name: report.model_dump(mode="json") for name, report in reports.items()}
    if on_reports:
        on_reports(plain)
    error = next((report.error for report in reports.values() if report.error is not None), None)
    if error is not None:
        raise error
    return plain


@dataclass(frozen=True, slots=True)
class _Plan:
    """One camera, checked."""

    camera: CameraConfig
    method: Method
    out: Path
    #: methods that may take its place, itself among them, by name
    switchable: dict[str, Method]
    #: an operator's choice, until the camera takes it
    chosen: SimpleQueue[Method]


def _checked(config: GatewayConfig) -> dict[str, _Plan]:
    """The plan of every camera; refuses what cannot work before anything starts."""
    now = time.localtime()
    outputs = {name: Path(time.strftime(camera.output, now)) for name, camera in config.cameras.items()}
    keys = open_key_ring(config.keys.ring, outputs.values())
    plans = {
        name: _Plan(camera, method, outputs[name], _switchable(name, camera, method, config, keys), SimpleQueue())
        for name, camera in config.cameras.items()
        for method in [_method(camera, config, keys)]
    }
    for plan in plans.values():
        output_format(plan.out)
    refuse_shared_files(
        [camera.source.get_secret_value() for camera in config.cameras.values()],
        {f"camera {name}: output": plan.out for name, plan in plans.items()}
        | {f"camera {name}: sidecar": sidecar_path(plan.out) for name, plan in plans.items() if plan.method.lossless},
    )
    return plans


def _method(camera: CameraConfig, config: GatewayConfig, keys: Secrets | None) -> Method:
    allowed = config.profile.allows_obfuscation(camera.allow_obfuscation)
    return create_method(camera.method, camera.params, secrets=keys, allow_obfuscation=allowed)


def _switchable(
    name: str, camera: CameraConfig, method: Method, config: GatewayConfig, keys: Secrets | None
) -> dict[str, Method]:
    """The methods that an operator may choose; refused as a whole where one of them could not be."""
    allowed = config.profile.allows_obfuscation(camera.allow_obfuscation)
    others = {
        other: create_method(other, {}, secrets=keys, allow_obfuscation=allowed)
        for other in camera.switchable
        if other != method.name
    }
    for other in others.values():
        if other.lossless or method.lossless:
            fault = f"switchable: {other.name} and {method.name} need different recordings"
            raise UsageError(f"camera {name}", fault, "leave out what can be undone with a key")
    return {method.name: method, **others} if others else {}


def _open_page(config: LiveConfig, plans: dict[str, _Plan]) -> LivePage:
    """The live page; the client alone can do without what serves it."""
    try:
        from privseg.streaming.live.page import LivePage, Shown
    except ImportError as error:
        raise UsageError("live", f"needs {error.name}", "pip install 'privseg[live]', or leave out live") from None
    return LivePage(
        config,
        {name: Shown(plan.camera.purpose, plan.method, plan.switchable, plan.chosen) for name, plan in plans.items()},
    )


def _run_one(
    name: str,
    plan: _Plan,
    config: GatewayConfig,
    open_segmenter: Callable[[GatewayConfig], SegmenterBackend],
    telemetry: Telemetry,
    stop: threading.Event,
    progress: Progress | None,
    say: Callable[[str], None] | None,
    page: LivePage | None,
) -> CameraReport:
    """Run one camera to its end, whatever that is; never raises."""
    camera, method, out = plan.camera, plan.method, plan.out
    uri = camera.source.get_secret_value()

    def open_sink(width: int, height: int, frame_rate: Fraction, pixel_aspect: Fraction) -> FrameSink:
        file = H264FileSink(
            out, frame_rate, (width, height), recording=True, pixel_aspect=pixel_aspect, lossless=method.lossless
        )
        return file if page is None else FanOut([file, page.sink(name)])

    try:
        with contextlib.closing(open_segmenter(config)) as segmenter:
            report = run_camera(
                name,
                open_source(
                    uri,
                    realtime=camera.realtime,
                    loop=camera.loop,
                    frozen_seconds=camera.frozen_seconds,
                    transport=camera.transport,
                    image_rate=camera.image_rate,
                ),
                segmenter,
                method,
                open_sink,
                output=str(out),
                telemetry=telemetry,
                policy=config.policy,
                zones=camera.zones,
                long_side=config.triton.long_side,
                schedule=camera.schedule,
                carry=config.carry,
                max_frames=camera.max_frames,
                reconnect=True,
                methods=plan.chosen,
                stop=stop,
                progress=progress,
                say=say,
            )
    except Exception as error:
        report = CameraReport(
            camera=name,
            source=redact(uri),
            output=str(out),
            method=method.name,
            method_params=method.params.model_dump(),
            privacy_class=method.privacy_class,
        ).ended_by(error)
    if report.error is not None:
        telemetry.lost(name)
        if not isinstance(report.error, PrivsegError):
            trace = "".join(traceback.format_exception(report.error))
            print(trace.replace(uri, redact(uri)), file=sys.stderr, flush=True)
    return report.model_copy(update=_circumstances(camera, config))


def _circumstances(camera: CameraConfig, config: GatewayConfig) -> dict[str, Any]:
    """What the report records beside what happened."""
    return {
        "purpose": camera.purpose,
        "profile": config.profile,
        "obfuscation_allowed": camera.allow_obfuscation,
    }


def _join(threads: list[threading.Thread]) -> None:
    """Wait in slices, so that the main thread can still handle a signal."""
    for thread in threads:
        while thread.is_alive():
            thread.join(_JOIN_SECONDS)
