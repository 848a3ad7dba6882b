"""What is drawn by a key is the key's, the camera's and the session's; with the same key it is the same again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from filter_cases import IRREVERSIBLE, OBFUSCATING, noise_picture, walkers

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.keyed import keystream
from privseg.privacy.filters.registry import create_method
from privseg.privacy.keys import SessionSecrets

KEYED: list[tuple[str, dict[str, Any]]] = [
    ("noise", {}),
    ("warp", {}),
    ("false_colors", {}),
    ("token", {}),
    ("hash", {}),
    ("hash", {"of": "block"}),
]


class Ring:
    """A key ring that outlives the methods made with it."""

    epoch = "1"

    def key(self, purpose: str, camera: str) -> bytes:
        return (purpose + camera).encode().ljust(32, b".")[:32]


@pytest.mark.parametrize(("name", "params"), IRREVERSIBLE)
def test_frame_after_frame_nothing_depends_on_the_covered_pixels(name: str, params: dict[str, Any]) -> None:
    secrets = SessionSecrets()
    one, other = (create_method(name, params, secrets=secrets) for _ in range(2))
    for step in range(6):
        mask = walkers(step)
        image, disguised = noise_picture(step), noise_picture(step)
        disguised[mask] = 255 - disguised[mask]
        outputs = [
            covered_copy(picture, mask, method, sequence=step) for picture, method in ((image, one), (disguised, other))
        ]
        assert outputs[0].tobytes() == outputs[1].tobytes()
    assert one.cells_across() == 0


@pytest.mark.parametrize(("name", "params"), [*IRREVERSIBLE, *OBFUSCATING])
def test_the_same_keys_and_frames_give_the_same_output(name: str, params: dict[str, Any]) -> None:
    secrets = SessionSecrets()
    one, other = (create_method(name, params, secrets=secrets) for _ in range(2))
    for step in range(3):
        outputs = [covered_copy(noise_picture(), walkers(step), method, sequence=step) for method in (one, other)]
        assert np.array_equal(outputs[0], outputs[1])


@pytest.mark.parametrize(("name", "params"), KEYED)
def test_sessions_and_cameras_differ_even_with_a_key_ring(name: str, params: dict[str, Any]) -> None:
    mask, image = walkers(), noise_picture()
    first = create_method(name, params, secrets=SessionSecrets())
    drawn = covered_copy(image, mask, first, camera="door")
    # A palette of five colours has 120 orders only: several sessions are looked at.
    sessions = [create_method(name, params, secrets=SessionSecrets()) for _ in range(6)]
    assert any(not np.array_equal(drawn, covered_copy(image, mask, session, camera="door")) for session in sessions)
    assert any(not np.array_equal(drawn, covered_copy(image, mask, first, camera=f"yard {n}")) for n in range(6))
    if name != "noise":
        ring = [create_method(name, params, secrets=Ring()) for _ in range(7)]
        outputs = {covered_copy(image, mask, method, camera="door").tobytes() for method in ring}
        assert len(outputs) > 1
        stable = [create_method(name, {**params, "stable": True}, secrets=Ring()) for _ in range(2)]
        again = {covered_copy(image, mask, method, camera="door").tobytes() for method in stable}
        assert len(again) == 1


def test_a_persons_texture_moves_with_the_person_and_blocks_stay_with_the_scene() -> None:
    before, after = walkers(0), walkers(4)
    person = create_method("hash")
    drawn = [covered_copy(noise_picture(), mask, person, sequence=n) for n, mask in enumerate((before, after))]
    assert np.array_equal(drawn[0][60:120, 40:91], drawn[1][60:120, 52:103])
    assert not np.array_equal(drawn[0][60:120, 40:91], drawn[0][80:140, 150:201])  # the other has another
    block = create_method("hash", {"of": "block"})
    drawn = [covered_copy(noise_picture(), mask, block, sequence=n) for n, mask in enumerate((before, after))]
    assert np.array_equal(drawn[0][before & after], drawn[1][before & after])


@pytest.mark.parametrize("of", ["person", "block"])
def test_textures_change_with_the_epoch(of: str) -> None:
    method = create_method("hash", {"of": of, "epoch": 3})
    drawn = [covered_copy(noise_picture(), walkers(), method, sequence=n) for n in range(4)]
    assert np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[2], drawn[3])


def test_a_key_stream_is_the_keys_and_the_numbers_own() -> None:
    key = bytes(range(32))
    streams = [keystream(key, 4096), keystream(key, 4096, 1), keystream(key, 4096, 0, 1), keystream(bytes(32), 4096)]
    assert np.array_equal(streams[0], keystream(key, 4096, 0, 0))
    assert len({stream.tobytes() for stream in streams}) == 4
    assert all(100 < stream.mean() < 155 for stream in streams)
    # what one stream ends with, another does not begin with
    assert streams[0].tobytes().find(streams[1][:16].tobytes()) < 0
