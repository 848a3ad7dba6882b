"""What a server's refusal means, and when a server that is gone is asked again.

One gRPC status hides several faults: Triton says UNAVAILABLE for a full queue, for a request that waited too long in
it, for a wrong key and for a model it has not, as well as when it is dead. Only a dead server is worth a pause before
it is asked again, so the message decides too.
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

from privseg.privacy.frames import Withheld

__all__ = ["ServerFault", "ServerHealth"]

_FIRST_PROBE_SECONDS: Final = 0.25
_LAST_PROBE_SECONDS: Final = 2.0
# So many late answers in a row and the server is taken for dead.
_LATE_LIMIT: Final = 3

_FULL: Final = ("maximum queue size", "timeout expired")
_ANSWERED: Final = ("unknown model", "not ready", "not found", "restricted", "unload", "unable to find shared memory")
_REGION_LOST: Final = "unable to find shared memory region"
# A stream that ended says it in no status.
_ENDED: Final = "the server ended the stream"


class ServerFault(Exception):  # noqa: N818 - carries what a server said; it is judged here and never leaves the room
    """A call to Triton failed.

    Args:
        status: Name of the gRPC status, as ``UNAVAILABLE``; empty where a stream's message carries none.
        message: What the server, or gRPC, says.
    """

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        self.message = " ".join(message.split())[:300]
        super().__init__(f"{status}: {self.message}" if status else self.message)
        text = self.message.lower()
        #: the server no longer knows a region: it was restarted
        self.region_lost = _REGION_LOST in text
        #: what the frame's slate says
        self.reason = self._reason(text)
        #: the server is done with the request, and will write nothing for it any more
        self.final = status not in {"CANCELLED", "UNKNOWN"} and self.reason not in {
            Withheld.LATE,
            Withheld.SERVER_GONE,
        }

    @classmethod
    def from_call(cls, error: Any) -> ServerFault:
        """Translate the ``grpc.RpcError`` that a call ended with."""
        return cls(error.code().name, error.details() or "")

    @classmethod
    def cancelled(cls) -> ServerFault:
        """We gave the call up; the server may still be at it."""
        return cls("CANCELLED", "given up")

    @classmethod
    def ended(cls) -> ServerFault:
        """A stream that the server closed without a fault, as it does when it shuts down."""
        return cls("", _ENDED)

    def _reason(self, text: str) -> Withheld:
        if self.status == "DEADLINE_EXCEEDED":
            return Withheld.LATE
        if self.status == "RESOURCE_EXHAUSTED" or any(words in text for words in _FULL):
            return Withheld.OVERLOADED
        if text == _ENDED or (self.status == "UNAVAILABLE" and not any(words in text for words in _ANSWERED)):
            return Withheld.SERVER_GONE
        return Withheld.NO_ANSWER


class ServerHealth:
    """Whether a server is worth asking. While it is gone, one frame now and then probes it; the others do not wait.

    The pauses between probes double from a quarter of a second to two seconds, each shortened by chance up to a half,
    so that many clients do not come back in step.
    """

    def __init__(self) -> None:
        self.gone = False
        self._late = 0
        self._probes = 0
        self._probe_at = 0.0

    def may_ask(self) -> bool:
        """Return whether to ask now; True for a server that is gone makes the caller its probe."""
        if not self.gone:
            return True
        if time.monotonic() < self._probe_at:
            return False
        self._pause()
        return True

    def answered(self) -> None:
        """Note that the server answered."""
        self.gone, self._late, self._probes = False, 0, 0

    def late(self) -> None:
        """Note an answer that did not come in time."""
        self._late += 1
        if self._late >= _LATE_LIMIT:
            self.lost()

    def lost(self) -> None:
        """Note that the server is gone."""
        if not self.gone:
            self.gone = True
            self._pause()

    def _pause(self) -> None:
        longest = min(_FIRST_PROBE_SECONDS * 2**self._probes, _LAST_PROBE_SECONDS)
        self._probes = min(self._probes + 1, 8)
        self._probe_at = time.monotonic() + random.uniform(longest / 2, longest)  # noqa: S311 - no secret
