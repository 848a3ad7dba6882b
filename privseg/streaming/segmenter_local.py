"""The person model in this process, with ONNX Runtime: no server, for one recording on one machine."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from privseg.errors import GateFailedError, UsageError
from privseg.privacy.frames import Withheld
from privseg.streaming.segmenter import IMAGE, MODEL_NAME, PERSON, Answer, NoAnswer, check_image

__all__ = ["LocalSegmenter"]

_NEXT: Final = "run `privseg model list`, or publish the model again"


@dataclass(frozen=True, slots=True)
class _Asked:
    future: Future[Any]
    deadline: float
    size: tuple[int, int]


class LocalSegmenter:
    """The person model of one version directory, in a thread of this process.

    Args:
        directory: Holds ``model.onnx`` and ``model.json``; the latter records the SHA-256 of the former.
        model: Its name, for metrics.
        deadline_seconds: What one answer may take, the wait for those before it included.
        max_in_flight: Frames asked for before the first is collected.
        threads: Processor cores that ONNX Runtime may use.

    Raises:
        GateFailedError: A file is missing, the two do not belong together, or it is no such model.
        UsageError: ONNX Runtime is not installed.
    """

    def __init__(
        self,
        directory: Path,
        model: str = MODEL_NAME,
        *,
        deadline_seconds: float = 10.0,
        max_in_flight: int = 3,
        threads: int = 2,
    ) -> None:
        self.model = model
        self.max_in_flight = max_in_flight
        self._deadline = deadline_seconds
        content, sha256 = _read_verified(directory)
        self._version = directory.name if directory.name.isdigit() else sha256[:12]
        self._session = _load(content, directory, threads)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="onnx runtime")
        self._asked: dict[int, _Asked] = {}
        self._left: list[Future[Any]] = []
        self._closed = False

    def check_ready(self) -> None:
        """Nothing to find out: a model that loaded is ready."""

    def submit(self, sequence: int, image: npt.NDArray[np.uint8]) -> None:
        """Ask about one frame; see :class:`privseg.streaming.segmenter.SegmenterBackend`."""
        size = check_image(image)
        if self._closed or sequence in self._asked:
            raise NoAnswer(Withheld.ERROR, "closed" if self._closed else f"frame {sequence} was asked about before")
        # Work whose frame gave up still occupies the processor.
        self._left = [future for future in self._left if not future.done()]
        if len(self._asked) + len(self._left) >= self.max_in_flight:
            raise NoAnswer(Withheld.OVERLOADED)
        deadline = time.monotonic() + self._deadline
        future = self._worker.submit(self._session.run, [PERSON], {IMAGE: image.copy()})
        self._asked[sequence] = _Asked(future, deadline, size)

    def result(self, sequence: int) -> Answer:
        """Wait for the answer about one frame; see :class:`privseg.streaming.segmenter.SegmenterBackend`."""
        asked = self._asked.pop(sequence, None)
        if asked is None:
            raise NoAnswer(Withheld.NO_ANSWER, f"frame {sequence} was not asked about")
        try:
            (person,) = asked.future.result(max(asked.deadline - time.monotonic(), 0))
        except (TimeoutError, CancelledError):
            if not asked.future.cancel():
                self._left.append(asked.future)
            raise NoAnswer(Withheld.LATE) from None
        except Exception as error:  # ONNX Runtime's errors share no narrower base
            raise NoAnswer(Withheld.NO_ANSWER, " ".join(str(error).split())[:300]) from None
        if person.dtype != np.uint8 or person.shape != (1, *asked.size):
            raise NoAnswer(Withheld.WRONG_ANSWER, f"{PERSON} is {person.dtype} {person.shape}")
        return Answer(sequence, person[0], self._version)

    def close(self) -> None:
        """Wait for the frame that is being computed, and give up the others."""
        self._closed = True
        self._asked.clear()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_verified(directory: Path) -> tuple[bytes, str]:
    """The bytes of ``model.onnx`` and their SHA-256, if it is the one that ``model.json`` records."""
    try:
        content = (directory / "model.onnx").read_bytes()
        record = json.loads((directory / "model.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise GateFailedError(error.filename, f"cannot be read ({error.strerror})", _NEXT) from None
    except ValueError as error:
        raise GateFailedError(directory / "model.json", f"is not valid JSON ({error})", _NEXT) from None
    sha256 = hashlib.sha256(content).hexdigest()
    recorded = record.get("sha256") if isinstance(record, dict) else None
    if recorded != sha256:
        fault = f"its sha256 {sha256[:12]}… is not the {str(recorded)[:12]}… that model.json records"
        raise GateFailedError(directory / "model.onnx", fault, _NEXT)
    return content, sha256


def _load(content: bytes, directory: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        next_step = "pip install 'privseg[serve]', or ask a Triton"
        raise UsageError("onnxruntime", "is not installed", next_step) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between frames threads would spin on, and decoding and encoding need those cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise GateFailedError(directory / "model.onnx", f"does not load ({error})"[:300], _NEXT) from None
    names = [[each.name for each in part] for part in (session.get_inputs(), session.get_outputs())]
    if names != [[IMAGE], [PERSON]]:
        fault = f"maps {names[0]} to {names[1]}, not {IMAGE} to {PERSON}"
        raise GateFailedError(directory / "model.onnx", fault, _NEXT)
    return session
