"""People come back from a scrambled video for two who agree, and the log knows first."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
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
from privseg.privacy.key_ring import KeyRing
from privseg.privacy.masks import MaskPolicy
from privseg.streaming import unscramble as unscramble_module
from privseg.streaming.anonymize import anonymize
from privseg.streaming.scramble_record import Sidecar, sidecar_path
from privseg.streaming.unscramble import unscramble
from privseg.testing.camera import FakeCamera, is_slate, person_box, read_video, scene, write_video
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


def test_who_is_told_to_end_in_the_middle_leaves_nothing_and_says_so(
    video: Path, ring: KeyRing, tmp_path: Path
) -> None:
    paths = [str(path) for path in (video, tmp_path / "clear.mp4", ring.path, approved(video, tmp_path))]
    code = f"""
        import os, signal
        from pathlib import Path
        from privseg.streaming import unscramble as module
        module.os_user = lambda: "alice"
        write = module._ClearWriter.write
        def stop(self, picture, seconds):
            write(self, picture, seconds)
            os.kill(os.getpid(), signal.SIGTERM)
        module._ClearWriter.write = stop
        video, out, ring, approval = map(Path, {paths!r})
        module.unscramble(video, out, key_ring=ring, reason="theft", approval=approval, start=0.0, end=1.0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True)
    assert "KeyboardInterrupt" in done.stderr
    assert events(ring) == ["unscramble", "failed"]
    assert not (tmp_path / "clear.mp4").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_who_is_killed_in_the_middle_leaves_a_hidden_private_part_and_a_line_without_an_outcome(
    video: Path, ring: KeyRing, tmp_path: Path
) -> None:
    approval, out = approved(video, tmp_path), tmp_path / "clear.mp4"
    paths = [str(path) for path in (video, out, ring.path, approval)]
    code = f"""
        import os, signal
        from pathlib import Path
        from privseg.streaming import unscramble as module
        module.os_user = lambda: "alice"
        os.umask(0)
        write, count = module._ClearWriter.write, []
        def stop(self, picture, seconds):
            write(self, picture, seconds)
            count.append(1)
            if len(count) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        module._ClearWriter.write = stop
        video, out, ring, approval = map(Path, {paths!r})
        module.unscramble(video, out, key_ring=ring, reason="theft", approval=approval, start=0.0, end=1.0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert events(ring) == ["unscramble"]
    assert not out.exists()
    (part,) = tmp_path.glob(".clear.mp4.*.unscrambled.partial")  # where docs/keys.md says that it lies
    assert part.stat().st_mode & 0o777 == 0o600
    assert bring_back(video, ring, out, approved(video, tmp_path))["unscrambled"] == FRAMES - 1
    assert part.exists()  # another run neither uses nor removes it


@pytest.mark.parametrize("damage", [b"", b"{}\n", b"\xff\xfe\n"])
def test_a_damaged_sidecar_is_named(video: Path, damage: bytes) -> None:
    sidecar_path(video).write_bytes(damage)
    with pytest.raises(DataError, match=r"out\.mp4\.scramble\.jsonl"):
        Sidecar.read(video)


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
