"""Unscrambling: the one place of privseg where people come back.

It takes the key ring, a reason, and the approval of a second person; it shows the approved window of one video and
nothing else; and it is written in the disclosure log before the first picture is. What it writes goes to a file of its
own, never to a sink: sinks are for protected frames.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from privseg.errors import DataError, PrivsegError, StorageError, UsageError
from privseg.privacy.approval import Approval, read_approval
from privseg.privacy.disclosure import DisclosureLog, os_user
from privseg.privacy.filters.scramble import decrypt
from privseg.privacy.key_ring import KeyRing
from privseg.streaming.places import refuse_shared_files
from privseg.streaming.process import forbid_core_dumps, interrupted_by_termination
from privseg.streaming.scramble_record import Sidecar, sidecar_path
from privseg.streaming.sinks import output_format

__all__ = ["unscramble"]

Image = npt.NDArray[np.uint8]

_BT601: Final = 6  # AVCOL_SPC_SMPTE170M
_SHORTEST_REASON: Final = 3
_CLOCK: Final = Fraction(1, 90_000)
# Containers round times: Matroska to a millisecond.
_SLACK_SECONDS: Final = 0.02


def unscramble(
    video: Path, out: Path, *, key_ring: Path, reason: str, approval: Path, start: float, end: float
) -> dict[str, Any]:
    """Write a part of a scrambled video with its people visible.

    Args:
        video: The video as privseg wrote it, its sidecar beside it.
        out: ``.mp4``, ``.mov`` or ``.mkv``: H.264, 0600, the window only; a new file.
        key_ring: The key ring's file; the disclosure log lies beside it.
        reason: Why; it goes into the log.
        approval: A second person's approval.
        start: From here, in seconds of the video,
        end: to here.

    Returns:
        ``frames`` written; ``unscrambled``, how many of them show people again; ``seconds``; and ``entry``, the number
        of the log's line.

    Raises:
        UsageError: An argument makes no sense, ``out`` exists, or the epoch's key was destroyed.
        PrivacyViolationPrevented: The approval does not permit it.
        DataError: The log is broken, the key is another one, or the video or its sidecar was changed.
        StorageError: The log, or ``out``, cannot be written.

    Whatever is raised, ``out`` is not there; every attempt that got as far as the log is in it.
    """
    forbid_core_dumps()
    output_format(out)
    written = {"output": out, "disclosure log": DisclosureLog(ring := KeyRing.load(key_ring)).path}
    refuse_shared_files([str(video), str(sidecar_path(video)), str(key_ring), str(approval)], written)
    if out.exists():
        raise UsageError(out, "exists", "give a file that is not there yet")
    if not 0 <= start < end:
        raise UsageError("the window", f"{start:g} to {end:g} s is none", "give --from and --to in seconds")
    if len(reason.strip()) < _SHORTEST_REASON:
        raise UsageError("the reason", "is missing", "say with --reason why people must be seen")
    sidecar = Sidecar.read(video, start, end)
    log = DisclosureLog(ring)
    facts = {
        "user": os_user(),
        "video": str(video.resolve()),
        "sidecar_sha256": sidecar.sha256,
        "session": sidecar.header.session,
        "camera": sidecar.header.camera,
        "epoch": sidecar.header.epoch,
        "from": start,
        "to": end,
        "reason": reason.strip(),
    }
    entry = _permitted(log, ring, sidecar, read_approval(approval), facts, out)
    writer = _ClearWriter(out)
    try:
        with interrupted_by_termination():
            counts = _write(video, sidecar, ring.at(sidecar.header.epoch), writer, start, end)
            writer.finish()
            log.append("unscrambled", {"of": entry, **counts})
            writer.put_in_place()
    except BaseException as error:
        writer.discard()
        fault = str(error) if isinstance(error, PrivsegError) else type(error).__name__
        with contextlib.suppress(PrivsegError):  # the first fault is the one to tell
            log.append("failed", {"of": entry, "fault": fault})
        raise
    return {**counts, "entry": entry}


def _permitted(
    log: DisclosureLog, ring: KeyRing, sidecar: Sidecar, approval: Approval, facts: dict[str, Any], out: Path
) -> int:
    """Check the approval and write the log's line; returns its number. A refusal is logged, too."""
    try:
        approver = approval.check(
            ring.approvers,
            user=facts["user"],
            sidecar_sha256=sidecar.sha256,
            session=sidecar.header.session,
            start=facts["from"],
            end=facts["to"],
        )
        ring.at(sidecar.header.epoch)
        approved = {
            "output": str(out.resolve()),
            "approver": approver.name,
            "approver_user": approval.terms.approver_user,
            "approved_reason": approval.terms.reason,
            "approval": approval.terms.nonce,
        }
        return int(log.append("unscramble", facts | approved, once="approval")["sequence"])
    except (DataError, StorageError):  # of the log itself
        raise
    except PrivsegError as error:
        log.append("refused", facts | {"fault": error.fault})
        raise


