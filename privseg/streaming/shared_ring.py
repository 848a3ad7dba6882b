"""The regions of one camera, registered with its server: which are free, which are lent, which wait for a late answer.

A region is used again only when the server is known to be done with it. It is known by the server's own answer, right
or wrong. A frame whose deadline passed leaves its region in quarantine until that answer comes; where the connection
broke, or none comes for long, the region is let go with its memory, and another is made: what the server may still
write then lands where nobody looks.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from privseg.privacy.frames import Withheld
from privseg.streaming.server_health import ServerFault
from privseg.streaming.shared_region import PREFIX, SharedRegion, stale_regions
from privseg.streaming.triton_calls import Call

__all__ = ["NoRegionFreeError", "Ring"]

_CALL_SECONDS: Final = 1.0
_QUARANTINE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 1.0
# A server that shared no memory is asked for it again this much later; it may have been starting.
_AGAIN_SECONDS: Final = 60.0


class NoRegionFreeError(Exception):
    """Every region waits for a late answer."""


@dataclass(slots=True, eq=False)
class _Slot:
    region: SharedRegion
    lent: float = field(default_factory=time.monotonic)
    call: Call | None = None
    waited_for: bool = True


class Ring:
    """Up to ``count`` regions.

    Args:
        stub: To register them with.
        headers: Sent with every call.
        find_directory: Where the server sees them, now; None where it shares no memory now.
        count: How many frames may be in flight.
    """

    def __init__(
        self,
        stub: service_pb2_grpc.GRPCInferenceServiceStub,
        headers: Mapping[str, str],
        find_directory: Callable[[], Path | None],
        count: int,
    ) -> None:
        self._stub = stub
        self._metadata = tuple(headers.items())
        self._find_directory = find_directory
        self._count = count
        self._directory: Path | None = None
        self._free: list[SharedRegion] = []
        self._slots: dict[SharedRegion, _Slot] = {}
        self._left: list[str] = []  # names that the server may still know
        self._again_at = 0.0
        self._why_not = ""
        self._told = ""

    def lend(self, image: npt.NDArray[np.uint8]) -> SharedRegion | None:
        """Return a registered region that holds ``image``; None where there is no shared memory with this server.

        Raises:
            NoRegionFreeError: All of them wait for late answers.
            ServerFault: The server is gone.
        """
        self._end_quarantines()
        if time.monotonic() < self._again_at:
            return None
        pixels = image.size // 3
        region = next((region for region in self._free if region.pixels >= pixels), None)
        if region is not None:
            self._free.remove(region)
        elif len(self._slots) >= self._count:
            raise NoRegionFreeError
        else:
            if self._free and len(self._slots) + len(self._free) >= self._count:
                self._drop(self._free.pop())  # too small: pictures became larger
            region = self._make(pixels)
        if region is not None:
            region.write(image)
            self._slots[region] = _Slot(region)
        return region

    def asked(self, region: SharedRegion, call: Call) -> None:
        """Note the call that uses a lent region."""
        if region in self._slots:
            self._slots[region].call = call

    def give_back(self, region: SharedRegion, fault: ServerFault | None = None) -> None:
        """Take back a region whose call has ended: with an answer, or with ``fault``."""
        if self._slots.pop(region, None) is None:  # let go meanwhile
            return
        if fault is None or fault.final:
            self._free.append(region)
        else:
            self._drop(region)

    def quarantine(self, region: SharedRegion) -> None:
        """Nobody waits for the answer in this region any more; the server may still write it."""
        if region in self._slots:
            self._slots[region].waited_for = False

    def lost(self) -> None:
        """Let go of everything: the server is gone, or no longer knows our regions."""
        for region in [*self._free, *self._slots]:
            self._drop(region)
        self._free.clear()
        self._slots.clear()
        self._directory = None
        self._again_at = 0.0

    def tell(self) -> None:
        """Say, once, why a frame was answered without shared memory."""
        if self._why_not != self._told:
            self._told = self._why_not
            print(f"no shared memory with Triton ({self._told}): frames go through gRPC", file=sys.stderr, flush=True)

    def close(self, *, server_gone: bool) -> None:
        """Let go of everything and tell the server, once it is done with what is in flight or a second has passed."""
        if not server_gone:
            calls = [slot.call.future for slot in self._slots.values() if slot.call is not None]
            wait(calls, timeout=_CLOSE_SECONDS)
        self.lost()
        if not server_gone:
            self._forget()

    def _end_quarantines(self) -> None:
        for slot in [slot for slot in self._slots.values() if not slot.waited_for]:
            if slot.call is not None and slot.call.future.done():
                error = slot.call.future.exception()
                self.give_back(slot.region, error if isinstance(error, ServerFault) else None)
            elif time.monotonic() - slot.lent > _QUARANTINE_SECONDS:
                if slot.call is not None:
                    slot.call.cancel()
                del self._slots[slot.region]
                self._drop(slot.region)

    def _make(self, pixels: int) -> SharedRegion | None:
        """Make and register a region; None where that is impossible."""
        directory = self._directory or self._find_directory()
        if directory is None:
            self._without("the server's /dev/shm cannot be found")
            return None
        try:
            region = SharedRegion(directory, pixels)
        except OSError as error:
            self._without(f"{directory}: {error.strerror}")
            return None
        try:
            named = service_pb2.SystemSharedMemoryRegisterRequest(
                name=region.name, key=region.name, byte_size=region.size
            )
            self._call(self._stub.SystemSharedMemoryRegister, named)
        except ServerFault as fault:
            region.remove()
            if fault.reason in {Withheld.SERVER_GONE, Withheld.LATE}:
                self._left.append(region.name)
                raise
            self._without(fault.message)
            return None
        if self._directory is None:  # now it is known to be the server's own
            self._directory = directory
            self._sweep(directory)
        self._forget()
        return region

    def _without(self, why: str) -> None:
        """Go on without shared memory until the server is another one, or a while has passed."""
        self._again_at = time.monotonic() + _AGAIN_SECONDS
        self._why_not = why

    def _drop(self, region: SharedRegion) -> None:
        region.remove()
        self._left.append(region.name)

    def _forget(self) -> None:
        """Have the server let go of regions we let go of; one that it still uses is tried again another time."""
        for name in self._left[:]:
            try:
                named = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
                self._call(self._stub.SystemSharedMemoryUnregister, named)
            except ServerFault as fault:
                if not fault.final:
                    return
            else:
                self._left.remove(name)

    def _sweep(self, directory: Path) -> None:
        """Remove what killed clients left: their files, and what the server still knows of them."""
        stale_regions(directory, self._left.append)
        with contextlib.suppress(ServerFault):
            known = self._call(self._stub.SystemSharedMemoryStatus, service_pb2.SystemSharedMemoryStatusRequest())
            names = [name for name in known.regions if name.startswith(PREFIX) and not (directory / name).exists()]
            self._left.extend(set(names) - set(self._left))

    def _call(self, method: Callable[..., Any], request: object) -> Any:
        try:
            return method(request, timeout=_CALL_SECONDS, metadata=self._metadata)
        except grpc.RpcError as error:
            raise ServerFault.from_call(error) from None
