"""From what a camera's configuration says to sinks that take its frames, and what became of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

from privseg.errors import PrivsegError
from privseg.privacy.frames import ProtectedFrame
from privseg.streaming.address import redact
from privseg.streaming.config import CameraConfig
from privseg.streaming.fan_out import FanOut
from privseg.streaming.outputs.detached import DetachedSink
from privseg.streaming.outputs.network import HlsSink, PushSink
from privseg.streaming.outputs.recorder import Recorder
from privseg.streaming.outputs.shelf import Shelf
from privseg.streaming.report import OutputReport
from privseg.streaming.sinks import FrameSink, H264FileSink
from privseg.streaming.telemetry import Telemetry
from privseg.streaming.threaded import ThreadedSink

__all__ = ["Outputs", "output_names"]

_TIDY_SECONDS: Final = 60.0
_GIB: Final = 2**30


def output_names(camera: CameraConfig, out: Path | None) -> list[str]:
    """What a camera's outputs are called, without credentials."""
    return [
        *([str(out)] if out else []),
        *([str(camera.recording.folder)] if camera.recording else []),
        *([str(camera.hls.folder)] if camera.hls else []),
        *(redact(push.url.get_secret_value()) for push in camera.push),
    ]


class _Counts:
    """Counts what became of one output's frames, for the report and for Prometheus."""

    def __init__(
        self, camera: str, output: str, report: OutputReport, telemetry: Telemetry, say: Callable[[str], None]
    ) -> None:
        self._camera, self._output = camera, output
        self._report, self._telemetry, self._say = report, telemetry, say
        self._last = ""

    def written(self) -> None:
        """A frame was taken."""
        self._report.frames += 1
        self._telemetry.output(self._camera, self._output, "written")

    def lost(self) -> None:
        """A frame was not."""
        self._report.frames_lost += 1
        self._telemetry.output(self._camera, self._output, "lost")

    def failed(self, reason: str) -> None:
        """It broke; the same reason is told once."""
        self._report.faults += 1
        self._telemetry.output_failed(self._camera, self._output)
        kind = reason.partition(": ")[2]  # a recording has another name at each attempt
        if kind != self._last:
            self._say(f"{self._camera}: {self._output}: {reason}")
        self._last, self._report.fault = kind, reason

    def recovered(self) -> None:
        """It takes frames again."""
        self._last, self._report.fault = "", ""
        self._say(f"{self._camera}: {self._output}: takes frames again")


class Outputs:
    """One camera's outputs, from before its first frame until after its last.

    Args:
        name: The camera.
        camera: What it is to have.
        out: Its one file, if any.
        telemetry: Where frames are counted.
        say: Takes a line.
        lossless: Its method can be undone from what is recorded.

    Raises:
        UsageError: Another process records this camera there.
        StorageError: The folder of the recordings cannot be used.
    """

    def __init__(
        self,
        name: str,
        camera: CameraConfig,
        out: Path | None,
        telemetry: Telemetry,
        say: Callable[[str], None],
        *,
        lossless: bool,
    ) -> None:
        self.reports: dict[str, OutputReport] = {}
        self._name, self._camera, self._out = name, camera, out
        self._telemetry, self._say, self._lossless = telemetry, say, lossless
        self._shelf: Shelf | None = None
        if camera.recording is not None:
            self._shelf = Shelf(
                camera.recording.folder,
                name,
                retention_seconds=camera.retention_hours * 3600,
                max_bytes=round(camera.recording.max_gib * _GIB),
                say=say,
            )

    def open(self, size: tuple[int, int], rate: Fraction, aspect: Fraction, *others: FrameSink) -> FrameSink:
        """Everything that takes the frames of this camera.

        Args:
            size: Width and height of its pictures.
            rate: Frames a second, nominal.
            aspect: Width of a pixel by its height.
            *others: Sinks made elsewhere.
        """
        sinks: list[FrameSink] = []
        if self._out is not None:
            file = H264FileSink(
                self._out, rate, size, recording=True, pixel_aspect=aspect, lossless=self._lossless
            )  # fmt: skip
            sinks.append(
                ThreadedSink(file, observe=lambda seconds: self._telemetry.observe_stage(self._name, "encode", seconds))
            )
        shelf, recording, hls = self._shelf, self._camera.recording, self._camera.hls
        if recording is not None and shelf is not None:

            def recorder(_frame: ProtectedFrame) -> FrameSink:
                seconds = recording.segment_minutes * 60
                return Recorder(shelf, seconds, rate, pixel_aspect=aspect, lossless=self._lossless)

            sinks.append(self._detached("recording", recorder))
        if hls is not None:

            def playlist(frame: ProtectedFrame) -> FrameSink:
                return HlsSink(
                    hls.folder, self._name, rate, (frame.width, frame.height), pixel_aspect=aspect,
                    segment_seconds=hls.segment_seconds, window_seconds=hls.window_seconds,
                )  # fmt: skip

            sinks.append(self._detached("hls", playlist))
        for number, push in enumerate(self._camera.push, 1):
            url = push.url.get_secret_value()

            def pushed(frame: ProtectedFrame, url: str = url) -> FrameSink:
                return PushSink(url, rate, (frame.width, frame.height), pixel_aspect=aspect)

            sinks.append(self._detached(f"push {number}", pushed))
        return FanOut([*sinks, *others])

    @contextlib.contextmanager
    def kept_tidy(self) -> Iterator[None]:
        """Within it, recordings go when their time has come, even while the camera sends nothing."""
        ended = threading.Event()
        janitor = threading.Thread(target=self._tidy, args=(ended,), name=f"retention {self._name}", daemon=True)
        janitor.start()
        try:
            yield
        finally:
            ended.set()
            janitor.join()
            if self._shelf is not None:
                self._shelf.close()

    def _detached(self, output: str, open_sink: Callable[[ProtectedFrame], FrameSink]) -> DetachedSink:
        report = self.reports.setdefault(output, OutputReport())
        counts = _Counts(self._name, output, report, self._telemetry, self._say)
        return DetachedSink(f"{self._name}: {output}", open_sink, counts, patient=self._camera.unhurried)

    def _tidy(self, ended: threading.Event) -> None:
        while self._shelf is not None:
            try:
                self._shelf.tidy()
            except PrivsegError as error:
                self._say(f"{self._name}: recordings are kept too long: {error}")
            if ended.wait(_TIDY_SECONDS):
                return
