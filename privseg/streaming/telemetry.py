"""What the gateway tells Prometheus. Labels come from the configuration alone: never a URL, never a person."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread
from typing import Final, Literal
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server

from privseg.errors import ServerUnavailableError
from privseg.privacy.filters.base import Method
from privseg.privacy.frames import ProtectedFrame
from privseg.streaming.places import write_whole

__all__ = ["MetricsServer", "Telemetry"]

Stage = Literal["decode", "compare", "segment", "carry", "protect", "encode"]

#: upper bounds in seconds, on the budgets of a frame at 200 to 1 frames a second
BUCKETS: Final = (0.005, 0.01, 0.02, 0.033, 0.05, 0.066, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


class MetricsServer:
    """A running ``/metrics`` endpoint; close it to free the port."""

    def __init__(self, server: WSGIServer, thread: Thread) -> None:
        self._server = server
        self._thread = thread
        #: where to scrape
        self.url = f"http://{server.server_address[0]!s}:{server.server_port}/metrics"

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Telemetry:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._frames = Counter(
            "privseg_frames", "Frames by what became of them.", ["camera", "outcome"], registry=registry
        )
        self._raw = Counter(
            "privseg_raw_frames_published", "Frames that left without protection; must stay 0.", registry=registry
        )
        self._stages = Histogram(
            "privseg_stage_seconds", "Time a frame spends in a stage.", ["camera", "stage"],
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._age = Histogram(
            "privseg_mask_age_seconds", "Time from decoding the frame that the model saw to leaving covered by it.",
            ["camera"], buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._glass = Histogram(
            "privseg_glass_to_glass_seconds", "Time from decoding a frame to its leaving.",
            ["camera"], buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._asked = Counter(
            "privseg_inferences", "Frames that the model was asked about.", ["camera"], registry=registry
        )
        self._people = Gauge(
            "privseg_people", "Separate covered areas of the last protected frame.", ["camera"], registry=registry
        )
        self._stalls = Counter(
            "privseg_stalls", "Times a camera that sent nothing was given up and opened again.", ["camera"],
            registry=registry,
        )  # fmt: skip
        self._ratio = Gauge(
            "privseg_person_pixel_ratio", "Covered share of the last protected frame.", ["camera"], registry=registry
        )
        self._reconnects = Counter(
            "privseg_reconnects", "Times a lost camera was opened again.", ["camera"], registry=registry
        )
        self._degraded = Gauge(
            "privseg_degraded", "1 while frames are withheld or the camera is lost.", ["camera"], registry=registry
        )
        self._model = Gauge(
            "privseg_model_info", "1 for the model version that answers.", ["model", "version"], registry=registry
        )
        self._method = Gauge(
            "privseg_method_info", "1 for the method that covers people.", ["camera", "method", "privacy_class"],
            registry=registry,
        )  # fmt: skip

        self._outputs = Counter(
            "privseg_output_frames", "Frames by what an output made of them.", ["camera", "output", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._output_faults = Counter(
            "privseg_output_faults", "Times an output broke; it is opened again.", ["camera", "output"],
            registry=registry,
        )  # fmt: skip

    def register(self, camera: str, method: Method) -> None:
        """Show a camera's series from the start, at 0: a rate over a series that appears late misses its start."""
        for outcome in ("protected", "blanked", "dropped"):
            self._frames.labels(camera, outcome)
        for counter in (self._reconnects, self._asked, self._stalls):
            counter.labels(camera)
        self._degraded.labels(camera).set(0)
        self.set_method(camera, method)

    def set_method(self, camera: str, method: Method) -> None:
        """Name the method that covers people now."""
        self._method.remove_by_labels({"camera": camera})
        self._method.labels(camera, method.name, method.privacy_class).set(1)

    def forget(self, camera: str) -> None:
        """Show a camera's series no more; it is gone from the configuration."""
        for metric in (
            self._frames, self._stages, self._age, self._glass, self._asked, self._people, self._stalls, self._ratio,
            self._reconnects, self._degraded, self._method, self._outputs, self._output_faults,
        ):  # fmt: skip
            metric.remove_by_labels({"camera": camera})

    def output(self, camera: str, output: str, outcome: Literal["written", "lost"]) -> None:
        """Count a frame that an output was handed."""
        self._outputs.labels(camera, output, outcome).inc()

    def output_failed(self, camera: str, output: str) -> None:
        """An output broke."""
        self._output_faults.labels(camera, output).inc()

    def published(self, camera: str, frame: object) -> None:
        """Count what a sink took, by what it is, independently of the sink's own refusal of anything raw."""
        if type(frame) is not ProtectedFrame:
            self._raw.inc()
            return
        if frame.withheld is None:
            self._frames.labels(camera, "protected").inc()
            self._ratio.labels(camera).set(frame.person_ratio)
            self._people.labels(camera).set(frame.people)
            underway = time.monotonic() - frame.captured
            self._glass.labels(camera).observe(underway)
            self._age.labels(camera).observe(underway + frame.mask_age)
        else:
            self._frames.labels(camera, "blanked").inc()
        self._degraded.labels(camera).set(frame.withheld is not None)

    def dropped(self, camera: str, count: int = 1) -> None:
        """Count live frames that a newer one replaced before the model was asked."""
        self._frames.labels(camera, "dropped").inc(count)

    def observe_stage(self, camera: str, stage: Stage, seconds: float) -> None:
        """Record what one frame took in one stage."""
        self._stages.labels(camera, stage).observe(seconds)

    def asked(self, camera: str) -> None:
        """Count a frame that the model was asked about."""
        self._asked.labels(camera).inc()

    def stalled(self, camera: str) -> None:
        """The camera sent nothing for so long that it was given up."""
        self._stalls.labels(camera).inc()

    def lost(self, camera: str) -> None:
        """The camera's connection is gone."""
        self._degraded.labels(camera).set(1)

    def reconnected(self, camera: str) -> None:
        """A lost camera was opened again."""
        self._reconnects.labels(camera).inc()

    def set_model(self, model: str, version: str) -> None:
        """Name the version that answers now."""
        self._model.clear()
        self._model.labels(model, version).set(1)

    def write(self, path: Path) -> None:
        """Write all metrics as Prometheus reads them, whole or not at all. Raises StorageError."""
        write_whole(path, generate_latest(self.registry))

    def serve(self, port: int, address: str = "127.0.0.1") -> MetricsServer:
        """Serve ``/metrics``; port 0 takes a free one.

        Raises:
            ServerUnavailableError: The port is taken or the address is not ours.
        """
        try:
            server, thread = start_http_server(port, address, self.registry)
        except OSError as error:
            fault = f"cannot serve metrics ({error.strerror})"
            raise ServerUnavailableError(f"{address}:{port}", fault, "choose another metrics port") from None
        return MetricsServer(server, thread)
