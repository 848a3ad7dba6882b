"""No message shows a password, however strange, and only known kinds of address are opened."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privseg.errors import UsageError
from privseg.streaming.address import redact
from privseg.streaming.source import VideoSource


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://u:p@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://u:p%40x@cam/live?pw=1#f", "rtsp://***@cam/live?***"),
        ("http://cam/video", "http://cam/video"),
        ("RTSP://u:p@cam/x", "rtsp://***@cam/x"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
        ("/clips/rtsp://x@y.mp4", "/clips/rtsp://x@y.mp4"),
        (" rtsp:/u:p@cam/x", "rtsp:/***@cam/x"),
        ("gopher://u:p@cam/x", "gopher://***@cam/x"),
        ("rtsp://u:p/w#d?x@y@cam/live", "rtsp://***@cam/live"),
        ("rtsp://cam/user=admin_password=hunter2_channel=1.sdp?real", "rtsp://cam/user=admin_password=***?***"),
        ("http://cam/token/hunter2/live", "http://cam/token/***"),
        ("http://cam/live?next=a@b", "http://***"),
        ("http://cam/monkey/pass.mp4", "http://cam/monkey/pass.mp4"),
    ],
)
def test_redaction(uri: str, shown: str) -> None:
    assert redact(uri) == shown


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text(
    "/#?@:=[]%\\& ", max_size=8
)
SCHEMES = ["rtsp", "RTSP", "http", "rtmp", "gopher", "x-y+z.1"]


@settings(deadline=None)
@given(
    st.sampled_from(SCHEMES), texts, texts, texts,
    st.sampled_from(["{0}://{1}:{2}@cam/live", "{0}:/{1}:{2}@cam", "{0}://cam/live?password={2}", "{0}://cam/x?{1}={2}",
                     "{0}://cam/live/pwd={2}", "{0}://{1}:{2}@[::1]:554/live?token={2}", "{0}://cam/token/{2}/live"]),
)  # fmt: skip
def test_no_password_is_ever_shown(scheme: str, user: str, before: str, after: str, form: str) -> None:
    uri = form.format(scheme, user, f"{before}s3cretW0rd{after}")
    assert "s3cretW0rd" not in redact(uri)
    try:
        assert "s3cretW0rd" not in VideoSource(uri).name
    except UsageError as error:
        assert "s3cretW0rd" not in str(error)  # noqa: PT017 - only some of them are refused


@pytest.mark.parametrize("uri", ["gopher://u:s3cret@cam/x", "rtsp:/u:s3cret@cam/x", "file:///etc/passwd"])
def test_an_address_of_an_unknown_kind_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="no address of a known kind") as caught:
        VideoSource(uri)
    assert "s3cret" not in str(caught.value)
