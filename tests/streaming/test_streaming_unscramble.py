"""A scrambled video keeps every bit; people come back from it for two who agree, and the log knows first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from privseg.cli import app
from privseg.errors import DataError, PrivacyViolationPrevented, PrivsegError, StorageError, UsageError
from privseg.privacy import approval as approvals
from privseg.privacy.approval import approve, create_approver_key
from privseg.privacy.disclosure import DisclosureLog
from privseg.privacy.filters.registry import create_method
from privseg.privacy.filters.scramble import decrypt
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.key_ring import KEY_RING_VARIABLE, KeyRing
from privseg.privacy.masks import MaskPolicy, PersonMask
from privseg.streaming import unscramble as unscramble_module
from privseg.streaming.anonymize import anonymize
from privseg.streaming.config import CameraConfig, GatewayConfig, KeysConfig, MetricsConfig, load_config
from privseg.streaming.gateway import run_gateway
from privseg.streaming.scramble_record import Sidecar, sidecar_path
from privseg.streaming.sinks import H264FileSink
from privseg.streaming.unscramble import unscramble
from privseg.testing.camera import FakeCamera, beacon_pixels, is_slate, person_box, read_video, scene, write_video
from privseg.testing.segmenter import FaultySegmenter, SegmenterFault

SIZE = (160, 120)
FRAMES = 12
POLICY = MaskPolicy(hold_frames=0)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    ring = KeyRing.create(tmp_path / "keys" / "ring.json")
    DisclosureLog(ring).create()
    return ring.trust("bob", create_approver_key(tmp_path / "bob.pem"))


@pytest.fixture
def video(ring: KeyRing, tmp_path: Path) -> Path:
    """Ten frames a second; frame 5 is a slate."""
    out = tmp_path / "videos" / "out.mp4"
    anonymize(
        FakeCamera(width=SIZE[0], height=SIZE[1], count=FRAMES),
        out,
        method=create_method("scramble", secrets=ring),
        segmenter=FaultySegmenter({5: SegmenterFault.LATE}),
        policy=POLICY,
    )
    return out


def approved(video: Path, tmp_path: Path, start: float = 0.0, end: float = 10.0, user: str = "bob") -> Path:
    sidecar = Sidecar.read(video)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approvals, "os_user", lambda: user)
        approval = approve(
            tmp_path / "bob.pem",
            video=video.name,
            sidecar_sha256=sidecar.sha256,
            session=sidecar.header.session,
            camera=sidecar.header.camera,
            start=start,
            end=end,
            reason="theft",
            requester="alice",
            expires_in=600,
        )
    path = tmp_path / f"approval-{approval.terms.nonce}.json"
    path.write_text(approval.model_dump_json())
    return path


@pytest.fixture(autouse=True)
def as_alice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unscramble_module, "os_user", lambda: "alice")


def bring_back(video: Path, ring: KeyRing, out: Path, approval: Path, **changed: Any) -> dict[str, Any]:
    assert ring.path is not None
    asked = {"key_ring": ring.path, "reason": "theft, case 12", "approval": approval, "start": 0.0, "end": 10.0}
    return unscramble(video, out, **{**asked, **changed})


def events(ring: KeyRing) -> list[str]:
    return [entry["event"] for entry in DisclosureLog(ring).verify()]


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
        from test_streaming_unscramble import *
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
    assert {found.name for found in tmp_path.iterdir()} <= {"keys", "bob.pem"}


def test_what_is_scrambled_shows_nobody(video: Path) -> None:
    images = read_video(video)
    assert len(images) == FRAMES
    for number, image in enumerate(images):
        left, top, right, bottom = person_box(number, *SIZE)
        person = image[top:bottom, left:right]
        assert (number == 5) == is_slate(image)
        assert number == 5 or person.std() > 60  # noise, where there was one colour


def test_two_who_agree_see_the_window_and_no_more(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    out = tmp_path / "clear.mp4"
    before = os.umask(0)
    try:
        done = bring_back(video, ring, out, approved(video, tmp_path, 0.3, 0.8), start=0.3, end=0.7)
    finally:
        os.umask(before)
    images = read_video(out)
    assert (done["frames"], done["unscrambled"], len(images)) == (5, 4, 5)
    assert out.stat().st_mode & 0o777 == 0o600
    for number, image in zip(range(3, 8), images, strict=True):
        if number == 5:
            assert is_slate(image)
        else:
            assert np.abs(image.astype(int) - scene(number, *SIZE)).mean() < 6
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    entries = DisclosureLog(ring).verify()
    assert [entry["event"] for entry in entries] == ["unscramble", "unscrambled"]
    told = {"user": "alice", "approver": "bob", "reason": "theft, case 12", "approved_reason": "theft"}
    assert entries[0].items() >= (told | {"from": 0.3, "to": 0.7, "video": str(video), "camera": "clip"}).items()
    assert entries[1]["of"] == done["entry"] == 1


def refused(video: Path, ring: KeyRing, tmp_path: Path, kind: type[PrivsegError], match: str, **changed: Any) -> None:
    """Nothing appears, not even for a moment: nothing was encoded."""
    out = changed.pop("out", tmp_path / "clear.mp4")
    approval = changed.pop("approval", None) or approved(video, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unscramble_module, "decrypt", lambda *_: pytest.fail("it decrypted"))
        with pytest.raises(kind, match=match):
            bring_back(video, ring, out, approval, **changed)
    assert not (tmp_path / "clear.mp4").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_every_refusal_comes_before_the_first_picture(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    narrow = approved(video, tmp_path, 0.3, 0.8)
    none, privacy = tmp_path / "none", PrivacyViolationPrevented
    refused(video, ring, tmp_path, privacy, "0.3 to 0.8 s only", approval=narrow, start=0.3, end=0.9)
    refused(video, ring, tmp_path, UsageError, "cannot be read", approval=none)
    refused(video, ring, tmp_path, UsageError, "is missing", reason="  ")
    refused(video, ring, tmp_path, UsageError, "is none", start=3, end=2)
    refused(video, ring, tmp_path, UsageError, "cannot be read", key_ring=none)
    refused(video, ring, tmp_path, UsageError, "same file", out=video)
    refused(video, ring, tmp_path, UsageError, "exists", out=narrow.rename(tmp_path / "there.mp4"))
    assert events(ring) == ["refused"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unscramble_module, "os_user", lambda: "bob")
        refused(video, ring, tmp_path, privacy, "second person")
    assert [entry["user"] for entry in DisclosureLog(ring).verify()] == ["alice", "bob"]


def test_an_approval_works_once_even_when_it_failed(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    approval = approved(video, tmp_path)
    with pytest.raises(DataError, match="no frame"):
        bring_back(video, ring, tmp_path / "clear.mp4", approval, start=5.0)
    refused(video, ring, tmp_path, PrivacyViolationPrevented, "used before", approval=approval)
    assert events(ring) == ["unscramble", "failed", "refused"]


def test_a_sidecar_that_changed_after_the_approval_is_refused(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    approval, sidecar = approved(video, tmp_path, 0.3, 0.4), sidecar_path(video)
    lines = map(json.loads, sidecar.read_text().splitlines())
    shifted = [line | ({"seconds": 0.35} if line.get("frame") == 9 else {}) for line in lines]
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in shifted))
    refused(video, ring, tmp_path, PrivacyViolationPrevented, "another video", approval=approval, start=0.3, end=0.4)


def test_a_video_whose_times_were_shifted_is_refused(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    approval = approved(video, tmp_path, 0.3, 0.4)
    write_video(video, read_video(video), rate=20)
    with pytest.raises(DataError, match="shows frame"):
        bring_back(video, ring, tmp_path / "clear.mp4", approval, start=0.3, end=0.4)
    assert not (tmp_path / "clear.mp4").exists()


def test_a_video_that_was_encoded_again_gives_nobody(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    write_video(video, read_video(video), rate=10)
    with pytest.raises(DataError, match="cannot be unscrambled"):
        bring_back(video, ring, tmp_path / "clear.mp4", approved(video, tmp_path))
    assert events(ring) == ["unscramble", "failed"]
    assert not (tmp_path / "clear.mp4").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_rotation_keeps_old_videos_readable_and_destruction_ends_that(
    video: Path, ring: KeyRing, tmp_path: Path
) -> None:
    rotated = ring.rotate()
    assert bring_back(video, rotated, tmp_path / "a.mp4", approved(video, tmp_path))["unscrambled"] == FRAMES - 1
    destroyed = rotated.destroy(ring.epoch)
    refused(video, destroyed, tmp_path, UsageError, "destroyed")
    assert events(destroyed)[-1] == "refused"


def test_another_ring_knows_nothing_of_it(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    other = KeyRing.create(tmp_path / "other" / "ring.json")
    DisclosureLog(other).create()
    refused(video, other.trust("bob", ring.approvers[0].public_key), tmp_path, UsageError, "is not in this key ring")


@pytest.mark.parametrize("fault", ["full", "tampered", "gone"])
def test_without_a_log_nothing_is_unscrambled(
    video: Path, ring: KeyRing, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DisclosureLog(ring)
    log.append("refused", {"user": "mallory"})
    if fault == "tampered":
        log.path.write_bytes(log.path.read_bytes().replace(b"mallory", b"somebod"))
        refused(video, ring, tmp_path, DataError, "line 1 was changed")
    elif fault == "gone":
        log.path.unlink()
        refused(video, ring, tmp_path, UsageError, "disclosure log")
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        approval = approved(video, tmp_path)
        monkeypatch.setattr(os, "fsync", full)
        refused(video, ring, tmp_path, StorageError, "no space", approval=approval)


def test_an_outcome_that_cannot_be_logged_leaves_no_picture(
    video: Path, ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = DisclosureLog.append

    def only_the_first(self: DisclosureLog, event: str, facts: Any, **options: Any) -> Any:
        if event == "unscrambled":
            raise StorageError(self.path, "no space left on the disk", "free space")
        return append(self, event, facts, **options)

    monkeypatch.setattr(DisclosureLog, "append", only_the_first)
    with pytest.raises(StorageError):
        bring_back(video, ring, tmp_path / "clear.mp4", approved(video, tmp_path))
    assert events(ring) == ["unscramble", "failed"]
    assert not (tmp_path / "clear.mp4").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_who_is_killed_before_the_first_picture_is_in_the_log(video: Path, ring: KeyRing, tmp_path: Path) -> None:
    approval = approved(video, tmp_path)
    paths = [str(path) for path in (video, tmp_path / "clear.mp4", ring.path, approval)]
    code = f"""
        import os, signal
        from pathlib import Path
        from privseg.streaming import unscramble as module
        module.os_user = lambda: "alice"
        module.decrypt = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        video, out, ring, approval = map(Path, {paths!r})
        module.unscramble(video, out, key_ring=ring, reason="theft", approval=approval, start=0.0, end=1.0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert events(ring) == ["unscramble"]
    assert not (tmp_path / "clear.mp4").exists()
    refused(video, ring, tmp_path, PrivacyViolationPrevented, "used before", approval=approval)


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"\xff\xfe\n"])
def test_a_damaged_sidecar_is_named(video: Path, damage: bytes) -> None:
    sidecar_path(video).write_bytes(damage)
    with pytest.raises(DataError, match=r"out\.mp4\.scramble\.jsonl"):
        Sidecar.read(video)


