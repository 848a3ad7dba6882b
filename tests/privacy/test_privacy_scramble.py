"""Scrambled people are noise to all but the holder of the key, who gets them back bit for bit or not at all."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privseg.errors import DataError, PrivacyViolationPrevented, UsageError
from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.registry import create_method
from privseg.privacy.filters.scramble import Scramble, ScrambleRecord, decrypt
from privseg.privacy.frames import RawFrame, protect
from privseg.privacy.key_ring import KeyRing
from privseg.privacy.keys import SessionSecrets
from privseg.privacy.masks import PersonMask
from privseg.testing.camera import BEACON

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def crowd() -> tuple[Image, Mask]:
    """Three people of one colour each, one of them at the edge, on a plain ground."""
    image, mask = np.full((97, 131, 3), 90, np.uint8), np.zeros((97, 131), np.bool_)
    for top, left in ((5, 10), (20, 70), (63, 100)):
        mask[top : top + 40, left : left + 31] = True
    image[mask] = BEACON
    return image, mask


def record_of(method: Scramble) -> ScrambleRecord:
    """Through JSON, as it is kept."""
    return ScrambleRecord.model_validate_json(json.dumps(method.record()))


@given(
    scene=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=33).flatmap(
        lambda shape: st.tuples(hnp.arrays(np.uint8, (*shape, 3)), hnp.arrays(np.bool_, shape, elements=st.booleans()))
    ),
    number=st.integers(0, 2**40),
)
def test_the_holder_of_the_key_gets_every_bit_back(scene: tuple[Image, Mask], number: int) -> None:
    image, mask = scene
    keys = SessionSecrets()
    method = Scramble(secrets=keys)
    covered = covered_copy(image, mask, method, camera="door", sequence=number)
    assert np.array_equal(covered[~mask], image[~mask])
    assert np.array_equal(decrypt(covered, record_of(method), keys), image)


def test_what_is_left_of_a_person_is_noise() -> None:
    image, mask = crowd()
    covered = covered_copy(image, mask, Scramble())[mask].astype(float)
    # Bounds of eight standard deviations: fair noise never crosses them.
    assert np.abs(covered.mean(axis=0) - 127.5).max() < 10
    assert np.abs(np.corrcoef(covered[:-1].ravel(), covered[1:].ravel())[0, 1]) < 0.08
    expected = covered.size / 256
    chi_squared = ((np.bincount(covered.astype(int).ravel(), minlength=256) - expected) ** 2 / expected).sum()
    assert chi_squared < 436  # 255 plus eight times 22.6


def test_two_frames_of_a_scene_that_stands_still_share_nothing() -> None:
    image, mask = crowd()
    method = Scramble()
    first, second = (covered_copy(image, mask, method, sequence=number)[mask] for number in (0, 1))
    assert (first == second).mean() < 0.01
    difference = first ^ second  # with a stream used twice, that of the people
    assert np.abs(difference.mean() - 127.5) < 5


def test_people_of_one_frame_other_cameras_and_other_sessions_share_nothing() -> None:
    image, mask = crowd()
    keys = SessionSecrets()
    method = Scramble(secrets=keys)
    covered = covered_copy(image, mask, method, camera="a")
    people = [covered[5:45, 10:41], covered[20:60, 70:101]]
    others = [
        covered_copy(image, mask, method, camera="b"),
        covered_copy(image, mask, Scramble(secrets=keys), camera="a"),
    ]
    people += [other[5:45, 10:41] for other in others]
    for index, one in enumerate(people):
        for another in people[index + 1 :]:
            assert (one == another).mean() < 0.02


@pytest.mark.parametrize("second", [5, 4, 0])
def test_no_number_is_used_twice(second: int) -> None:
    image, mask = crowd()
    method = Scramble()
    covered_copy(image, mask, method, sequence=5)
    with pytest.raises(PrivacyViolationPrevented, match="nonce"):
        covered_copy(image, mask, method, sequence=second)
    assert method.record() is None
    covered_copy(image, mask, method, sequence=6)


def test_another_key_brings_nobody_back() -> None:
    image, mask = crowd()
    method = Scramble(secrets=SessionSecrets())
    covered = covered_copy(image, mask, method)
    with pytest.raises(DataError, match="the key is another one"):
        decrypt(covered, record_of(method), SessionSecrets())


def test_one_changed_bit_brings_nobody_back() -> None:
    image, mask = crowd()
    keys = SessionSecrets()
    method = Scramble(secrets=keys)
    covered = covered_copy(image, mask, method)
    covered[65, 105, 2] ^= 1
    with pytest.raises(DataError, match="changed"):
        decrypt(covered, record_of(method), keys)
    covered[65, 105, 2] ^= 1
    covered[0, 0, 0] ^= 1  # the ground is not vouched for
    assert decrypt(covered, record_of(method), keys)[65, 105].tolist() == list(BEACON)


def test_a_changed_record_brings_nobody_back() -> None:
    image, mask = crowd()
    keys = SessionSecrets()
    method = Scramble(secrets=keys)
    covered = covered_copy(image, mask, method, camera="door", sequence=3)
    record = record_of(method)
    one, two, three = record.people
    moved = one.model_copy(update={"box": (one.box[0] + 1, *one.box[1:])})
    outside = one.model_copy(update={"box": (one.box[0], 120, *one.box[2:])})
    shorter = one.model_copy(update={"runs": one.runs[:-1]})
    retagged = one.model_copy(update={"tag": two.tag})
    changes = [
        {"people": (moved, two, three)},
        {"people": (outside, two, three)},
        {"people": (shorter, two, three)},
        {"people": (retagged, two, three)},
        {"people": (two, one, three)},
        {"people": (two, three)},
        {"number": 4},
        {"camera": "hall"},
        {"session": "0" * 32},
        {"height": 96},
    ]
    for change in changes:
        with pytest.raises(DataError):
            decrypt(covered, record.model_copy(update=change), keys)
    assert np.array_equal(decrypt(covered, record, keys), image)


def test_ciphertext_that_was_moved_together_with_its_record_brings_nobody_back() -> None:
    """Every tag would fit the pixels alone; it is the place, the outline and the frame that do not."""
    keys = SessionSecrets()
    method = Scramble(secrets=keys)
    image, mask = np.full((60, 80, 3), 90, np.uint8), np.zeros((60, 80), np.bool_)
    mask[10:40, 10:20] = mask[30:40, 10:40] = True  # an L
    image[mask] = BEACON
    covered = covered_copy(image, mask, method, camera="door")
    record = record_of(method)
    (person,) = record.people
    pixels = covered[mask]

    aside = np.full_like(covered, 90)
    aside[np.roll(mask, 30, axis=1)] = pixels
    moved = person.model_copy(update={"box": (10, 40, *person.box[2:])})

    bent_mask = mask.copy()
    bent_mask[10:40, 10:40] = mask[10:40, 10:40][::-1]
    bent = np.full_like(covered, 90)
    bent[bent_mask] = pixels
    uncovered, solid = 20, 10
    runs = (0, 10 * 30 + solid, *[uncovered, solid] * 19, uncovered)
    turned = person.model_copy(update={"runs": runs})
    assert sum(runs) == sum(person.runs)
    assert sum(runs[1::2]) == sum(person.runs[1::2])

    taller = np.concatenate([covered, np.full((4, 80, 3), 90, np.uint8)])
    for picture, change in (
        (aside, {"people": (moved,)}),
        (bent, {"people": (turned,)}),
        (taller, {"height": 64}),
    ):
        with pytest.raises(DataError, match="changed"):
            decrypt(picture, record.model_copy(update=change), keys)
    assert np.array_equal(decrypt(covered, record, keys), image)


def test_the_record_holds_no_pixel_and_no_key(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path / "ring.json")
    method = Scramble(secrets=ring)
    image, mask = crowd()
    covered_copy(image, mask, method, camera="door")
    first = json.dumps({**(method.record() or {}), "session": "", "people": [p.box for p in record_of(method).people]})
    other = Scramble(secrets=ring)
    covered_copy(255 - image, mask, other, camera="door")
    assert first == json.dumps(
        {**(other.record() or {}), "session": "", "people": [p.box for p in record_of(other).people]}
    )
    assert [p.runs for p in record_of(method).people] == [p.runs for p in record_of(other).people]
    assert ring.key("scramble", "door").hex() not in json.dumps(method.record())


def test_rotation_keeps_what_came_before_and_destruction_does_not(tmp_path: Path) -> None:
    ring = KeyRing.create(tmp_path / "ring.json")
    image, mask = crowd()
    method = Scramble(secrets=ring)
    covered = covered_copy(image, mask, method, camera="door")
    record = record_of(method)
    rotated = ring.rotate()
    assert np.array_equal(decrypt(covered, record, rotated.at(record.epoch)), image)
    with pytest.raises(DataError):
        decrypt(covered, record, rotated)
    destroyed = rotated.destroy(record.epoch)
    with pytest.raises(UsageError, match="nothing brings back"):
        destroyed.at(record.epoch)
    with pytest.raises(DataError):
        decrypt(covered, record, destroyed)


def test_it_needs_a_key_ring_and_stands_alone() -> None:
    with pytest.raises(UsageError, match="needs keys"):
        create_method("scramble")
    for name in ("scramble+silhouette", "pixelate+scramble"):
        with pytest.raises(UsageError, match="on its own"):
            create_method(name, secrets=SessionSecrets())


def test_the_right_key_brings_back_no_pixel_of_what_is_never_shown() -> None:
    image, mask = crowd()
    hidden = np.zeros(mask.shape, np.bool_)
    hidden[30:80, 60:120] = True  # a part of two people, and some ground
    restored, records = [], []
    for seed in (1, 2):
        picture = image.copy()
        picture[hidden] = np.random.default_rng(seed).integers(40, 256, (int(hidden.sum()), 3), np.uint8)
        keys = SessionSecrets()
        method = Scramble(secrets=keys)
        frame = RawFrame(picture, sequence=0, pts=0, time_base=Fraction(1, 10))
        frame.never_show(hidden)
        covered = protect(frame, PersonMask(mask, 0), method, "door").pixels
        records.append(record_of(method))
        restored.append(decrypt(covered, records[-1], keys))
    assert np.array_equal(*restored)  # whatever was there
    assert len(np.unique(restored[0][hidden], axis=0)) == 1
    assert restored[0][hidden].max() < 40
    assert np.array_equal(restored[0][~hidden], image[~hidden])  # the others came back
    assert [(person.box, person.runs) for person in records[0].people] == [
        (person.box, person.runs) for person in records[1].people
    ]
    (area,) = {sum(person.runs[1::2]) for person in records[0].people[1:2]}
    assert area < 40 * 31  # nothing of the hidden part was even encrypted
