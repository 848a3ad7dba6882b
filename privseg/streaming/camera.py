"""The pipeline of one camera: source, model, protection, sink.

A recording delivers every frame in order; while the model works on some frames, others are decoded, covered and
encoded. A live source delivers its newest frame; what came in between is dropped and counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from queue import SimpleQueue
from threading import Event
from typing import Any, Final

from privseg.errors import PrivsegError
from privseg.privacy.carry import CarryPolicy
from privseg.privacy.filters.base import Method
from privseg.privacy.frames import ProtectedFrame, Withheld, slate
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.zones import Zones
from privseg.streaming.adaptive import Schedule, protector_for
from privseg.streaming.fan_out import FanOut
from privseg.streaming.feed import FeedEvents, LiveFeed
from privseg.streaming.protector import Protector
from privseg.streaming.report import BlankedRange, CameraReport
from privseg.streaming.segmenter import SegmenterBackend
from privseg.streaming.sinks import FrameSink
from privseg.streaming.source import FrameSource
from privseg.streaming.telemetry import Telemetry
from privseg.streaming.threaded import ThreadedSink

__all__ = ["SinkOpener", "run_camera"]

#: called with width, height, nominal frame rate and pixel aspect, once, before the first frame leaves
SinkOpener = Callable[[int, int, Fraction, Fraction], FrameSink]

_POLL_SECONDS: Final = 0.2
_PROGRESS_SECONDS: Final = 2.0
_LOST_SECONDS: Final = 1.0
_MAX_RANGES: Final = 1000
_REMINDER_SECONDS: Final = 60.0
_READER_SECONDS: Final = 1.0  # a reader that hangs in the network is left behind; it is a daemon


class _Run:
    """The state of one run. Frames pass through it unseen: only the protector touches a raw one."""

    def __init__(
        self,
        camera: str,
        source: FrameSource,
        protector: Protector,
        open_sink: SinkOpener,
        telemetry: Telemetry,
        report: CameraReport,
        progress: Callable[[CameraReport], None] | None,
        say: Callable[[str], None] | None,
        interrupt: Event | None,
        methods: SimpleQueue[Method] | None,
    ) -> None:
        self.camera = camera
        self.source = source
        self.protector = protector
        self.telemetry = telemetry
        self.report = report
        self.sink: FrameSink | None = None
        self.taken = 0
        self._open_sink = open_sink
        self._progress = progress
        self._say = say
        self._interrupt = interrupt
        self._methods = methods
        self._lost_at: float | None = None
        self._next_reminder = 0.0
        self._ranges: deque[BlankedRange] = deque(maxlen=_MAX_RANGES)
        self._last_blanked = False
        self._last: ProtectedFrame | None = None
        self._begun = self._told = time.monotonic()

    def heed_interrupt(self) -> None:
        """Raise KeyboardInterrupt if it was asked for: here nothing is half done."""
        if self._interrupt is not None and self._interrupt.is_set():
            raise KeyboardInterrupt

    def begin(self, frame: Any) -> None:
        """Take one frame of the source and ask the model about it."""
        self.taken += 1
        self.protector.begin(frame)

    def emit(self) -> None:
        """Let the oldest pending frame leave, covered or as a slate."""
        self.heed_interrupt()
        while self._methods is not None and not self._methods.empty():
            method = self._methods.get()
            self.protector.use(method)
            self.telemetry.set_method(self.camera, method)
            self.report.methods_chosen.append(method.name)
        frame = self.protector.finish()
        if self.sink is None:
            self.sink = self._open_sink(frame.width, frame.height, self.source.frame_rate, self.source.pixel_aspect)
        begun = time.perf_counter()
        self.sink.write(frame)
        if not isinstance(self.sink, ThreadedSink | FanOut):  # those tell what encoding took, not what handing over did
            self.telemetry.observe_stage(self.camera, "encode", time.perf_counter() - begun)
        self.telemetry.published(self.camera, frame)
        self._last = frame
        self.report.frames_out += 1
        self._note_blanked(frame)
        if self._progress and time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._progress(self.snapshot())

    def tell_lost(self) -> None:
        """While the camera is lost, let a slate a second say so: the last picture must not look like that of now."""
        last = self._last
        if self._lost_at is None or last is None or self.sink is None:
            return
        gone = time.monotonic() - last.captured
        if gone < _LOST_SECONDS:
            return
        self._last = slate(
            last.width,
            last.height,
            Withheld.CAMERA_LOST,
            sequence=last.sequence,
            pts=last.pts + round(gone / last.time_base),
            time_base=last.time_base,
        )
        self.sink.write(self._last)

    def drain(self) -> None:
        """Let every pending frame leave."""
        while self.protector.pending:
            self.emit()

    # The three below are called from the reader's thread, which alone changes what they change.

    def dropped(self) -> None:
        """Count a frame that a newer one replaced."""
        self.report.frames_dropped += 1
        self.telemetry.dropped(self.camera)

    def lost(self, reason: str) -> None:
        """The camera is gone, or still is: say so at once, then once a minute."""
        self.telemetry.lost(self.camera)
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = self._next_reminder = now
        if self._say and now >= self._next_reminder:
            self._say(f"{self.camera}: lost for {now - self._lost_at:.0f} s: {reason}")
            self._next_reminder = now + _REMINDER_SECONDS

    def reconnected(self) -> None:
        """The camera is back."""
        self.report.reconnects += 1
        self.telemetry.reconnected(self.camera)
        gone = time.monotonic() - self._lost_at if self._lost_at is not None else 0.0
        self._lost_at = None
        if self._say:
            self._say(f"{self.camera}: reconnected after {gone:.0f} s")

    def stalled(self) -> None:
        """The camera sent nothing for so long that it is opened again."""
        self.telemetry.stalled(self.camera)

    def snapshot(self) -> CameraReport:
        """The report as of now."""
        seconds = time.monotonic() - self._begun
        now = {
            "frames_in": self.taken + self.report.frames_dropped,
            "seconds": round(seconds, 3),
            "fps": round(self.report.frames_out / seconds, 2) if seconds else 0.0,
            "corrupt_packets": self.source.corrupt,
            "blanked_ranges": list(self._ranges),
            "blank_reason": max(self._ranges, key=len).reason if self._ranges else "",
            "model_versions": list(self.protector.model_versions),
        }
        return self.report.model_copy(update=now)

    def _note_blanked(self, frame: ProtectedFrame) -> None:
        if frame.withheld is None:
            self._last_blanked = False
            return
        self.report.frames_blanked += 1
        reason = str(frame.withheld)
        if self._last_blanked and self._ranges[-1].reason == reason:
            self._ranges[-1].last = frame.sequence
        else:
            detail = self.protector.last_detail
            self._ranges.append(BlankedRange(first=frame.sequence, last=frame.sequence, reason=reason, detail=detail))
        self._last_blanked = True


def run_camera(
    camera: str,
    source: FrameSource,
    segmenter: SegmenterBackend,
    method: Method,
    open_sink: SinkOpener,
    *,
    output: str,
    telemetry: Telemetry,
    policy: MaskPolicy | None = None,
    zones: Zones | None = None,
    long_side: int = 512,
    schedule: Schedule = Schedule.EVERY_FRAME,
    carry: CarryPolicy | None = None,
    max_frames: int | None = None,
    reconnect: bool = False,
    methods: SimpleQueue[Method] | None = None,
    stop: Event | None = None,
    interrupt: Event | None = None,
    progress: Callable[[CameraReport], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> CameraReport:
    """Protect one camera until it ends, ``max_frames`` came in, or ``stop`` is set.

    Args:
        camera: Its name in metrics and in the report.
        source: Where its frames come from.
        segmenter: Where to ask for people; used by this camera alone.
        method: How people are covered.
        open_sink: Makes the sink.
        output: Name of the output for the report.
        telemetry: Metrics of the gateway.
        policy: How an answer becomes the covered area.
        zones: What is covered, or not shown, whatever the model says.
        long_side: Pixels of the longer side of the model's input.
        schedule: About which frames the model is asked.
        carry: When, and how long its answers count, where that is not every frame.
        max_frames: End after so many frames.
        reconnect: Open a live source again when it is lost.
        methods: Whoever puts one in has people covered with it from the next frame on.
        stop: Ends the run; what was written stays.
        interrupt: Ends the run with KeyboardInterrupt; the sink is aborted.
        progress: Called with the report so far, about every two seconds.
        say: Takes a line when the camera is lost, once a minute while it is, and when it is back.

    Returns:
        The report, with the true counts whatever happened. ``fault`` and ``error`` tell what ended it before its time.
        Where the source did, the sink is closed; where the sink or privseg itself failed, it is aborted.
    """
    stop = stop or Event()
    telemetry.register(camera, method)
    policy = policy or MaskPolicy()
    protector = protector_for(
        schedule, camera, segmenter, method, policy, telemetry,
        live=source.live, carry=carry, long_side=long_side, zones=zones,
    )  # fmt: skip
    report = CameraReport(
        camera=camera,
        source=source.name,
        output=output,
        method=method.name,
        method_params=method.params.model_dump(),
        privacy_class=method.privacy_class,
        schedule=schedule,
    )
    run = _Run(camera, source, protector, open_sink, telemetry, report, progress, say, interrupt, methods)
    play = _play_live if source.live else _play_recording
    error: Exception | None
    try:
        error = play(run, max_frames, reconnect, stop)
        run.drain()
        if run.sink is not None:
            run.sink.close()
    except BaseException as fault:  # an interrupt too: half a file must not take the place of a whole one
        if run.sink is not None:
            run.sink.abort()
        if not isinstance(fault, Exception):
            raise
        error = fault
    finally:
        source.stop()
        protector.close()
    return run.snapshot().ended_by(error or source.fault)


def _play_recording(run: _Run, max_frames: int | None, _reconnect: bool, stop: Event) -> Exception | None:
    """Every frame in order, as many of them with the model as it takes; returns what ended the source."""
    frames = run.source.frames()
    while run.taken != max_frames and not stop.is_set():
        run.heed_interrupt()
        try:
            frame = next(frames, None)
        except PrivsegError as error:
            return error
        if frame is None:
            break
        run.begin(frame)
        if run.protector.full:
            run.emit()
    return None


def _play_live(run: _Run, max_frames: int | None, reconnect: bool, stop: Event) -> Exception | None:
    """The newest frame each time; returns what ended the source."""
    ended = Event()
    events = FeedEvents(run.dropped, run.lost, run.reconnected, run.stalled)
    feed = LiveFeed(run.source.frames, ended, events, reconnect=lambda: reconnect and run.source.endless)
    feed.start()
    try:
        while run.taken != max_frames and not stop.is_set() and not feed.exhausted:
            run.heed_interrupt()
            frame = feed.take(0 if run.protector.pending else _POLL_SECONDS)
            if frame is not None:
                run.begin(frame)
                frame = None
            # Waiting for an answer comes before idling, so that no frame leaves later than it must.
            elif run.protector.pending:
                run.emit()
            else:
                run.tell_lost()
            if run.protector.full:
                run.emit()
    finally:
        ended.set()
        run.source.stop()
        error = feed.close(_READER_SECONDS)
    if error is not None and not isinstance(error, PrivsegError):
        raise error
    return error