def test_a_video_without_a_sidecar_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds nothing that can be unscrambled"):
        Sidecar.read(tmp_path / "out.mp4")


def gateway(ring: Path | None, out: Path, clip: Path) -> GatewayConfig:
    said = {"source": str(clip), "output": str(out), "method": "scramble", "purpose": "test", "realtime": False}
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
        "cameras: {door: {source: a, output: b.mp4, method: scramble, purpose: test}}\n"
    )
    assert load_config(path, {"KEYS": "/run/keys"}).keys.ring == Path("/run/keys/ring.json")


def test_the_commands_do_it_and_say_loudly_what_came_out(
    video: Path, ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, keys = CliRunner(), ["--key-ring", str(ring.path)]
    approval, out = tmp_path / "approval.json", tmp_path / "clear.mp4"
    window = ["--from", "0", "--to", "0.4"]
    monkeypatch.setattr(approvals, "os_user", lambda: "bob")
    give = ["approve", str(video), "--approver-key", str(tmp_path / "bob.pem"), *window]
    give += ["--reason", "theft", "--requester", "alice", "--expires-in", "30m", "--out", str(approval)]
    assert "once" in run.invoke(app, give, catch_exceptions=False).output
    ask = ["unscramble", str(video), str(out), *keys, *window, "--reason", "theft", "--approval", str(approval)]
    done = run.invoke(app, ask, catch_exceptions=False)
    assert "SHOWS PEOPLE" in done.output
    assert len(read_video(out)) == 5
    assert "2 entries" in run.invoke(app, ["keys", "log", "--verify", *keys], catch_exceptions=False).output
    shown = json.loads(run.invoke(app, ["keys", "log", "--json", *keys], catch_exceptions=False).output)
    assert [entry["event"] for entry in shown] == ["unscramble", "unscrambled"]
    log = DisclosureLog(ring).path
    log.write_bytes(log.read_bytes().replace(b"alice", b"carol"))
    assert isinstance(run.invoke(app, ["keys", "log", "--verify", *keys]).exception, DataError)
