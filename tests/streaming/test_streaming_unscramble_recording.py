"""A scrambled recording keeps every bit, and what it takes to bring people back; cameras find their keys."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from privseg.errors import PrivacyViolationPrevented, UsageError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.filters.scramble import decrypt
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.key_ring import KEY_RING_VARIABLE, KeyRing
from privseg.privacy.masks import MaskPolicy, PersonMask
from privseg.privacy.zones import Zones
from privseg.streaming.anonymize import anonymize
from privseg.streaming.config import CameraConfig, GatewayConfig, KeysConfig, MetricsConfig, load_config
from privseg.streaming.gateway import run_gateway
from privseg.streaming.scramble_record import Sidecar, sidecar_path
from privseg.streaming.sinks import H264FileSink
from privseg.testing.camera import FakeCamera, beacon_pixels, is_slate, person_box, read_video, scene, write_video
from privseg.testing.segmenter import FaultySegmenter

SIZE = (160, 120)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "keys" / "ring.json")


def scrambled(number: int, method: Any, size: tuple[int, int] = SIZE, pts: int | None = None) -> ProtectedFrame:
    left, top, right, bottom = person_box(number, *size)
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[top:bottom, left:right] = True
    time = number * 100 if pts is None else pts
    frame = RawFrame(scene(number, *size), sequence=number, pts=time, time_base=Fraction(1, 1000))
    return protect(frame, PersonMask(mask, number), method, "door")


@pytest.mark.parametrize("size", [(160, 120), (161, 121), (33, 47), (17, 9)])
@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.mov"])
@pytest.mark.parametrize("recording", [False, True])
def test_every_bit_is_kept_odd_sizes_too(
    ring: KeyRing, tmp_path: Path, size: tuple[int, int], name: str, recording: bool
) -> None:
    path, method = tmp_path / "videos" / name, create_method("scramble", secrets=ring)
    frames = [scrambled(number, method, size) for number in range(6)]
    with H264FileSink(path, Fraction(10), size, lossless=True, recording=recording) as sink:
        for frame in frames:
            sink.write(frame)
    images = read_video(path)
    assert len(images) == len(frames)
    sidecar = Sidecar.read(path)
    assert sorted(path.parent.iterdir()) == sorted([path, sidecar_path(path)])
    for number, (image, frame) in enumerate(zip(images, frames, strict=True)):
        assert np.array_equal(image, frame.pixels)
        line = sidecar.frames[number]
        assert line.seconds == pytest.approx(number / 10)
        assert np.array_equal(decrypt(image, sidecar.record(line), ring), scene(number, *size))


def test_a_lossy_sink_refuses_what_could_not_be_recovered(ring: KeyRing, tmp_path: Path) -> None:
    method = create_method("scramble", secrets=ring)
    sink = H264FileSink(tmp_path / "out.mp4", Fraction(10), SIZE)
    with pytest.raises(UsageError, match="lossy"):
        sink.write(scrambled(0, method))
    sink.close()
    assert not (tmp_path / "out.mp4").exists()


def test_a_lossless_sink_still_takes_protected_frames_only(tmp_path: Path) -> None:
    with (
        pytest.raises(PrivacyViolationPrevented),
        H264FileSink(tmp_path / "out.mp4", Fraction(10), SIZE, lossless=True) as sink,
    ):
        sink.write(scene(0, *SIZE))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_frame_that_was_scaled_and_a_slate_have_no_record(ring: KeyRing, tmp_path: Path) -> None:
    path, method = tmp_path / "out.mp4", create_method("scramble", secrets=ring)
    with H264FileSink(path, Fraction(10), SIZE, lossless=True) as sink:
        sink.write(scrambled(0, method))
        sink.write(scrambled(1, method, (80, 60)))
        sink.write(slate(*SIZE, Withheld.LATE, sequence=2, pts=200, time_base=Fraction(1, 1000)))
        sink.write(scrambled(3, method))
    assert sorted(Sidecar.read(path).frames) == [0, 3]
    assert not any(beacon_pixels(image) == 0 and is_slate(image) for image in read_video(path)[:2])


def test_a_recording_that_is_killed_can_be_recovered_up_to_there(ring: KeyRing, tmp_path: Path) -> None:
    assert ring.path is not None
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_streaming_unscramble_recording import *
        method = create_method("scramble", secrets=KeyRing.load(Path({str(ring.path)!r})))
        sink = H264FileSink(Path({str(tmp_path / "r.mp4")!r}), Fraction(10), SIZE, lossless=True, recording=True)
        for number in range(50):
            sink.write(scrambled(number, method))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    partial = next(tmp_path.glob("r.*.partial.mp4"))
    images, sidecar = read_video(partial), Sidecar.read(partial)
    assert len(images) >= 20
    for number, image in enumerate(images):
        restored = decrypt(image, sidecar.record(sidecar.frames[number]), ring)
        assert np.array_equal(restored, scene(number, *SIZE))


def test_a_run_that_fails_leaves_neither_video_nor_sidecar(ring: KeyRing, tmp_path: Path) -> None:
    path, method = tmp_path / "out.mp4", create_method("scramble", secrets=ring)
    sink = H264FileSink(path, Fraction(10), SIZE, lossless=True)
    sink.write(scrambled(0, method))
    sink.abort()
    assert {found.name for found in tmp_path.iterdir()} <= {"keys"}


def test_a_video_without_a_sidecar_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds nothing that can be unscrambled"):
        Sidecar.read(tmp_path / "out.mp4")


def gateway(ring: Path | None, out: Path, clip: Path) -> GatewayConfig:
    said = {
        "source": str(clip),
        "output": str(out),
        "method": "scramble",
        "purpose": "test",
        "retention_hours": 1,
        "realtime": False,
    }
    camera = CameraConfig.model_validate(said)
    return GatewayConfig(metrics=MetricsConfig(port=0), keys=KeysConfig(ring=ring), cameras={"door": camera})


def test_a_camera_gets_its_keys_from_the_configuration(
    ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_video(tmp_path / "clip.avi", [scene(n, *SIZE) for n in range(6)])
    out = tmp_path / "videos" / "door.mp4"
    with pytest.raises(UsageError, match="needs keys"):
        run_gateway(gateway(None, out, clip), open_segmenter=lambda _: FaultySegmenter())
    with pytest.raises(UsageError, match="lies in the folder"):
        run_gateway(gateway(ring.path, tmp_path / "door.mp4", clip), open_segmenter=lambda _: FaultySegmenter())
    report = run_gateway(gateway(ring.path, out, clip), open_segmenter=lambda _: FaultySegmenter())["door"]
    assert (report.fault, report.frames_out, report.frames_blanked) == (None, 6, 0)
    sidecar = Sidecar.read(out)
    assert (sidecar.header.camera, sidecar.header.epoch, len(sidecar.frames)) == ("door", ring.epoch, 6)
    image = read_video(out)[0]
    assert not beacon_pixels(image[:, : SIZE[0] // 16])
    assert beacon_pixels(decrypt(image, sidecar.record(sidecar.frames[0]), ring)) > 1000

    assert ring.path is not None
    monkeypatch.setenv(KEY_RING_VARIABLE, ring.path.read_text())
    again = run_gateway(gateway(None, out, clip), open_segmenter=lambda _: FaultySegmenter())["door"]
    assert again.fault is None
    assert Sidecar.read(out).header.session != sidecar.header.session


def test_the_configuration_names_the_ring(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(
        "keys: {ring: '${KEYS}/ring.json'}\n"
        "cameras: {door: {source: a, output: b.mp4, method: scramble, purpose: test, retention_hours: 1}}\n"
    )
    assert load_config(path, {"KEYS": "/run/keys"}).keys.ring == Path("/run/keys/ring.json")


def test_a_zone_never_shown_is_in_no_scrambled_recording_whatever_the_key(ring: KeyRing, tmp_path: Path) -> None:
    """Somebody walks through the zone; the model covers every frame, and the key opens every frame."""
    out = tmp_path / "videos" / "out.mp4"
    anonymize(
        FakeCamera(width=SIZE[0], height=SIZE[1], count=6),
        out,
        method=create_method("scramble", secrets=ring),
        segmenter=FaultySegmenter(),
        policy=MaskPolicy(hold_frames=0),
        zones=Zones(never_shown=(((0, 0), (1, 0), (1, 0.6), (0, 0.6)),)),
    )
    images, sidecar = read_video(out), Sidecar.read(out)
    assert len(sidecar.frames) == len(images) == 6
    for number, image in enumerate(images):
        left, top, right, bottom = person_box(number, *SIZE)
        edge = round(0.6 * SIZE[1])
        assert top < edge - 8 < edge + 8 < bottom  # in the zone and below it
        restored = decrypt(image, sidecar.record(sidecar.frames[number]), ring)
        assert len(np.unique(restored[:edge].reshape(-1, 3), axis=0)) == 1
        below = np.s_[edge + 2 : bottom, left:right]
        assert np.array_equal(restored[below], scene(number, *SIZE)[below])
