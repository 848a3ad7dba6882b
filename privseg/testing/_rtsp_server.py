"""The RTSP server behind ``privseg.testing.rtsp``: run by the system's Python, which has GStreamer's bindings.

Reads one line of JSON from standard input: ``path`` (a video file with H.264, or null for a test pattern), ``loop``,
``record`` (a folder that takes what clients send, instead of playing),
``port`` (0 takes a free one), ``mount``, ``user``, ``password``. Answers with one line of JSON, ``{"port": n}`` or
``{"error": text}``, and serves on 127.0.0.1 over TCP until standard input ends.
"""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

PATTERN = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
REPLAY = (
    "( appsrc name=source is-live=true format=time block=true max-buffers=4 "
    "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
RECORD = (
    "( rtph264depay name=depay0 ! h264parse ! matroskamux streamable=true "
    '! multifilesink next-file=max-size max-file-size=1000000000 location="FOLDER/%05d.mkv" )'
)
CAPS = "video/x-h264,stream-format=byte-stream,alignment=au"


def read_access_units(path: str) -> tuple[list[bytes], int, str]:
    """A file's H.264, one access unit a frame, without decoding; with a frame's duration (ns) and the caps."""
    pipeline = Gst.parse_launch(
        f"filesrc name=file ! parsebin ! h264parse config-interval=-1 ! {CAPS} ! appsink name=sink sync=false"
    )
    pipeline.get_by_name("file").set_property("location", path)
    sink = pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    units, duration, caps = [], 0, CAPS
    try:
        while not sink.get_property("eos"):  # an error brings neither a sample nor the end, only a message
            sample = sink.emit("try-pull-sample", Gst.SECOND // 10)
            if sample is not None:
                buffer = sample.get_buffer()
                units.append(buffer.extract_dup(0, buffer.get_size()))
                if not duration and buffer.duration != Gst.CLOCK_TIME_NONE:
                    duration, caps = buffer.duration, sample.get_caps().to_string()
            elif (fault := pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)) is not None:
                raise ValueError(fault.parse_error()[0].message)
    finally:
        pipeline.set_state(Gst.State.NULL)
    if not units:
        raise ValueError("holds no H.264 video")
    return units, duration or Gst.SECOND // 25, caps


def replay(factory: Any, units: list[bytes], duration: int, caps: str, loop: bool) -> None:
    """Feed every new client's stream from the first frame on, again and again if it loops."""

    def configure(_factory: Any, media: Any) -> None:
        source = media.get_element().get_by_name_recurse_up("source")
        source.set_property("caps", Gst.Caps.from_string(caps))
        numbers = itertools.count()

        def feed(_source: Any, _wanted: int) -> None:
            number = next(numbers)
            if number >= len(units) and not loop:
                source.emit("end-of-stream")
                return
            buffer = Gst.Buffer.new_wrapped(units[number % len(units)])
            buffer.pts = buffer.dts = number * duration
            buffer.duration = duration
            source.emit("push-buffer", buffer)

        source.connect("need-data", feed)

    factory.set_launch(REPLAY)
    factory.connect("media-configure", configure)


def protect(server: Any, factory: Any, user: str, password: str) -> None:
    """Ask for a name and a password."""
    token = GstRtspServer.RTSPToken()
    token.set_string(GstRtspServer.RTSP_TOKEN_MEDIA_FACTORY_ROLE, "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", GstRtspServer.RTSP_PERM_MEDIA_FACTORY_ACCESS, True)
    permissions.add_permission_for_role("viewer", GstRtspServer.RTSP_PERM_MEDIA_FACTORY_CONSTRUCT, True)
    factory.set_permissions(permissions)


def start(order: dict[str, Any]) -> Any:
    """Build and bind the server."""
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(str(order["port"]))
    factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP if order["udp"] else GstRtsp.RTSPLowerTrans.TCP)
    if order["record"] is not None:
        factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        # Each stream goes into a file of its own; streamable: what came is readable whenever the stream ends.
        factory.set_launch(RECORD.replace("FOLDER", json.dumps(order["record"])[1:-1]))
    elif order["path"] is None:
        factory.set_launch(PATTERN)
    else:
        replay(factory, *read_access_units(order["path"]), order["loop"])
    if order["user"] is not None:
        protect(server, factory, order["user"], order["password"])
    server.get_mount_points().add_factory(order["mount"], factory)
    if server.attach(None) == 0:
        raise OSError(f"port {order['port']} cannot be bound")
    return server


def main() -> int:
    """Serve until standard input ends; that is also how the death of the parent is noticed."""
    Gst.init(None)
    try:
        server = start(json.loads(sys.stdin.readline()))
    except (ValueError, OSError, GLib.Error) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    print(json.dumps({"port": server.get_bound_port()}), flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
