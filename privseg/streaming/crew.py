"""The cameras at work, each in a thread of its own, and going over from one configuration to another."""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from privseg.errors import PrivsegError
from privseg.streaming.address import redact
from privseg.streaming.camera import run_camera
from privseg.streaming.config import GatewayConfig
from privseg.streaming.outputs.opening import Outputs, output_names
from privseg.streaming.plan import Plan, plans_of
from privseg.streaming.report import CameraReport, method_line
from privseg.streaming.segmenter import SegmenterBackend
from privseg.streaming.sinks import FrameSink
from privseg.streaming.sources import open_source
from privseg.streaming.telemetry import Telemetry

if TYPE_CHECKING:
    from privseg.streaming.live.page import LivePage, Shown

__all__ = ["Crew", "shown"]

_JOIN_SECONDS: Final = 0.2
# What every camera is built with: where one of these changes, all cameras start anew.
_SHARED: Final = ("triton", "policy", "carry", "profile", "keys", "local")


@dataclass(slots=True)
class _Worker:
    """One camera at work."""

    plan: Plan
    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)


class Crew:
    """The cameras at work; its methods are for one thread. See :func:`privseg.streaming.gateway.run_gateway`."""

    def __init__(
        self,
        config: GatewayConfig,
        telemetry: Telemetry,
        open_segmenter: Callable[[GatewayConfig], SegmenterBackend],
        progress: Callable[[CameraReport], None] | None,
        say: Callable[[str], None],
        page: LivePage | None,
    ) -> None:
        self.config = config
        self.reports: dict[str, CameraReport] = {}
        self._telemetry = telemetry
        self._open_segmenter = open_segmenter
        self._progress = progress
        self._say = say
        self._page = page
        self._workers: dict[str, _Worker] = {}

    @property
    def at_work(self) -> bool:
        """Whether any camera has not ended."""
        return any(worker.thread.is_alive() for worker in self._workers.values())

    def start(self, plans: dict[str, Plan]) -> None:
        """Let cameras begin."""
        for name, plan in plans.items():
            self._say(method_line(name, plan.method, self.config.profile, plan.camera.allow_obfuscation))
        for name, plan in plans.items():
            stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(name, plan, stop), name=f"camera {name}")
            self._workers[name] = _Worker(plan, thread, stop)
            thread.start()

    def change(self, config: GatewayConfig) -> None:
        """Go over to another configuration; one that cannot work changes nothing."""
        try:
            plans = plans_of(config)
        except PrivsegError as error:
            self._say(f"the configuration stays as it is: {error}")
            return
        if (config.metrics, config.live) != (self.config.metrics, self.config.live):
            self._say("metrics and live stay as they are until the gateway is started anew")
            config = config.model_copy(update={"metrics": self.config.metrics, "live": self.config.live})
        all_anew = any(getattr(config, name) != getattr(self.config, name) for name in _SHARED)
        kept = {
            name for name, worker in self._workers.items()
            if name in plans and plans[name].camera == worker.plan.camera and not all_anew and worker.thread.is_alive()
        }  # fmt: skip
        self.config = config
        self._end([name for name in self._workers if name not in kept])
        for name in [name for name in self._workers if name not in plans]:
            del self._workers[name]
            self._telemetry.forget(name)
            if self._page is not None:
                self._page.forget(name)
        begun = {name: plan for name, plan in plans.items() if name not in kept}
        if self._page is not None:
            for name, plan in begun.items():
                self._page.show(name, shown(plan))
        self.start(begun)
        self._say(f"the configuration was read again: {len(begun)} cameras begun, {len(kept)} left as they were")

    def end(self) -> None:
        """End all cameras, and wait until they have."""
        self._end(list(self._workers))

    def _end(self, names: list[str]) -> None:
        workers = [self._workers[name] for name in names]
        for worker in workers:
            worker.stop.set()
        for worker in workers:
            while worker.thread.is_alive():  # in slices, so that the main thread can still handle a signal
                worker.thread.join(_JOIN_SECONDS)

    def _run(self, name: str, plan: Plan, stop: threading.Event) -> None:
        report = self._run_one(name, plan, stop)
        self.reports[name] = report
        if self._progress:
            self._progress(report)

    def _run_one(self, name: str, plan: Plan, stop: threading.Event) -> CameraReport:
        """Run one camera to its end, whatever that is; never raises."""
        camera, method, config = plan.camera, plan.method, self.config
        uri = camera.source.get_secret_value()
        written = ", ".join(output_names(camera, plan.out))
        outputs: Outputs | None = None
        try:
            outputs = Outputs(name, camera, plan.out, self._telemetry, self._say, lossless=method.lossless)

            def open_sink(width: int, height: int, rate: Fraction, aspect: Fraction) -> FrameSink:
                page = [self._page.sink(name)] if self._page is not None else []
                return outputs.open((width, height), rate, aspect, *page)

            with outputs.kept_tidy(), contextlib.closing(self._open_segmenter(config)) as segmenter:
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
                    output=written,
                    telemetry=self._telemetry,
                    policy=config.policy,
                    zones=camera.zones,
                    long_side=config.triton.long_side,
                    schedule=camera.schedule,
                    carry=config.carry,
                    max_frames=camera.max_frames,
                    reconnect=True,
                    methods=plan.chosen,
                    stop=stop,
                    progress=self._progress,
                    say=self._say,
                )
        except Exception as error:
            report = CameraReport(
                camera=name,
                source=redact(uri),
                output=written,
                method=method.name,
                method_params=method.params.model_dump(),
                privacy_class=method.privacy_class,
            ).ended_by(error)
        if report.error is not None:
            self._telemetry.lost(name)
            if not isinstance(report.error, PrivsegError):
                trace = "".join(traceback.format_exception(report.error))
                print(trace.replace(uri, redact(uri)), file=sys.stderr, flush=True)
        circumstances = {
            "purpose": camera.purpose,
            "retention_hours": camera.retention_hours,
            "profile": config.profile,
            "obfuscation_allowed": camera.allow_obfuscation,
            "outputs": outputs.reports if outputs is not None else {},
        }
        return report.model_copy(update=circumstances)


def shown(plan: Plan) -> Shown:
    """What the live page needs of a plan."""
    from privseg.streaming.live.page import Shown

    return Shown(plan.camera.purpose, plan.method, plan.switchable, plan.chosen)
