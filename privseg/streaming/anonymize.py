"""One file or camera in, one H.264 file out, with every person covered and as many frames as came in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any, Final

from privseg.errors import DataError, UsageError
from privseg.privacy.carry import CarryPolicy
from privseg.privacy.filters.base import Method
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.profile import Profile
from privseg.privacy.zones import Zones
from privseg.streaming.adaptive import Schedule
from privseg.streaming.camera import run_camera
from privseg.streaming.places import refuse_shared_files
from privseg.streaming.process import forbid_core_dumps, keep_freed_memory, stop_on_signals
from privseg.streaming.report import CameraReport, method_line, write_report
from privseg.streaming.scramble_record import sidecar_path
from privseg.streaming.segmenter import SegmenterBackend
from privseg.streaming.segmenter_local import LocalSegmenter
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import directory_finder
from privseg.streaming.sinks import H264FileSink, output_format
from privseg.streaming.source import FrameSource
from privseg.streaming.source_folder import DEFAULT_RATE
from privseg.streaming.sources import open_source
from privseg.streaming.telemetry import Telemetry
from privseg.streaming.threaded import ThreadedSink
from privseg.triton_channel import Tls

__all__ = ["anonymize", "anonymize_file"]

# A camera's frame is worthless when it is late; a recording can wait for a busy server.
_LIVE_DEADLINE: Final = 2.0
_RECORDING_DEADLINE: Final = 10.0
#: name of the only camera, in metrics and in the report
_CAMERA: Final = "clip"


def anonymize(
    source: str | FrameSource,
    out: Path,
    *,
    method: Method,
    segmenter: SegmenterBackend,
    policy: MaskPolicy | None = None,
    zones: Zones | None = None,
    profile: Profile = Profile.PRODUCTION,
    allow_obfuscation: bool = False,
    report: Path | None = None,
    telemetry: Telemetry | None = None,
    long_side: int = 512,
    schedule: Schedule = Schedule.EVERY_FRAME,
    carry: CarryPolicy | None = None,
    max_frames: int | None = None,
    stop: Event | None = None,
    interrupt: Event | None = None,
    progress: Callable[[CameraReport], None] | None = None,
) -> CameraReport:
    """Protect one video.

    Args:
        source: Path or URL of the video, see :func:`privseg.streaming.sources.open_source`, or a source of one's own.
        out: ``.mp4``, ``.mov`` or ``.mkv``; put in place when it is whole. Where the method can be undone it is
            lossless, with a sidecar beside it.
        method: How people are covered.
        segmenter: Where to ask for people.
        policy: How an answer becomes the covered area.
        zones: What is covered, or not shown, whatever the model says.
        profile: Recorded, and whether the method may be one that only obfuscates.
        allow_obfuscation: Recorded; it may be one in any profile.
        report: Where to write the report as JSON, if anywhere.
        telemetry: Metrics to count in.
        long_side: Pixels of the longer side of the model's input.
        schedule: About which frames the model is asked.
        carry: When, and how long its answers count, where that is not every frame.
        max_frames: End after so many frames.
        stop: Ends the run; what was written stays.
        interrupt: Ends the run with KeyboardInterrupt; nothing is written.
        progress: Called with the report so far, about every two seconds.

    Returns:
        The report. ``frames_blanked`` above 0 means that the model did not answer for all of them; the caller ends
        with exit code 6 then.

    Raises:
        UsageError: The method only obfuscates and that is not allowed; the source does not exist; source, ``out`` and
            ``report`` are not all different files; or ``out`` has no known ending.
        ServerUnavailableError: The model is not ready (nothing was written), or a camera was lost (what came before
            is in ``out``).
        DataError: The source is no video (nothing was written), or is truncated (what it held is in ``out``).
        StorageError: ``out`` or ``report`` cannot be written.

    After a StorageError about ``out``, an interrupt or a bug, ``out`` is what it was before.
    """
    profile.refuse_unless_allowed(method, allow_obfuscation)
    output_format(out)
    refuse_shared_files(
        [source] if isinstance(source, str) else [],
        {"output": out, "report": report, "sidecar": sidecar_path(out) if method.lossless else None},
    )
    camera = open_source(source) if isinstance(source, str) else source
    segmenter.check_ready()

    counted = telemetry or Telemetry()

    def open_sink(width: int, height: int, frame_rate: Fraction, pixel_aspect: Fraction) -> ThreadedSink:
        file = H264FileSink(out, frame_rate, (width, height), pixel_aspect=pixel_aspect, lossless=method.lossless)
        return ThreadedSink(file, observe=lambda seconds: counted.observe_stage(_CAMERA, "encode", seconds))

    result = run_camera(
        _CAMERA,
        camera,
        segmenter,
        method,
        open_sink,
        output=str(out),
        telemetry=counted,
        policy=policy,
        zones=zones,
        long_side=long_side,
        schedule=schedule,
        carry=carry,
        max_frames=max_frames,
        stop=stop,
        interrupt=interrupt,
        progress=progress,
    ).model_copy(update={"profile": profile, "obfuscation_allowed": allow_obfuscation})
    try:
        if report is not None:
            write_report(report, result)
    finally:
        if result.error is not None:
            raise result.error
    if result.frames_out == 0:
        raise DataError(camera.name, "delivered no frame", "check the camera")
    return result


def anonymize_file(
    source: str,
    out: Path,
    *,
    method: Method,
    triton: str | None = None,
    local: Path | None = None,
    tls: Tls | None = None,
    insecure: bool = False,
    shared_memory: str | Path = "auto",
    stream: bool = False,
    policy: MaskPolicy | None = None,
    zones: Zones | None = None,
    profile: Profile = Profile.PRODUCTION,
    allow_obfuscation: bool = False,
    schedule: Schedule = Schedule.EVERY_FRAME,
    report: Path | None = None,
    realtime: bool = False,
    image_rate: float = DEFAULT_RATE,
    max_frames: int | None = None,
    metrics_file: Path | None = None,
    metrics_port: int | None = None,
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Protect one video, through Triton or in this process: :func:`anonymize` with its parts put together.

    Args:
        source: Path or URL of the video, see :func:`privseg.streaming.sources.open_source`.
        out: The protected file.
        method: How people are covered.
        triton: ``host:port`` of Triton's gRPC service; or else
        local: the directory of a model version, which ONNX Runtime runs in this process.
        tls: Encrypt the way to it.
        insecure: Send raw frames in clear even to another machine.
        shared_memory: How pictures reach a Triton on this machine; see
            :func:`privseg.streaming.shared_region.directory_finder`.
        stream: Ask over one bidirectional stream.
        policy: How an answer becomes the covered area.
        zones: What is covered, or not shown, whatever the model says.
        profile: See :func:`anonymize`.
        allow_obfuscation: See :func:`anonymize`.
        schedule: See :func:`anonymize`.
        report: Where to write the report as JSON, if anywhere.
        realtime: Read a file at its own pace, as a camera would; late frames are dropped.
        image_rate: Pictures a second, where the source is a folder of them.
        max_frames: End after so many frames.
        metrics_file: Where to write the metrics at the end, if anywhere.
        metrics_port: Serve them meanwhile, on loopback; 0 takes a free port.
        say: Takes a line that names the method and its class, and one of progress every few seconds.

    Returns:
        The report as plain data.

    Raises:
        PrivsegError: As :func:`anonymize`; also for a ``triton`` elsewhere without ``tls``, for the files of
            ``local``, and for ``metrics_file``.
        KeyboardInterrupt: SIGINT or SIGTERM came (in the main thread); ``out`` is what it was before.
    """
    forbid_core_dumps()
    keep_freed_memory()
    profile.refuse_unless_allowed(method, allow_obfuscation)
    refuse_shared_files([source], {"output": out, "report": report, "metrics file": metrics_file})
    camera = open_source(source, realtime=realtime, image_rate=image_rate)
    telemetry, interrupt = Telemetry(), Event()
    deadline = _LIVE_DEADLINE if camera.live else _RECORDING_DEADLINE
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop_on_signals(interrupt))
        segmenter: LocalSegmenter | TritonSegmenter
        if local is not None:
            segmenter = LocalSegmenter(local, deadline_seconds=deadline)
        elif triton is not None:
            # Where a policy takes 0 for background, memory that nobody wrote to would look like nobody.
            memory = "off" if policy and policy.trust_zero else shared_memory
            segmenter = TritonSegmenter(
                triton,
                deadline_seconds=deadline,
                tls=tls,
                insecure=insecure,
                stream=stream,
                shared_memory=directory_finder(memory, triton),
            )
        else:
            raise UsageError("no model", "is named", "name a Triton or a local version directory")
        stack.enter_context(segmenter)
        if say:
            say(method_line(_CAMERA, method, profile, allow_obfuscation))
        segmenter.check_ready()  # before anything is written, the metrics file included
        if metrics_file is not None:
            stack.callback(telemetry.write, metrics_file)
        if metrics_port is not None:
            server = telemetry.serve(metrics_port)
            stack.callback(server.close)
            if say:
                say(f"metrics on {server.url}")
        result = anonymize(
            camera,
            out,
            method=method,
            segmenter=segmenter,
            policy=policy,
            zones=zones,
            profile=profile,
            allow_obfuscation=allow_obfuscation,
            schedule=schedule,
            report=report,
            telemetry=telemetry,
            max_frames=max_frames,
            interrupt=interrupt,
            progress=(lambda so_far: say(so_far.progress_line())) if say else None,
        )
    return result.model_dump(mode="json")
