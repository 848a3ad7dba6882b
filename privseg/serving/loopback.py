"""What is asked of a local Triton over HTTP, with the standard library alone: health, versions, model control."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any, Final

from privseg.errors import ServerUnavailableError
from privseg.serving.artifact import INPUT_NAME, MODEL_NAME, SIZE_MULTIPLE

__all__ = ["http_ok", "instances", "load", "ready_versions", "refuses", "runtime", "unload"]

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy
_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 20.0
_LOAD_SECONDS: Final = 300.0
_BUSY: Final = 503  # a full queue, or a request that waited too long
_INFO: Final = re.compile(r"^privseg_backend_info\{(.*)\} 1$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')


def http_ok(url: str) -> bool:
    """Return whether a loopback URL answers 200."""
    try:
        with _DIRECT.open(url, timeout=_SECONDS) as response:
            return bool(response.status == 200)
    except OSError:  # refused, reset, timed out, or an HTTP error status
        return False


def ready_versions(http_url: str) -> tuple[int, ...]:
    """Return the versions of the person model that the server calls ready; none if it does not answer."""
    try:
        index: list[dict[str, Any]] = json.loads(_post(f"{http_url}/v2/repository/index", {}, _SECONDS))
    except (OSError, ValueError):
        return ()
    return tuple(sorted(int(e["version"]) for e in index if e["name"] == MODEL_NAME and e.get("state") == "READY"))


def instances(http_url: str) -> int:
    """Return how many instances of every version there should be; 0 if the server does not answer."""
    try:
        with _DIRECT.open(f"{http_url}/v2/models/{MODEL_NAME}/config", timeout=_SECONDS) as response:
            groups = json.load(response).get("instance_group", [])
    except (OSError, ValueError):
        return 0
    return sum(int(group.get("count", 1)) for group in groups)


def runtime(metrics_url: str) -> str:
    """Return in words what runs the newest version, as the backend found it at load; empty if it does not say."""
    try:
        with _DIRECT.open(metrics_url, timeout=_SECONDS) as response:
            text = response.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    found = [dict(_LABEL.findall(labels)) for labels in _INFO.findall(text)]
    if not found:
        return ""
    newest = max(found, key=lambda labels: int(labels.get("version", 0)))
    return "{runtime} {precision}, threads: {threads}".format(**newest)


def refuses(http_url: str) -> bool:
    """Return whether the server refuses to segment a small black picture; being busy or silent is no refusal."""
    shape = [1, SIZE_MULTIPLE, SIZE_MULTIPLE, 3]
    image = {"name": INPUT_NAME, "shape": shape, "datatype": "UINT8", "data": [0] * (SIZE_MULTIPLE**2 * 3)}
    try:
        _post(f"{http_url}/v2/models/{MODEL_NAME}/infer", {"inputs": [image]}, _ANSWER_SECONDS)
    except urllib.error.HTTPError as error:
        return error.code != _BUSY
    except OSError:
        return False
    return False


def load(http_url: str) -> None:
    """Load the newest version; raises ServerUnavailableError with the server's reason."""
    _control(http_url, "load")


def unload(http_url: str) -> None:
    """Stop serving the model; raises ServerUnavailableError with the server's reason."""
    _control(http_url, "unload")


def _control(http_url: str, what: str) -> None:
    try:
        _post(f"{http_url}/v2/repository/models/{MODEL_NAME}/{what}", {}, _LOAD_SECONDS)
    except urllib.error.HTTPError as error:
        reason = error.read().decode("utf-8", errors="replace")[:400]
        raise ServerUnavailableError(http_url, f"{what} failed ({reason})", "read the server's log") from None
    except OSError as error:
        raise ServerUnavailableError(http_url, f"{what} failed ({error})", "run `privseg triton status`") from None


def _post(url: str, body: dict[str, Any], seconds: float) -> bytes:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")  # noqa: S310 - loopback
    with _DIRECT.open(request, timeout=seconds) as response:
        return bytes(response.read())
