"""Several cameras at once, each in a thread of its own: what befalls one never touches another."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privseg.errors import PrivsegError, UsageError
from privseg.streaming.backends import configured_backend
from privseg.streaming.config import GatewayConfig, load_config
from privseg.streaming.crew import Crew, shown
from privseg.streaming.log import LogFormat, printer
from privseg.streaming.plan import Plan, plans_of
from privseg.streaming.process import (
    forbid_core_dumps,
    keep_freed_memory,
    one_thread_an_operation,
    stop_on_signals,
)
from privseg.streaming.report import CameraReport
from privseg.streaming.segmenter import SegmenterBackend
from privseg.streaming.telemetry import Telemetry

if TYPE_CHECKING:
    from privseg.streaming.live.page import LivePage

__all__ = ["run_gateway", "run_until_stopped"]

_LOOK_SECONDS: Final = 0.2


def run_gateway(
    config: GatewayConfig,
    stop: threading.Event | None = None,
    *,
    telemetry: Telemetry | None = None,
    open_segmenter: Callable[[GatewayConfig], SegmenterBackend] | None = None,
    progress: Callable[[CameraReport], None] | None = None,
    say: Callable[[str], None] | None = None,
    reload: Callable[[], GatewayConfig | None] | None = None,
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
            camera or an output is lost, once a minute while a camera is, and when it is back.
        reload: Asked a few times a second for another configuration, and for None while there is none. Cameras that
            it leaves as they are go on undisturbed. One that cannot work is told by ``say`` and changes nothing.

    Returns:
        One report a camera; ``fault`` tells what ended it, if anything did. A recording is kept in any case.

    Raises:
        UsageError: A method, one of its parameters, the key ring or an output is wrong, or an output is another
            camera's output or a source; no camera was started.
        ServerUnavailableError: The metrics port or the live page's is taken; no camera was started.
    """
    stop = stop or threading.Event()
    telemetry = telemetry or Telemetry()
    say = say or (lambda _line: None)
    plans = plans_of(config)
    server = telemetry.serve(config.metrics.port, config.metrics.address)
    with contextlib.ExitStack() as stack:
        stack.callback(server.close)
        page = _open_page(config, plans)
        if page is not None:
            stack.callback(page.close)
            say(f"live page on {page.url}")
        crew = Crew(config, telemetry, open_segmenter or configured_backend, progress, say, page)
        try:
            crew.start(plans)
            while crew.at_work and not stop.wait(_LOOK_SECONDS):
                changed = reload() if reload else None
                if changed is not None:
                    crew.change(changed)
        finally:
            crew.end()
    return {name: crew.reports[name] for name in crew.config.cameras if name in crew.reports}


def run_until_stopped(
    config: GatewayConfig,
    on_reports: Callable[[dict[str, dict[str, Any]]], None] | None = None,
    *,
    path: Path | None = None,
    log: LogFormat = LogFormat.TEXT,
) -> dict[str, dict[str, Any]]:
    """Run the gateway until SIGINT or SIGTERM, telling its state on stderr; for the main thread.

    Args:
        config: See :mod:`privseg.streaming.config`.
        on_reports: Takes what is returned, before a camera's error is raised.
        path: The file it was read from; SIGHUP has it read again.
        log: How lines on stderr look.

    Returns:
        One report a camera, as plain data.

    Raises:
        PrivsegError: As :func:`run_gateway`.
        Exception: What ended the first camera, in the order of the configuration, that did not get through.
    """
    forbid_core_dumps()
    keep_freed_memory()
    one_thread_an_operation()
    stop, hung_up = threading.Event(), threading.Event()
    say = printer(log, sys.stderr)

    def tell(report: CameraReport) -> None:
        say(f"{report.progress_line()}; ended: {report.fault}" if report.fault else report.progress_line())

    def reload() -> GatewayConfig | None:
        if path is None or not hung_up.is_set():
            return None
        hung_up.clear()
        try:
            return load_config(path)
        except PrivsegError as error:
            say(f"the configuration stays as it is: {error}")
            return None

    with stop_on_signals(stop), _told_of_hangups(hung_up, path is not None):
        reports = run_gateway(config, stop, progress=tell, say=say, reload=reload)
    plain = {name: report.model_dump(mode="json") for name, report in reports.items()}
    if on_reports:
        on_reports(plain)
    error = next((report.error for report in reports.values() if report.error is not None), None)
    if error is not None:
        raise error
    return plain


def _open_page(config: GatewayConfig, plans: dict[str, Plan]) -> LivePage | None:
    """The live page, if it is asked for; the client alone can do without what serves it."""
    if config.live is None:
        return None
    try:
        from privseg.streaming.live.page import LivePage
    except ImportError as error:
        raise UsageError("live", f"needs {error.name}", "pip install 'privseg[live]', or leave out live") from None
    return LivePage(config.live, {name: shown(plan) for name, plan in plans.items()})


@contextlib.contextmanager
def _told_of_hangups(hung_up: threading.Event, wanted: bool) -> Iterator[None]:
    """Within it, SIGHUP sets ``hung_up``; where it is not wanted, or off the main thread, nothing changes."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: hung_up.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
