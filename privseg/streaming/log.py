"""What a running gateway tells: one line an event, for people or for programs that collect them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TextIO

__all__ = ["LogFormat", "printer"]

_CAMERA: Final = re.compile(r"([a-z0-9][a-z0-9_-]{0,40}): ")


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


def printer(form: LogFormat, stream: TextIO) -> Callable[[str], None]:
    """Prints lines whose makers have left every credential out.

    Args:
        form: As they are; or one JSON object each, with ``time`` (UTC, ISO 8601), ``message``, and ``camera`` where it
            is about one.
        stream: Where to.
    """

    def say(line: str) -> None:
        print(line if form is LogFormat.TEXT else _object(line), file=stream, flush=True)

    return say


def _object(line: str) -> str:
    about = _CAMERA.match(line)
    said = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
    if about is not None:
        said["camera"] = about[1]
    return json.dumps(said | {"message": line[about.end() :] if about else line})
