"""The live page's requests: pictures, status, the choice of a method, signing in."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse

from privseg.errors import UsageError
from privseg.streaming.live.access import Access, RateLimit, Role
from privseg.streaming.live.hub import LiveHub

__all__ = ["create_app"]

_STATIC: Final = Path(__file__).parent / "static"
_FILES: Final = {"page.css": "text/css", "page.js": "text/javascript"}
_COOKIE: Final = "privseg_session"
_OPEN: Final = frozenset({"/livez", "/readyz", "/sign-in", "/page.css"})
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
# A browser shows a part when the boundary after it has come, so that goes out with the picture.
_BOUNDARY: Final = b"--privseg\r\n"
_PART: Final = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" + _BOUNDARY
_LONGEST_BODY: Final = 4096
_SPARE_THREADS: Final = 4  # for snapshots
Picture = Callable[[str, int, float], Awaitable[tuple[int, bytes]]]
_log: Final = logging.getLogger("privseg.live")


def create_app(
    hub: LiveHub, access: Access, ready: Callable[[], tuple[bool, str]], *, tls: bool = False, max_viewers: int = 32
) -> FastAPI:
    """The application.

    Args:
        hub: The cameras.
        access: Who may do what.
        ready: Whether the gateway protects pictures now, and one line on why not.
        tls: Browsers reach it by HTTPS: cookies are for that alone.
        max_viewers: Streams at once; further ones are refused.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    requests, attempts = RateLimit(200, 50), RateLimit(5, 0.2)
    viewers = _Places(max_viewers)
    # Waiting for a picture takes a thread; whoever watches must not keep others from theirs.
    threads = ThreadPoolExecutor(max_viewers + _SPARE_THREADS, thread_name_prefix="live page")

    async def picture(name: str, after: int = -1, wait: float = 0.0) -> tuple[int, bytes]:
        return await asyncio.get_running_loop().run_in_executor(threads, hub.picture, name, after, wait)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = _refusal(request, access, requests) or await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if tls:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    @app.get("/")
    async def page() -> Response:
        return FileResponse(_STATIC / "page.html", media_type="text/html")

    @app.get("/sign-in")
    async def sign_in_page() -> Response:
        return FileResponse(_STATIC / "sign-in.html", media_type="text/html")

    @app.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        client = _client(request)
        wait = attempts.wait(client)
        if wait:
            return _too_many(wait)
        token = parse_qs(await _body(request)).get("token", [""])[0]
        session = access.sign_in(token)
        _tell("signed in" if session else "sign-in refused", client=client)
        if session is None:
            return RedirectResponse("/sign-in?refused", status_code=303)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            _COOKIE, session, httponly=True, samesite="strict", secure=tls, max_age=access.config.session_seconds
        )
        return response

    @app.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        access.sign_out(request.cookies.get(_COOKIE))
        response = RedirectResponse("/sign-in", status_code=303)
        response.delete_cookie(_COOKIE)
        return response

    @app.get("/api/cameras")
    async def cameras(request: Request) -> dict[str, Any]:
        return {"role": _role(request, access), "cameras": hub.status()}

    @app.get("/api/cameras/{name}/snapshot.jpg")
    async def snapshot(name: str) -> Response:
        _, jpeg = await picture(name)
        return Response(jpeg, media_type="image/jpeg")

    @app.get("/api/cameras/{name}/stream.mjpg")
    async def stream(name: str) -> Response:
        await picture(name)  # an unknown camera is told before anything is sent
        if not viewers.take():
            return PlainTextResponse("too many viewers", status_code=503, headers={"Retry-After": "5"})
        kind = "multipart/x-mixed-replace; boundary=privseg"
        return StreamingResponse(_pictures(picture, name, viewers), media_type=kind)

    @app.post("/api/cameras/{name}/method")
    async def method(name: str, request: Request) -> Response:
        if request.headers.get("x-privseg") != "1":  # another site's form cannot send it
            return PlainTextResponse("send the header X-Privseg: 1", status_code=403)
        role = _role(request, access)
        if role is None or not role.allows(Role.OPERATOR):
            _tell("method refused", client=_client(request), camera=name)
            return PlainTextResponse("only an operator may choose the method", status_code=403)
        try:
            wanted = str(json.loads(await _body(request))["method"])
        except (ValueError, KeyError, TypeError):
            return PlainTextResponse('send {"method": NAME}', status_code=400)
        info = await asyncio.to_thread(hub.switch, name, wanted)
        _tell("method chosen", client=_client(request), camera=name, method=info.method, role=role)
        return JSONResponse({"method": info.method, "privacy_class": info.privacy_class})

    @app.get("/livez")
    async def livez() -> Response:
        return PlainTextResponse("ok")

    @app.get("/readyz")
    async def readyz() -> Response:
        fine, why = ready()
        return PlainTextResponse("ok" if fine else why, status_code=200 if fine else 503)

    @app.get("/{name}")
    async def static(name: str) -> Response:
        if name not in _FILES:
            return PlainTextResponse("not found", status_code=404)
        return FileResponse(_STATIC / name, media_type=_FILES[name])

    @app.exception_handler(UsageError)
    async def not_possible(_request: Request, error: Exception) -> Response:
        known = "is not known" not in str(error)
        return PlainTextResponse(str(error), status_code=409 if known else 404)

    return app


class _Places:
    """So many viewers at once. Used from the event loop alone."""

    def __init__(self, count: int) -> None:
        self._free = count

    def take(self) -> bool:
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1


async def _pictures(picture: Picture, name: str, viewers: _Places) -> AsyncIterator[bytes]:
    """The newest picture each time the viewer has taken the one before; at least one a second, lest it looks dead."""
    number = -1
    try:
        yield _BOUNDARY
        while True:
            try:
                number, jpeg = await picture(name, number, 1.0)
            except UsageError:
                return  # the camera was taken out of the configuration
            yield _PART % (len(jpeg), jpeg)
    finally:
        viewers.give_back()


def _refusal(request: Request, access: Access, limit: RateLimit) -> Response | None:
    """Why a request is not even looked at."""
    wait = limit.wait(_client(request))
    if wait:
        return _too_many(wait)
    if request.url.path in _OPEN or _role(request, access) is not None:
        return None
    if request.method == "GET" and request.url.path == "/":
        return RedirectResponse("/sign-in", status_code=303)
    return PlainTextResponse("sign in first", status_code=401, headers={"WWW-Authenticate": "Bearer"})


def _role(request: Request, access: Access) -> Role | None:
    return access.role_of(request.headers, request.cookies.get(_COOKIE))


def _client(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _body(request: Request) -> str:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_BODY:
            return ""
    return body.decode("utf-8", "replace")


def _too_many(wait: float) -> Response:
    return PlainTextResponse("too many requests", status_code=429, headers={"Retry-After": str(math.ceil(wait))})


def _tell(event: str, **facts: object) -> None:
    """One line of JSON; never a token, never a session."""
    _log.info(json.dumps({"event": event, **{name: str(value) for name, value in facts.items()}}))
