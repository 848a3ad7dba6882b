"""Raw frames leave the machine encrypted, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from privseg.errors import UsageError
from privseg.streaming.config import TritonConfig
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.triton_channel import Tls

HERE = [
    "127.0.0.1:8001", "127.9.9.9", "localhost:8001", "LOCALHOST", "[::1]:8001", "::1", "dns:///localhost:8001",
    "dns:localhost", "ipv4:127.0.0.1:8001,127.0.0.2:8001", "ipv6:[::1]:8001", "unix:/run/triton.sock",
]  # fmt: skip
ELSEWHERE = [
    "10.0.0.5:8001", "triton:8001", "dns:///triton:8001", "[fe80::1]:8001", "0.0.0.0:8001", "127.0.0.1.example.org:1",
    "ipv4:127.0.0.1:8001,10.0.0.5:8001", "dns://10.0.0.5/localhost:8001", "localhost.example.org", "xds:///localhost",
]  # fmt: skip


@pytest.mark.parametrize("url", HERE)
def test_this_machine_is_spoken_to_in_clear(url: str) -> None:
    TritonSegmenter(url).close()
    assert TritonConfig(url=url).tls is None


@pytest.mark.parametrize("url", ELSEWHERE)
def test_another_machine_is_not(url: str) -> None:
    with pytest.raises(UsageError, match="in clear"):
        TritonSegmenter(url)
    with pytest.raises(UsageError, match=r"triton\.insecure"):
        TritonConfig(url=url)
    TritonSegmenter(url, insecure=True).close()
    TritonSegmenter(url, tls=Tls()).close()
    assert TritonConfig(url=url, ssl=True).tls == Tls()
    assert TritonConfig(url=url, insecure=True).tls is None


@pytest.mark.parametrize("fields", [{"root_certificates": "ca.pem"}, {"ssl": True, "private_key": "key.pem"}])
def test_files_that_would_not_be_used_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TritonConfig.model_validate(fields)


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.pem"):
        TritonSegmenter("10.0.0.5:8001", tls=Tls(tmp_path / "none.pem"))
