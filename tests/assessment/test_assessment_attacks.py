"""The attacks find what there is to find, and nothing where there is nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from privseg.assessment.data import Portrait
from privseg.assessment.inversion import fuse_still, invert, try_keys
from privseg.assessment.quality import psnr, ssim
from privseg.assessment.subject import Subject, Variant, variants
from privseg.privacy.attacks import align, fuse, known_keystream, restorations, with_keystream
from privseg.privacy.filters.registry import METHODS


def person(seed: int, height: int = 120) -> Portrait:
    """Somebody in a patterned dress, on a noisy ground."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 130, (height + 24, height // 2 + 24, 3), dtype=np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    centre = (image.shape[1] // 2, image.shape[0] // 2)
    cv2.ellipse(mask, centre, (height // 5, height // 2), 0, 0, 360, 1, -1)
    dress = cv2.resize(
        rng.integers(0, 256, (9, 5, 3), dtype=np.uint8), image.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    own = mask.astype(bool)
    image[own] = dress[own]
    return Portrait(image, own, cv2.dilate(mask, np.ones((5, 5), np.uint8)).astype(bool))


PEOPLE = [person(seed) for seed in range(3)]


def best(protected: np.ndarray, portrait: Portrait) -> tuple[str, float]:
    """The attack that comes nearest, and what it wins in dB."""
    start = psnr(protected, portrait.image, portrait.mask)
    scored = [(psnr(g, portrait.image, portrait.mask) - start, n) for n, g in restorations(protected, portrait.mask)]
    gain, name = max(scored)
    return name, gain


def test_deconvolution_sharpens_a_blurred_person() -> None:
    one = PEOPLE[0]
    blurred = cv2.GaussianBlur(one.image, (0, 0), 0.05 * 120)
    name, gain = best(np.where(one.mask[..., None], blurred, one.image), one)
    assert "deconvolution 5%" in name
    assert gain > 1


def test_smoothing_takes_independent_noise_away() -> None:
    one = PEOPLE[0]
    noise = np.random.default_rng(0).normal(0, 60, one.image.shape)
    noisy = np.clip(one.image + noise, 0, 255).astype(np.uint8)
    name, gain = best(noisy, one)
    assert name.startswith(("smoothing", "median", "upsampled"))
    assert gain > 3


def test_a_colour_table_with_its_order_kept_is_undone() -> None:
    one = PEOPLE[0]
    grey = cv2.cvtColor(one.image, cv2.COLOR_RGB2GRAY)
    truth = Portrait(np.repeat(grey[..., None], 3, axis=2), one.person, one.mask)
    dim = np.repeat((grey // 8)[..., None], 3, axis=2)
    name, gain = best(dim, truth)
    assert name == "colour table by luminance"
    assert gain > 3


def test_attacks_change_nothing_outside_the_mask() -> None:
    one = PEOPLE[0]
    guesses = list(restorations(one.image, one.mask))
    assert len({name for name, _ in guesses}) == len(guesses) > 10
    assert all(np.array_equal(guess[~one.mask], one.image[~one.mask]) for _, guess in guesses)
    assert list(restorations(one.image, np.zeros_like(one.mask))) == []


def test_fusion_averages_what_changes_between_frames() -> None:
    one, rng = PEOPLE[0], np.random.default_rng(1)
    frames = [np.clip(one.image + rng.normal(0, 40, one.image.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    start = psnr(frames[-1], one.image, one.mask)
    assert all(psnr(guess, one.image, one.mask) > start + 4 for _, guess in fuse(frames))


def test_aligned_frames_follow_a_person_who_moves() -> None:
    one = PEOPLE[1]
    moved = [np.roll(one.image, step, axis=1) for step in (-4, -2, 0)]
    plain = dict(fuse(moved))["mean"]
    aligned = dict(fuse(align(moved)))["mean"]
    assert psnr(aligned, one.image, one.mask) > psnr(plain, one.image, one.mask) + 3


def test_a_key_stream_used_twice_gives_the_second_frame_away() -> None:
    one, two = PEOPLE[0], PEOPLE[1].fitted(PEOPLE[0].mask)
    stream = np.random.default_rng(2).integers(0, 256, one.image.shape, dtype=np.uint8)
    learnt = known_keystream(one.image ^ stream, one.image)
    guess = with_keystream(two ^ stream, learnt, one.mask)
    assert np.array_equal(guess[one.mask], two[one.mask])


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_an_attack_wins_of_an_irreversible_cover_is_not_the_persons(name: str) -> None:
    if METHODS[name].privacy_class != "irreversible":
        pytest.skip("not irreversible")
    assert invert(Variant(name), PEOPLE).learnt_db <= 1e-6
    assert fuse_still(Variant(name), PEOPLE, 3).learnt_db <= 1e-6


@pytest.mark.parametrize(
    "name", sorted(n for n, kind in METHODS.items() if kind.privacy_class == "reversible with key")
)
def test_a_wrong_or_a_replayed_key_stream_shows_nobody(name: str) -> None:
    found = try_keys(Variant(name), PEOPLE)
    assert found["wrong_key"] < 0.1
    assert found["known_plaintext"] < 0.1
    assert found["repeated"] < 0.02


def test_quality_is_measured_inside_the_mask_only() -> None:
    one = PEOPLE[0]
    outside = one.image.copy()
    outside[~one.mask] = 0
    assert psnr(outside, one.image, one.mask) == 99
    inside = one.image.copy()
    inside[one.mask] = 128
    assert psnr(inside, one.image, one.mask) < 20
    assert ssim(inside, one.image, one.mask) < 0.5
    assert ssim(one.image, one.image, one.mask) == pytest.approx(1)


def test_variants_are_the_default_and_the_bounds_of_the_strength() -> None:
    found = [variant.label for variant in variants("pixelate")]
    assert found[0] == "pixelate"
    assert "pixelate cells=1" in found
    assert [variant.label for variant in variants("blank")] == ["blank"]


def test_a_subject_reports_how_far_a_method_widened_the_mask() -> None:
    one = PEOPLE[0]
    covered, used = Subject(Variant("box")).cover_wide(one.image, one.mask)
    assert used.sum() > one.mask.sum()
    assert np.array_equal(covered[~used], one.image[~used])
