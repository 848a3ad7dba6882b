"""Keys differ where they must, stay readable over rotation, are gone when destroyed, and are shown to nobody."""

from __future__ import annotations

import json
import os
import pickle
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privseg.cli import app
from privseg.errors import StorageError, UsageError
from privseg.privacy.key_ring import KEY_RING_VARIABLE, KeyRing, open_key_ring
from privseg.privacy.keys import SessionSecrets, derive


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "keys" / "ring.json")


def stored_keys(ring: KeyRing) -> list[str]:
    assert ring.path is not None
    content = json.loads(ring.path.read_text())
    return [content["log_key"], *(epoch["key"] for epoch in content["epochs"] if epoch["key"])]


def test_keys_differ_by_purpose_camera_and_epoch_and_are_the_same_after_a_restart(ring: KeyRing) -> None:
    assert ring.path is not None
    later = ring.rotate()
    keys = {ring.key("scramble", "a"), ring.key("scramble", "b"), ring.key("hash", "a"), later.key("scramble", "a")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
    assert KeyRing.load(ring.path).key("scramble", "a") == later.key("scramble", "a")
    assert later.at(ring.epoch).key("scramble", "a") == ring.key("scramble", "a")


def test_parts_of_a_context_do_not_run_into_each_other() -> None:
    master = bytes(32)
    assert derive(master, "ab", "c") != derive(master, "a", "bc")


def test_the_keys_of_two_sessions_are_unrelated() -> None:
    assert SessionSecrets().key("hash", "a") != SessionSecrets().key("hash", "a")


def test_a_destroyed_key_is_nowhere_in_the_folder_and_cannot_be_asked_for(ring: KeyRing) -> None:
    assert ring.path is not None
    key = stored_keys(ring)[1]
    earlier = ring.path.open("rb")  # the file's old bytes, as a file system keeps them
    after = ring.rotate().destroy(ring.epoch)
    with earlier:
        assert key.encode() not in earlier.read()
    for file in ring.path.parent.iterdir():
        assert key.encode() not in file.read_bytes()
    with pytest.raises(UsageError, match="destroyed on"):
        after.at(ring.epoch)


def test_the_key_in_use_cannot_be_destroyed_nor_one_that_is_not_there(ring: KeyRing) -> None:
    with pytest.raises(UsageError, match="is in use"):
        ring.destroy(ring.epoch)
    with pytest.raises(UsageError, match="is not in this key ring"):
        ring.destroy("00000000")


def test_the_log_key_survives_rotation_and_destruction(ring: KeyRing) -> None:
    assert ring.rotate().destroy(ring.epoch).log_key == ring.log_key


def test_a_ring_that_others_may_read_is_refused(ring: KeyRing) -> None:
    assert ring.path is not None
    assert ring.path.stat().st_mode & 0o777 == 0o600
    for mode in (0o640, 0o604, 0o620):
        ring.path.chmod(mode)
        with pytest.raises(UsageError, match="others than its owner"):
            KeyRing.load(ring.path)


def test_a_ring_is_0600_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ring = KeyRing.create(tmp_path / "ring.json").rotate()
    finally:
        os.umask(before)
    assert ring.path is not None
    assert ring.path.stat().st_mode & 0o777 == 0o600


def test_a_ring_is_never_overwritten_by_a_new_one(ring: KeyRing) -> None:
    assert ring.path is not None
    with pytest.raises(UsageError, match="exists"):
        KeyRing.create(ring.path)
    assert KeyRing.load(ring.path).epoch == ring.epoch


def test_a_write_that_fails_leaves_the_ring_as_it_was(ring: KeyRing, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ring.path is not None

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = ring.path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="no space"):
        ring.rotate()
    assert ring.path.read_bytes() == before
    assert not list(ring.path.parent.glob("*.partial"))


def test_rotations_at_the_same_time_all_count(ring: KeyRing) -> None:
    assert ring.path is not None
    threads = [threading.Thread(target=ring.rotate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(KeyRing.load(ring.path).epochs) == 9


@pytest.mark.parametrize("damage", ["cut", "key", "empty", "field"])
def test_a_damaged_ring_is_refused_without_quoting_it(ring: KeyRing, damage: str) -> None:
    assert ring.path is not None
    text = ring.path.read_text()
    keys = stored_keys(ring)
    key = keys[1]
    damaged = {
        "cut": text[:-20],
        "key": text.replace(key, key[:-2]),
        "empty": "",
        "field": text.replace('"epochs"', '"epocs"'),
    }
    ring.path.write_text(damaged[damage])
    with pytest.raises(UsageError, match="is no key ring") as caught:
        KeyRing.load(ring.path)
    chain = [caught.value, caught.value.__cause__]
    assert not any(key[:12] in str(error) for error in chain for key in keys)


def test_the_environment_gives_the_same_keys_and_cannot_be_changed(
    ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ring.path is not None
    assert open_key_ring(None) is None
    monkeypatch.setenv(KEY_RING_VARIABLE, ring.path.read_text())
    found = open_key_ring(None)
    assert found is not None
    assert found.key("scramble", "a") == ring.key("scramble", "a")
    with pytest.raises(UsageError, match="cannot be changed"):
        found.rotate()


def test_keys_and_videos_live_apart(ring: KeyRing, tmp_path: Path) -> None:
    assert ring.path is not None
    for out in (ring.path.parent / "out.mp4", tmp_path / "out.mp4", tmp_path / "keys" / ".." / "out.mp4"):
        with pytest.raises(UsageError, match="lies in the folder of the video"):
            open_key_ring(ring.path, [out])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "ring.json").symlink_to(ring.path)
    with pytest.raises(UsageError, match="lies in the folder of the video"):
        open_key_ring(tmp_path / "videos" / "ring.json", [tmp_path / "videos" / "out.mp4"])
    assert open_key_ring(ring.path, [tmp_path / "videos" / "out.mp4"]) is not None


def test_neither_text_nor_pickle_of_a_ring_gives_keys(ring: KeyRing) -> None:
    keys = stored_keys(ring)
    shown = repr(ring) + repr(ring.epochs) + repr(vars(ring)) + str(ring.approvers)
    assert not any(key in shown or repr(bytes.fromhex(key)) in shown for key in keys)
    with pytest.raises(TypeError):
        pickle.dumps(ring)


def test_the_commands_create_list_rotate_and_destroy_and_never_print_a_key(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    run = CliRunner()
    option = ["--key-ring", str(path)]
    printed = run.invoke(app, ["keys", "create", *option], catch_exceptions=False).output
    first = KeyRing.load(path)
    keys = stored_keys(first)
    printed += run.invoke(app, ["keys", "rotate", *option], catch_exceptions=False).output
    keys += stored_keys(KeyRing.load(path))
    printed += run.invoke(app, ["keys", "destroy", first.epoch, *option], catch_exceptions=False).output
    listed = json.loads(run.invoke(app, ["keys", "list", "--json", *option], catch_exceptions=False).stdout)
    printed += run.invoke(app, ["keys", "list", *option], catch_exceptions=False).output + json.dumps(listed)
    states = [epoch["state"].split()[0] for epoch in listed["epochs"]]
    assert states == ["destroyed", "in"]
    assert not any(key in printed for key in keys)
