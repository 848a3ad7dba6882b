"""The live page over real connections: who may see what, and nothing but protected pictures of now."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from privseg.errors import PrivacyViolationPrevented, ServerUnavailableError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, Withheld, slate
from privseg.streaming.config import GatewayConfig
from privseg.streaming.gateway import run_gateway
from privseg.streaming.live.access import Access, AccessConfig, RateLimit, Role
from privseg.streaming.live.config import LiveConfig
from privseg.streaming.live.hub import CameraInfo, LiveHub
from privseg.streaming.live.page import LivePage, Shown
from privseg.testing.camera import beacon_pixels, is_slate, scene, write_video
from privseg.testing.segmenter import FaultySegmenter

VIEWER, OPERATOR, PROXY = "viewer-token-0123456789", "operator-token-0123456789", "proxy-secret-0123456789"
ACCESS = {"viewers": [VIEWER], "operators": [OPERATOR], "proxy_secret": PROXY}
SECONDS = 30.0


def made(number: int = 0, size: tuple[int, int] = (160, 120)) -> ProtectedFrame:
    return slate(*size, Withheld.UNSURE, sequence=number, pts=number, time_base=Fraction(1, 10))


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[LivePage, httpx.Client]]]:
    with ExitStack() as stack:

        def start(access: dict[str, Any] | None = None, **options: Any) -> tuple[LivePage, httpx.Client]:
            methods = {name: create_method(name) for name in ("blank", "silhouette")}
            shown = Shown("a test", methods["blank"], methods, SimpleQueue())
            config = LiveConfig(port=0, access=AccessConfig.model_validate(access or {}), **options)
            page = LivePage(config, {"door": shown})
            stack.callback(page.close)
            return page, stack.enter_context(httpx.Client(base_url=page.url, timeout=SECONDS))

        yield start


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def parts(response: httpx.Response) -> Iterator[bytes]:
    """The pictures of a stream."""
    waiting = b""
    for data in response.iter_bytes():
        waiting += data
        while b"\r\n\r\n" in waiting:
            head, rest = waiting.split(b"\r\n\r\n", 1)
            length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
            if len(rest) < length + 2:
                break
            yield rest[:length]
            waiting = rest[length + 2 :]


PATHS = ("/", "/page.js", "/api/cameras", "/api/cameras/door/snapshot.jpg", "/api/cameras/door/stream.mjpg")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, bearer("wrong-token-0123456789"), {"X-Forwarded-Groups": "privseg-operators"}])
def test_nobody_sees_anything_without_a_token(opened: Any, path: str, headers: dict[str, str]) -> None:
    _, client = opened(ACCESS)
    answer = client.get(path, headers=headers)
    assert (answer.status_code, answer.headers.get("location")) == ((303, "/sign-in") if path == "/" else (401, None))


def test_a_viewer_watches_and_an_operator_chooses(opened: Any) -> None:
    page, client = opened(ACCESS)
    page.sink("door").write(made())
    choice = {"content": json.dumps({"method": "silhouette"}), "headers": {"X-Privseg": "1"}}
    url = "/api/cameras/door/method"
    viewer, operator = ({**choice, "headers": choice["headers"] | bearer(token)} for token in (VIEWER, OPERATOR))
    assert client.get("/api/cameras", headers=bearer(VIEWER)).json()["role"] == "viewer"
    assert client.post(url, **viewer).status_code == 403
    assert client.post(url, content=choice["content"], headers=bearer(OPERATOR)).status_code == 403  # another site's
    assert client.post(url, **operator).json() == {"method": "silhouette", "privacy_class": "irreversible"}
    (camera,) = client.get("/api/cameras", headers=bearer(VIEWER)).json()["cameras"]
    assert camera["method"] == "silhouette"
    assert page._cameras["door"].chosen.get_nowait().name == "silhouette"
    refused = client.post(url, content='{"method": "none"}', headers=operator["headers"])
    assert (refused.status_code, "may not be switched to none" in refused.text) == (409, True)
    assert client.post(url, content="rubbish", headers=operator["headers"]).status_code == 400


def test_a_proxy_says_who_somebody_is_if_it_knows_the_secret(opened: Any) -> None:
    _, client = opened(ACCESS)
    groups = {"X-Forwarded-Groups": "staff, privseg-operators"}
    roles = [
        client.get("/api/cameras", headers={"X-Privseg-Proxy": PROXY, **more}).json()["role"] for more in ({}, groups)
    ]
    assert roles == ["viewer", "operator"]


def test_signing_in_and_out_with_a_browser(opened: Any) -> None:
    _, client = opened(ACCESS)
    refused = client.post("/sign-in", data={"token": "wrong"})
    assert refused.headers["location"] == "/sign-in?refused"
    answer = client.post("/sign-in", data={"token": VIEWER})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert VIEWER not in cookie
    assert client.get("/").status_code == 200
    client.post("/sign-out")
    client.cookies.clear()
    assert client.get("/api/cameras").status_code == 401


def test_guessing_tokens_is_slowed_down(opened: Any) -> None:
    _, client = opened(ACCESS)
    answers = [client.post("/sign-in", data={"token": "wrong"}) for _ in range(8)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) > 0


def test_a_rate_is_a_clients_own_and_comes_back() -> None:
    limit = RateLimit(2, 0.5)
    assert [limit.wait("a", 0), limit.wait("a", 0), limit.wait("b", 0)] == [0, 0, 0]
    assert limit.wait("a", 0) == 2
    assert limit.wait("a", 2) == 0


def test_a_session_ends() -> None:
    access = Access(AccessConfig.model_validate(ACCESS | {"session_seconds": 60}))
    session = access.sign_in(OPERATOR)
    assert access.role_of({}, session) is Role.OPERATOR
    access._sessions[str(session)] = (Role.OPERATOR, time.monotonic() - 1)
    assert access.role_of({}, session) is None


def test_headers_keep_other_sites_out_and_pictures_out_of_caches(opened: Any) -> None:
    _, client = opened()
    for path in ("/", "/page.css", "/api/cameras", "/api/cameras/door/snapshot.jpg", "/livez", "/none"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    for path in ("/docs", "/openapi.json", "/../page.html", "/api/cameras/other/snapshot.jpg"):
        assert client.get(path).status_code == 404
    page = client.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    assert "style=" not in page


def test_a_snapshot_is_the_newest_picture_without_metadata(opened: Any) -> None:
    page, client = opened()
    assert is_slate(decoded(client.get("/api/cameras/door/snapshot.jpg").content))  # before the first frame
    page.sink("door").write(made(size=(320, 240)))
    jpeg = client.get("/api/cameras/door/snapshot.jpg").content
    assert decoded(jpeg).shape == (240, 320, 3)
    assert b"Exif" not in jpeg


def test_an_old_picture_is_not_shown_as_one_of_now() -> None:
    hub = LiveHub(stale_seconds=1e-9)
    sink = hub.add(CameraInfo("door", "a test", "blank", "irreversible", "-"))
    sink.write(made())
    _, jpeg = hub.picture("door")
    assert hub.status()[0]["state"] == "lost"
    with_new_eyes = LiveHub()
    other = with_new_eyes.add(CameraInfo("door", "a test", "blank", "irreversible", "-"))
    other.write(made())
    assert with_new_eyes.picture("door")[1] != jpeg  # another notice
    other.close()
    assert with_new_eyes.picture("door")[1] == jpeg
    assert with_new_eyes.status()[0]["state"] == "ended"


def test_the_hub_takes_nothing_raw() -> None:
    sink = LiveHub().add(CameraInfo("door", "a test", "blank", "irreversible", "-"))
    with pytest.raises(PrivacyViolationPrevented, match="refused a ndarray"):
        sink.write(np.zeros((4, 4, 3), np.uint8))


def test_a_viewer_that_stops_reading_holds_up_nobody(opened: Any) -> None:
    page, client = opened(max_viewers=2)
    host, port = page.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as lazy:
        lazy.sendall(f"GET /api/cameras/door/stream.mjpg HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert lazy.recv(15).startswith(b"HTTP/1.1 200")
        for number in range(300):
            page.sink("door").write(made(number, (1280, 720)))
        with client.stream("GET", "/api/cameras/door/stream.mjpg") as second:
            pictures = parts(second)  # once nobody holds it, the connection closes
            assert decoded(next(pictures)).shape == (720, 1280, 3)
            assert client.get("/api/cameras/door/stream.mjpg").status_code == 503
    # both have left; their places come back

    def free() -> bool:
        with client.stream("GET", "/api/cameras/door/stream.mjpg") as third:
            return third.status_code == 200

    eventually(free)


def test_other_machines_need_tokens_and_tls() -> None:
    for wrong in ({}, {"access": ACCESS}, {"access": {"viewers": ["short"]}}, {"certificate": "x.pem"}):
        with pytest.raises(ValidationError):
            LiveConfig.model_validate({"address": "0.0.0.0"} | wrong)
    assert LiveConfig.model_validate({"address": "0.0.0.0", "access": ACCESS, "insecure": True})
    with pytest.raises(ValidationError, match="twice"):
        AccessConfig.model_validate({"viewers": [VIEWER], "operators": [VIEWER]})


def test_a_taken_port_and_a_wrong_certificate_are_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnavailableError, match=f"127.0.0.1:{port}: cannot serve the live page"):
            LivePage(LiveConfig(port=port), {})
    (tmp_path / "no.pem").write_text("rubbish")
    files = {"certificate": tmp_path / "no.pem", "key": tmp_path / "no.pem"}
    with pytest.raises(ServerUnavailableError, match="cannot use the certificate"):
        LivePage(LiveConfig(port=0, **files), {})


def test_a_gateway_shows_its_cameras_covered_and_takes_a_choice(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", [scene(number, 160, 120) for number in range(20)], rate=20)
    config = GatewayConfig.model_validate({
        "metrics": {"port": 0}, "live": {"port": 0}, "policy": {"unsure_share": 1},
        "cameras": {"door": {
            "source": str(clip), "output": str(tmp_path / "out.mp4"), "loop": True, "method": "blank",
            "switchable": ["silhouette"], "purpose": "a test", "retention_hours": 1, "max_frames": 1_000_000,
        }},
    })  # fmt: skip
    stop, told = threading.Event(), SimpleQueue[str]()
    reports: dict[str, Any] = {}

    def run() -> None:
        reports.update(run_gateway(config, stop, open_segmenter=lambda _: FaultySegmenter(), say=told.put))

    gateway = threading.Thread(target=run)
    gateway.start()
    try:
        url = told.get(timeout=SECONDS).removeprefix("live page on ")
        with httpx.Client(base_url=url, timeout=SECONDS) as client:
            eventually(lambda: client.get("/readyz").status_code == 200)
            with client.stream("GET", "/api/cameras/door/stream.mjpg") as stream:
                pictures = parts(stream)
                first = [decoded(next(pictures)) for _ in range(6)]
                before = client.get("/api/cameras").json()["cameras"][0]
                asked = client.post(
                    "/api/cameras/door/method", content='{"method": "silhouette"}', headers={"X-Privseg": "1"}
                )
                assert asked.status_code == 200
                later = [decoded(next(pictures)) for _ in range(6)]
        assert (before["state"], before["people"], before["method"]) == ("live", 1, "blank")
        assert not any(is_slate(picture) for picture in first)
        assert not any(beacon_pixels(picture) for picture in first + later)
        assert np.abs(first[-1].astype(int) - later[-1]).max() > 40  # the silhouette has another colour
    finally:
        stop.set()
        gateway.join(SECONDS)
    assert reports["door"].methods_chosen == ["silhouette"]
