"""One HTTP request over the standard library, with the rules that a download from a stranger needs.

Only http and https, at most five redirects and never one from https to http, proxies by the environment
(``http_proxy``, ``https_proxy``, ``no_proxy``), a time limit on every wait, and faults as errors of ours.
"""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from privseg import __version__
from privseg.errors import ServerUnavailableError, UsageError

__all__ = ["TransferInterruptedError", "check_url", "open_url", "shown"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE_REFUSED = 416


class TransferInterruptedError(Exception):
    """A transfer that ended early and may go better when it is tried again; never leaves this package.

    Attributes:
        wait: Seconds the server asked to be left alone for; 0 when it did not say.
        restart: What is already here is of no use to this server.
    """

    def __init__(self, fault: str, *, wait: float = 0.0, restart: bool = False) -> None:
        super().__init__(fault)
        self.wait = wait
        self.restart = restart


def shown(url: str) -> str:
    """The address as messages show it: without a user's name, a password, or a query that may be signed."""
    parts = urllib.parse.urlsplit(url)
    return _printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def check_url(url: str) -> None:
    """Accept an address of a user.

    Raises:
        UsageError: It is no http or https address, or carries a password.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, fine = None, False
    if parts is None or not fine or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            shown(url) if parts else "the address",
            "is no plain http:// or https:// address",
            "give the folder that holds the archives, as in --base-url https://mirror.example/datasets",
        )


def open_url(url: str, headers: Mapping[str, str], *, timeout: float) -> http.client.HTTPResponse:
    """Request ``url`` and follow its redirects.

    Args:
        url: An http or https address.
        headers: Sent along, to every address of a chain of redirects.
        timeout: Seconds that a connection, or any one wait for data, may take.

    Returns:
        The response to a success (2xx); its body is unread, and the caller closes it.

    Raises:
        ServerUnavailableError: The server refuses, or redirects where we do not follow; asking again would not help.
        TransferInterruptedError: No connection, no answer in time, or a passing fault of the server.
    """
    asked = url
    for _ in range(_MAX_REDIRECTS + 1):
        request = urllib.request.Request(url, headers={"User-Agent": f"privseg/{__version__}", **headers})  # noqa: S310
        try:
            response: http.client.HTTPResponse = _opener().open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in _REDIRECTS:
                    raise _refused(url, error) from None
                url = _redirected(url, error.headers.get("Location"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unreached(url, error) from None
        else:
            return response
    raise ServerUnavailableError(
        shown(asked), f"redirects more than {_MAX_REDIRECTS} times", "name another server with --base-url"
    )


def _opener() -> urllib.request.OpenerDirector:
    """What `urllib.request.build_opener` makes, less files, ftp, data addresses and its own redirects."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _redirected(url: str, location: str | None) -> str:
    target = urllib.parse.urljoin(url, location or "")
    old, new = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
    if not location or new.scheme not in ("http", "https") or not new.hostname:
        fault = f"redirects to {shown(target) if location else 'nowhere'}"
    elif old.scheme == "https" and new.scheme == "http":
        fault = f"redirects from https to unencrypted http ({shown(target)})"
    else:
        return target
    raise ServerUnavailableError(shown(url), f"{fault}, which is not followed", "name another server with --base-url")


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    fault = _printable(f"answers {error.code} {error.reason}".strip())
    if error.code in _WORTH_RETRYING:
        seconds = error.headers.get("Retry-After", "")
        return TransferInterruptedError(fault, wait=float(seconds) if seconds.isdecimal() else 0.0)
    if error.code == _RANGE_REFUSED:
        return TransferInterruptedError(fault, restart=True)
    return ServerUnavailableError(
        shown(url), fault, "see in a browser whether the file has moved, and name a mirror with --base-url"
    )


def _unreached(url: str, error: Exception) -> Exception:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ServerUnavailableError(
            shown(url),
            f"its certificate is not trusted ({cause.verify_message})",
            "check the clock and the proxy of this machine, or name a mirror with --base-url",
        )
    if isinstance(cause, TimeoutError):
        return TransferInterruptedError("no answer in time")
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return TransferInterruptedError(_printable(text) or type(cause).__name__)


def _printable(text: str) -> str:
    """A server's words without what would command a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
