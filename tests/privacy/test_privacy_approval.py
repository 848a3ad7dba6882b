"""Nobody unscrambles alone, too much, too late or twice; and the log tells when somebody touched it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from privseg.errors import DataError, PrivacyViolationPrevented, StorageError, UsageError
from privseg.privacy import approval as approvals
from privseg.privacy import secret_files
from privseg.privacy.approval import (
    Approval,
    approve,
    create_approver_key,
    read_approval,
    read_public_key,
    seconds_of,
)
from privseg.privacy.disclosure import DisclosureLog
from privseg.privacy.key_ring import KeyRing

VIDEO = {"sidecar_sha256": "ab" * 32, "session": "cd" * 16}


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    ring = KeyRing.create(tmp_path / "ring.json")
    DisclosureLog(ring).create()
    return ring.trust("bob", create_approver_key(tmp_path / "bob.pem"))


def signed(tmp_path: Path, key: str = "bob.pem", user: str = "bob", **terms: Any) -> Approval:
    given = {"video": "v.mp4", "camera": "door", "start": 10, "end": 20, "reason": "theft", "requester": "alice"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(approvals, "os_user", lambda: user)
        return approve(tmp_path / key, **{**VIDEO, **given, "expires_in": 60, **terms})


def check(ring: KeyRing, approval: Approval, **asked: Any) -> str:
    return approval.check(ring.approvers, **{"user": "alice", "start": 10, "end": 20, **VIDEO, **asked}).name


def test_a_second_persons_approval_permits_what_it_says(ring: KeyRing, tmp_path: Path) -> None:
    approval = signed(tmp_path)
    assert check(ring, approval) == "bob"
    assert check(ring, approval, start=12, end=13) == "bob"
    (tmp_path / "a.json").write_text(approval.model_dump_json(indent=4))
    assert check(ring, read_approval(tmp_path / "a.json")) == "bob"


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"start": 9.9}, "10 to 20 s only"),
        ({"end": 20.1}, "10 to 20 s only"),
        ({"sidecar_sha256": "ff" * 32}, "another video"),
        ({"session": "ff" * 16}, "another video"),
        ({"user": "bob"}, "who asks: it takes a second person"),
        ({"user": "mallory"}, "for alice, not for mallory"),
    ],
)
def test_it_permits_nothing_else(ring: KeyRing, tmp_path: Path, asked: dict[str, Any], fault: str) -> None:
    with pytest.raises(PrivacyViolationPrevented, match=fault):
        check(ring, signed(tmp_path), **asked)


def test_the_approver_may_not_ask_under_another_login(ring: KeyRing, tmp_path: Path) -> None:
    approval = signed(tmp_path, user="rob", requester="bob")  # bob signs as rob, for himself
    with pytest.raises(PrivacyViolationPrevented, match="who asks: it takes a second person"):
        check(ring, approval, user="bob")
    with pytest.raises(PrivacyViolationPrevented, match="who asks: it takes a second person"):
        check(ring, signed(tmp_path, user="rob"), user="rob")


def test_it_expires(ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = signed(tmp_path)
    monkeypatch.setattr("time.time", lambda: approval.terms.expires)
    with pytest.raises(PrivacyViolationPrevented, match="is valid from"):
        check(ring, approval)


def test_it_is_not_valid_before_it_was_given(ring: KeyRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = signed(tmp_path)
    monkeypatch.setattr("time.time", lambda: approval.terms.created - 301)  # a clock that was put back
    with pytest.raises(PrivacyViolationPrevented, match="is valid from"):
        check(ring, approval)


def test_nobody_else_can_approve(ring: KeyRing, tmp_path: Path) -> None:
    create_approver_key(tmp_path / "mallory.pem")
    with pytest.raises(PrivacyViolationPrevented, match="nobody whom the key ring trusts"):
        check(ring, signed(tmp_path, key="mallory.pem"))


@pytest.mark.parametrize("field", ["start", "end", "reason", "requester", "expires", "approver_user", "nonce", "video"])
def test_no_term_can_be_changed_afterwards(ring: KeyRing, tmp_path: Path, field: str) -> None:
    approval = signed(tmp_path)
    value = getattr(approval.terms, field)
    other = value + 1 if isinstance(value, float) else ("0" * 32 if field == "nonce" else "carol")
    changed = approval.model_copy(update={"terms": approval.terms.model_copy(update={field: other})})
    with pytest.raises(PrivacyViolationPrevented, match="or was changed"):
        check(ring, changed)


@pytest.mark.parametrize(
    "terms",
    [
        {"start": 20, "end": 10},
        {"start": -1},
        {"reason": " "},
        {"requester": "bob"},
        {"expires_in": 31 * 86_400},
        {"expires_in": 0},
        {"end": float("inf")},
    ],
)
def test_terms_that_make_no_sense_are_not_signed(ring: KeyRing, tmp_path: Path, terms: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        signed(tmp_path, **terms)


def test_spans_of_time() -> None:
    assert [seconds_of(text) for text in ("30m", "8h", "2d")] == [1800, 28_800, 172_800]
    for text in ("8", "h", "-1h", "1y"):
        with pytest.raises(UsageError):
            seconds_of(text)


def test_an_approvers_key_that_others_may_read_is_refused(ring: KeyRing, tmp_path: Path) -> None:
    (tmp_path / "bob.pem").chmod(0o644)
    with pytest.raises(UsageError, match="others than its owner"):
        signed(tmp_path)


def test_an_approver_may_make_the_keys_alone(ring: KeyRing, tmp_path: Path) -> None:
    key, public = tmp_path / "carol.pem", tmp_path / "carol.pub"
    for command in (["genpkey", "-algorithm", "ed25519", "-out", key], ["pkey", "-in", key, "-pubout", "-out", public]):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    key.chmod(0o600)
    trusting = ring.trust("carol", read_public_key(public))
    assert check(trusting, signed(tmp_path, key="carol.pem", user="carol")) == "carol"
    with pytest.raises(UsageError, match="is known already"):
        trusting.trust("dave", read_public_key(public))
    with pytest.raises(UsageError, match="no public key"):
        read_public_key(key)


@pytest.fixture
def log(ring: KeyRing) -> DisclosureLog:
    log = DisclosureLog(ring)
    for number in range(4):
        log.append("unscramble", {"user": "alice", "reason": "theft", "approval": str(number)}, once="approval")
    return log


def lines(log: DisclosureLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_entries_follow_one_another_and_the_log_is_private(ring: KeyRing, log: DisclosureLog) -> None:
    assert [entry["sequence"] for entry in log.verify()] == [1, 2, 3, 4]
    assert log.path.stat().st_mode & 0o777 == 0o600
    after = ring.rotate().destroy(ring.epoch)  # keys come and go, the log stays readable
    assert len(DisclosureLog(after).verify()) == 4


def test_what_may_happen_once_is_refused_the_second_time(log: DisclosureLog) -> None:
    with pytest.raises(PrivacyViolationPrevented, match="used before"):
        log.append("unscramble", {"approval": "2"}, once="approval")
    assert len(log.verify()) == 4


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [
        (lambda lines: [lines[0], lines[1].replace(b"theft", b"order"), *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: lines[1:], 1),
        (lambda lines: lines[:3], 4),
        (lambda lines: [], 1),
        (lambda lines: [*lines, lines[3]], 5),
        (lambda lines: [*lines[:3], b"garbage\n"], 4),
        (lambda lines: [*lines[:3], b"[]\n"], 4),
        (lambda lines: [*lines[:3], lines[3][:-1]], 4),
        (lambda lines: [*lines[:2], b"\n", *lines[2:]], 3),
    ],
)
def test_the_first_line_that_was_touched_is_named_and_nothing_more_is_added(
    log: DisclosureLog, tamper: Any, broken: int
) -> None:
    log.path.write_bytes(b"".join(tamper(lines(log))))
    with pytest.raises(DataError, match=f"line {broken} "):
        log.verify()
    with pytest.raises(DataError, match=f"line {broken} "):
        log.append("unscramble", {})


def test_a_line_sealed_with_another_key_is_noticed(log: DisclosureLog, tmp_path: Path) -> None:
    other = KeyRing.create(tmp_path / "other" / "ring.json")
    forged = DisclosureLog(other)
    forged.create()
    for _ in range(4):
        forged.append("unscramble", {"user": "nobody"})
    log.path.write_bytes(forged.path.read_bytes())
    with pytest.raises(DataError, match="line 1 was changed"):
        log.verify()


def test_a_line_that_took_the_place_of_another_is_noticed(log: DisclosureLog) -> None:
    """Both were written by privseg itself, with the right key, from the same beginning."""
    head = log.path.with_name("ring.json.log-head")
    begun, counted = log.path.read_bytes(), head.read_bytes()
    log.append("refused", {"user": "mallory"})
    other = log.path.read_bytes()
    log.path.write_bytes(begun)
    head.write_bytes(counted)
    log.append("unscramble", {"user": "mallory"})
    log.path.write_bytes(other)
    with pytest.raises(DataError, match="line 5 is not the one"):
        log.verify()


def test_a_head_that_was_touched_or_taken_away_is_noticed(log: DisclosureLog) -> None:
    head = log.path.with_name("ring.json.log-head")
    before = head.read_bytes()
    head.write_bytes(before.replace(b'"count":4', b'"count":3'))
    with pytest.raises(DataError, match="was changed"):
        log.verify()
    head.unlink()
    log.path.unlink()
    with pytest.raises(UsageError):
        log.append("unscramble", {})


def test_a_stop_between_line_and_head_leaves_the_line(log: DisclosureLog, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("privseg.privacy.disclosure.replace_secret", stop)
        with pytest.raises(Stopped):
            log.append("unscramble", {"approval": "last"})
    assert [entry["sequence"] for entry in log.verify()] == [1, 2, 3, 4, 5]
    with pytest.raises(PrivacyViolationPrevented):
        log.append("unscramble", {"approval": "last"}, once="approval")
    log.append("failed", {"of": 5})
    assert len(log.verify()) == 6


def test_a_line_that_was_being_written_when_the_machine_stopped_is_dropped(log: DisclosureLog) -> None:
    with log.path.open("ab") as file:
        file.write(lines(log)[3][:40])
    log.append("failed", {"of": 4})
    assert [entry["event"] for entry in log.verify()][-2:] == ["unscramble", "failed"]


def test_a_log_on_a_full_disk_refuses_and_stays_whole(log: DisclosureLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(secret_files.os, "fsync", full)
        with pytest.raises(StorageError, match="no space"):
            log.append("unscramble", {})
    assert len(log.verify()) == 4


def test_entries_are_plain_json(log: DisclosureLog) -> None:
    assert {"sequence", "previous", "time", "event", "user", "reason", "approval", "hmac"} == set(
        json.loads(lines(log)[0])
    )