def _write(
    video: Path, sidecar: Sidecar, keys: KeyRing, writer: _ClearWriter, start: float, end: float
) -> dict[str, Any]:
    """Decrypt and encode every frame of the window."""
    written = unscrambled = 0
    last = 0.0
    for index, seconds, picture in _frames(video, end):
        line = sidecar.frames.get(index)
        if line is not None and abs(line.seconds - seconds) > _SLACK_SECONDS:
            fault = f"shows frame {index} at {seconds:.2f} s, its sidecar at {line.seconds:.2f} s"
            raise DataError(video, fault, "name the video as privseg wrote it")
        if seconds < start or seconds > end:
            continue
        if line is not None:
            picture = decrypt(picture, sidecar.record(line), keys)
            unscrambled += 1
        writer.write(picture, seconds - start)
        written, last = written + 1, seconds
    if not written:
        raise DataError(video, f"has no frame from {start:g} to {end:g} s", "choose a window within the video")
    return {"frames": written, "unscrambled": unscrambled, "seconds": round(last, 3)}


def _frames(video: Path, end: float) -> Iterator[tuple[int, float, Image]]:
    """Place, time in seconds from the first one, and picture, uint8 ``(H, W, 3)`` RGB, until after ``end``."""
    try:
        with av.open(f"file:{video.absolute()}", options={"protocol_whitelist": "file"}) as container:
            container.streams.video[0].thread_count = 2
            first: float | None = None
            for index, picture in enumerate(container.decode(video=0)):
                at = float(picture.time or 0.0)
                first = at if first is None else first
                if at - first > end + _SLACK_SECONDS:
                    return
                yield index, at - first, np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
    except (av.FFmpegError, OSError, IndexError) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(video, f"cannot be read as a video ({cause})", "give the lossless file privseg wrote") from None


class _ClearWriter:
    """An H.264 file that shows people, so its owner alone may read it, from its first byte on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unscrambled.partial")
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last = -1

    def write(self, picture: Image, seconds: float) -> None:
        """Encode one picture, uint8 ``(H, W, 3)`` RGB. Raises StorageError."""
        height, width = picture.shape[:2]
        even = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        with self._storage_errors():
            stream = self._stream or self._open(even.shape[1], even.shape[0])
            frame = VideoFrame.from_ndarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
            self._last = max(round(seconds / _CLOCK), self._last + 1)
            frame.pts, frame.time_base = self._last, _CLOCK
            self._mux(stream, frame)

    def finish(self) -> None:
        """Make the file whole; it keeps its temporary name. Raises StorageError."""
        with self._storage_errors():
            if self._container is not None and self._stream is not None:
                self._mux(self._stream, None)
                self._container.close()

    def put_in_place(self) -> None:
        """Give the file its name. Raises StorageError."""
        with self._storage_errors():
            self._temporary.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(av.FFmpegError, OSError):
            if self._container is not None:
                self._container.close()
        self._temporary.unlink(missing_ok=True)

    def _open(self, width: int, height: int) -> VideoStream:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(self._temporary, flags, 0o600))
        self._container = av.open(
            f"file:{self._temporary.absolute()}", "w", format=output_format(self._path), options={"fflags": "+bitexact"}
        )
        stream = self._container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 2
        stream.colorspace = _BT601
        stream.codec_context.time_base = _CLOCK
        self._stream = stream
        return stream

    def _mux(self, stream: VideoStream, frame: VideoFrame | None) -> None:
        if self._container is not None:
            self._container.mux(stream.encode(frame))

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # most of FFmpeg's errors are, too
            raise StorageError.from_os_error(self._path, error) from None
        except av.FFmpegError as error:
            raise StorageError(self._path, f"cannot be written ({error})", "check the path and the disk") from None
