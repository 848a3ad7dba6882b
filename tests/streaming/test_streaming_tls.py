"""A real Triton that encrypts, and one that also asks who calls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from privseg.errors import ServerUnavailableError
from privseg.privacy.frames import Withheld
from privseg.serving.artifact import MODEL_NAME
from privseg.serving.local_triton import LocalTriton
from privseg.streaming.segmenter import NoAnswer
from privseg.streaming.segmenter_triton import TritonSegmenter
from privseg.streaming.shared_region import directory_finder
from privseg.testing.authority import Authority
from privseg.testing.triton import make_person_model
from privseg.triton_channel import Tls

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours") / "authority")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("strangers") / "authority")


@pytest.fixture(scope="module", params=["", "-mutual"])
def mutual(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def url(mutual: bool, ours: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("triton")
    make_person_model(folder / "repository" / MODEL_NAME / "1")
    pair = ours.issue("server")
    arguments = (
        f"--grpc-use-ssl{'-mutual' if mutual else ''}=true",
        f"--grpc-server-cert={pair.certificate}",
        f"--grpc-server-key={pair.key}",
        f"--grpc-root-cert={ours.root}",
    )
    server = LocalTriton(folder / "repository", folder / "state", extra_arguments=arguments)
    try:
        yield server.start().grpc_url
    finally:
        server.kill()


def ask(segmenter: TritonSegmenter) -> None:
    segmenter.check_ready()
    for number, level in enumerate((40, 90)):
        segmenter.submit(number, np.full((1, 64, 96, 3), level, np.uint8))
        assert (segmenter.result(number).probability == level).all()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_whom_it_knows_is_answered(url: str, mutual: bool, ours: Authority, stream: bool, shared: bool) -> None:
    me = ours.issue("gateway")
    tls = Tls(ours.root, me.key, me.certificate) if mutual else Tls(ours.root)
    for address in (url, url.replace("127.0.0.1", "dns:///localhost")):
        memory = directory_finder("auto" if shared else "off", address)
        with TritonSegmenter(address, deadline_seconds=60, tls=tls, stream=stream, shared_memory=memory) as segmenter:
            ask(segmenter)
            assert (segmenter.shared_answers > 0) == shared


def test_whom_it_does_not_know_is_refused_in_one_clear_line(
    url: str, mutual: bool, ours: Authority, strangers: Authority
) -> None:
    stranger = strangers.issue("gateway")
    wrong = [None, Tls(strangers.root)]
    if mutual:
        wrong += [Tls(ours.root), Tls(ours.root, stranger.key, stranger.certificate)]
    for tls in wrong:
        with TritonSegmenter(url, deadline_seconds=10, tls=tls) as segmenter:
            with pytest.raises(ServerUnavailableError) as caught:
                segmenter.check_ready()
            assert "\n" not in str(caught.value)
            assert url in str(caught.value)
            assert "root_certificates" in str(caught.value)
            segmenter.submit(0, np.full((1, 64, 96, 3), 9, np.uint8))
            with pytest.raises(NoAnswer) as withheld:
                segmenter.result(0)
            assert withheld.value.reason in {Withheld.SERVER_GONE, Withheld.LATE}
