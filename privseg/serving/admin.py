"""What a publisher asks of one running Triton, over gRPC, with errors sorted into privseg's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from privseg.errors import GateFailedError, ServerUnavailableError, UsageError
from privseg.serving.access import Access
from privseg.serving.artifact import INPUT_NAME, MODEL_NAME, OUTPUT_NAME
from privseg.triton_channel import channel_credentials, name_options, stays_here

__all__ = ["Endpoint", "Requests"]

_LOAD_SECONDS: Final = 300.0  # a TensorRT engine may be built at the first load
_ANSWER_SECONDS: Final = 60.0
# A server that encrypts, or asks for another certificate, says no more than this to who does not know.
_ENCRYPTION: Final = ("ssl", "certificate", "handshake", "verification", "socket closed", "connection reset")
_UNREACHABLE: Final = ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED", "StatusCode.CANCELLED")

# A replica is asked directly, whatever proxy the environment names. Naming any argument drops the client's defaults,
# so the message sizes are opened again.
_CHANNEL: Final = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Requests:
    """What became of the requests for one version.

    Attributes:
        answered: Requests that the model answered; Triton counts those among them that the local backend refused.
        failed: Requests that did not get through to an answer.
    """

    answered: int
    failed: int


class Endpoint:
    """One Triton server (a replica), addressed directly: a load reaches only the server it is sent to.

    Args:
        url: ``host:port`` of its gRPC service.
        access: How it is spoken to.

    Raises:
        UsageError: The admin key would go to another machine in clear; or a file of ``access`` cannot be read.
    """

    def __init__(self, url: str, access: Access | None = None) -> None:
        self.url = url
        #: how it is spoken to
        self.access = access = access or Access()
        self._headers = access.headers or None
        if access.tls is None and access.admin_key and not (access.insecure or stays_here(url)):
            fault = "is another machine, and the admin key would go there in clear"
            next_step = "set PRIVSEG_TRITON_TLS=1, or PRIVSEG_TRITON_INSECURE=1 where the network itself protects it"
            raise UsageError(f"Triton at {url}", fault, next_step)
        credentials = channel_credentials(access.tls) if access.tls else None
        options = [*_CHANNEL, *name_options(access.tls)]
        self._client = InferenceServerClient(url, creds=credentials, channel_args=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def require_live(self) -> None:
        """Raise ServerUnavailableError unless the server answers."""
        if not self._ask(lambda: self._client.is_server_live(headers=self._headers, client_timeout=5.0)):
            raise ServerUnavailableError(self.url, "Triton is not live", "run `privseg triton status`")

    def load(self) -> None:
        """Load the newest version over the one that serves; the old one answers until the new one is ready.

        Raises:
            GateFailedError: The server refuses the model; it goes on serving what it served.
            ServerUnavailableError: The server cannot be reached or wants another admin key.
        """
        self._ask(lambda: self._client.load_model(MODEL_NAME, headers=self._headers, client_timeout=_LOAD_SECONDS))

    def unload(self) -> None:
        """Stop serving the model: only for a server that has no good version to go back to."""
        self._ask(lambda: self._client.unload_model(MODEL_NAME, headers=self._headers, client_timeout=_ANSWER_SECONDS))

    def serves(self, version: int) -> bool:
        """Return whether that version is ready."""
        return bool(
            self._ask(
                lambda: self._client.is_model_ready(
                    MODEL_NAME, str(version), headers=self._headers, client_timeout=_ANSWER_SECONDS
                )
            )
        )

    def statistics(self) -> dict[int, Requests]:
        """Count what the server was asked since it loaded each version.

        Of a version that it loads for the first time, that is ``nv_inference_request_*`` of its metrics, which go on
        counting when a version comes back. A server that has none loaded returns an empty dict.

        Raises:
            ServerUnavailableError: The server cannot be reached.
        """
        try:
            found: Any = self._ask(
                lambda: self._client.get_inference_statistics(
                    MODEL_NAME, headers=self._headers, client_timeout=_ANSWER_SECONDS
                )
            )
        except GateFailedError as error:
            if "is not available" in error.fault or "unknown model" in error.fault:
                return {}
            raise
        return {
            int(entry.version): Requests(entry.inference_stats.success.count, entry.inference_stats.fail.count)
            for entry in found.model_stats
        }

    def infer(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int]:
        """Ask for a segmentation as a client does, without naming a version.

        Args:
            images: uint8 ``[N,H,W,3]``, RGB, H and W multiples of 32.

        Returns:
            uint8 ``[N,H,W]``, probability × 255, and the version that answered.

        Raises:
            GateFailedError: The server refuses the request.
            ServerUnavailableError: The server cannot be reached.
        """
        image = InferInput(INPUT_NAME, list(images.shape), "UINT8")
        image.set_data_from_numpy(images)
        result: Any = self._ask(
            lambda: self._client.infer(MODEL_NAME, [image], headers=self._headers, client_timeout=_ANSWER_SECONDS)
        )
        return np.asarray(result.as_numpy(OUTPUT_NAME), np.uint8), int(result.get_response().model_version)

    def _ask(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except InferenceServerException as error:
            message = error.message() or str(error)
            if "protocol is restricted" in message:  # Triton answers UNAVAILABLE to a wrong key
                fault = "refuses model control without its admin key"
                raise ServerUnavailableError(self.url, fault, "give the server's admin key") from None
            if error.status() in _UNREACHABLE:
                fault, next_step = f"Triton does not answer ({message})", "run `privseg triton status`, start it, retry"
                if any(word in message.lower() for word in _ENCRYPTION):
                    next_step = "check PRIVSEG_TRITON_TLS and the certificates beside it, then the server's log"
                raise ServerUnavailableError(self.url, fault, next_step) from None
            raise GateFailedError(self.url, f"Triton refuses ({message})", "read the server's log") from None
