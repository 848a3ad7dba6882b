"""What each method draws: noise, cartoon, warp, morph, avatar, edges, labels, token, false colours, hash."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from privseg.privacy.cover import covered_copy
from privseg.privacy.filters.cells import coarse_cells
from privseg.privacy.filters.keyed import keystream
from privseg.privacy.filters.mannequin import draw_figures
from privseg.privacy.filters.registry import create_method
from privseg.privacy.filters.token import Token
from privseg.privacy.keys import SessionSecrets

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

IRREVERSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("avatar", {}),
    ("edges", {}),
    ("labels", {}),
    ("token", {}),
    ("hash", {}),
    ("hash", {"of": "block", "epoch": 2}),
]
OBFUSCATING: list[tuple[str, dict[str, Any]]] = [
    ("noise", {}),
    ("cartoon", {}),
    ("warp", {}),
    ("morph", {}),
    ("morph", {"target": "tracked"}),
    ("false_colors", {}),
    ("false_colors", {"palette": "thermal"}),
]
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


def walkers(step: int = 0, people: int = 2) -> Mask:
    """People with head, body and two legs, a little further to the right in every frame."""
    mask = np.zeros((240, 320), np.uint8)
    for person in range(people):
        left, top = 40 + 110 * person + 3 * step, 30 + 20 * person
        cv2.circle(mask, (left + 25, top + 15), 14, 1, cv2.FILLED)
        cv2.rectangle(mask, (left, top + 28), (left + 50, top + 100), 1, cv2.FILLED)
        cv2.rectangle(mask, (left, top + 100), (left + 18, top + 175), 1, cv2.FILLED)
        cv2.rectangle(mask, (left + 32, top + 100), (left + 50, top + 175), 1, cv2.FILLED)
    return mask.view(np.bool_)


def noise_picture(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), np.uint8)


def colors_of(picture: Image, mask: Mask) -> npt.NDArray[np.uint8]:
    return np.unique(picture[mask], axis=0)


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


@pytest.mark.parametrize(("name", "params"), OBFUSCATING)
@pytest.mark.parametrize("shape", [(41, 11), (13, 97), (9, 9), (1, 2), (200, 3)])
def test_no_source_pixel_is_seen_as_it_was(name: str, params: dict[str, Any], shape: tuple[int, int]) -> None:
    image = noise_picture(5)
    mask = np.zeros(image.shape[:2], np.bool_)
    mask[5 : 5 + shape[0], 5 : 5 + shape[1]] = True
    output = covered_copy(image, mask, create_method(name, params))
    # By chance a noisy pixel may come out as it was; a person does not.
    assert (output[mask] == image[mask]).all(axis=1).mean() < 0.01


@pytest.mark.parametrize(("name", "params"), OBFUSCATING)
def test_only_six_cells_of_a_person_reach_the_output(name: str, params: dict[str, Any]) -> None:
    """Two pictures whose cells have the same means look the same, whatever the detail."""
    mask = np.zeros((240, 320), np.bool_)
    mask[20:200, 60:240] = True  # six cells of 30 pixels each way
    rng = np.random.default_rng(2)
    coarse = rng.integers(60, 190, (6, 6, 3)).repeat(30, axis=0).repeat(30, axis=1)
    checkers = np.where(np.indices((180, 180)).sum(0) % 2, 40, -40)[..., np.newaxis]
    secrets = SessionSecrets()
    outputs = []
    for detail in (0, checkers, -checkers):
        image = np.zeros((240, 320, 3), np.uint8)
        image[20:200, 60:240] = coarse + detail
        outputs.append(covered_copy(image, mask, create_method(name, params, secrets=secrets)).astype(int))
    # Grey is worked out in whole numbers before it is averaged.
    allowed = 1 if name != "false_colors" else 0.02 * 255
    assert np.abs(outputs[1] - outputs[0]).mean() <= allowed
    assert np.abs(outputs[1] - outputs[2]).mean() <= allowed
    cells = create_method(name, params).cells_across()
    assert cells is not None
    assert cells <= 6


def test_cells_are_means_of_covered_pixels_and_small_ones_take_the_persons() -> None:
    image = np.full((60, 60, 3), 200, np.uint8)
    mask = np.zeros((60, 60), np.bool_)
    mask[:, :20] = True
    mask[0, 59] = True
    image[:30, :20] = 40
    image[0, 59] = 255
    cells = coarse_cells(image, mask, 6)
    assert cells.values.shape == (6, 6, 3)
    assert (cells.values[0, :2] == 40).all()
    assert (cells.values[5, :2] == 200).all()
    assert (np.abs(cells.values[0, 5].astype(int) - 120) <= 1).all()
    assert cells.spread().shape == cells.smooth().shape == (60, 60, 3)


def test_the_mean_of_many_noisy_frames_is_the_cells_and_no_more() -> None:
    image, mask = noise_picture(), walkers(people=1)
    method = create_method("noise", {"grain": 0.0})
    frames = [covered_copy(image, mask, method, sequence=n)[mask].astype(float) for n in range(60)]
    assert np.abs(frames[0] - frames[1]).mean() > 30  # no two frames have the same noise
    fused = (np.mean(frames, axis=0) - 0.7 * 127.5) / 0.3
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cells = coarse_cells(image[box], np.ascontiguousarray(mask[box]), 6).spread()[mask[box]]
    assert np.abs(fused - cells).mean() < 40
    assert abs(np.corrcoef(fused.ravel(), (image[mask] - cells.astype(float)).ravel())[0, 1]) < 0.05


def test_full_noise_and_a_full_morph_keep_nothing_of_the_person() -> None:
    mask = walkers()
    for name in ("noise", "morph"):
        secrets = SessionSecrets()
        drawn = [
            covered_copy(noise_picture(seed), mask, create_method(name, {"strength": 1.0}, secrets=secrets))[mask]
            for seed in (1, 2)
        ]
        assert np.array_equal(*drawn)
        assert create_method(name, {"strength": 1.0}).cells_across() == 0


def test_a_cartoon_has_few_flat_colours_and_dark_contours_between_them() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[:100] = (200, 40, 40)
    image[100:] = (40, 60, 200)
    mask = walkers(people=1)
    drawn = covered_copy(image, mask, create_method("cartoon", {"colors": 2}))
    assert (drawn[70, 65] == (200, 40, 40)).all()
    assert (np.abs(drawn[180, 48].astype(int) - (40, 60, 200)) <= 20).all()  # a cell of both is among the blue ones
    column = drawn[60:140, 65].sum(1)
    assert column.min() < 120  # ink
    flat = covered_copy(image, mask, create_method("cartoon", {"colors": 2, "line": 0.0}))
    assert len(colors_of(flat, mask)) < len(colors_of(drawn, mask)) + 3
    assert flat[60:140, 65].sum(1).min() > 200


def test_a_warp_moves_things_and_more_so_when_stronger() -> None:
    ramp = np.tile(np.linspace(0, 255, 240).astype(np.uint8)[:, np.newaxis, np.newaxis], (1, 320, 3))
    mask = np.zeros((240, 320), np.bool_)
    mask[20:220, 60:260] = True
    moved = []
    for secrets in (SessionSecrets() for _ in range(12)):  # one key may bend a place little
        weak, strong = (
            covered_copy(ramp, mask, create_method("warp", {"amplitude": amplitude}, secrets=secrets)).astype(int)
            for amplitude in (0.02, 0.3)
        )
        moved.append((np.abs(weak - ramp)[mask].mean(), np.abs(strong - ramp)[mask].mean()))
        # along a row the ramp has one colour; a warped one has several
        assert len(np.unique(strong[120, 60:260])) > 3
    little, much = np.mean(moved, axis=0)
    assert much > 1.3 * little


def test_a_morph_shows_the_mannequin_more_the_stronger_it_is() -> None:
    image, mask = np.full((240, 320, 3), (200, 30, 30), np.uint8), walkers(people=1)
    redness = []
    for strength in (0.5, 0.8, 1.0):
        drawn = covered_copy(image, mask, create_method("morph", {"strength": strength}))[mask].astype(int)
        redness.append((drawn[:, 0] - drawn[:, 1]).mean())
    assert redness[0] > redness[1] > redness[2] == 0


def test_a_tracked_morph_takes_on_the_other_persons_colours() -> None:
    image = np.full((240, 320, 3), (200, 30, 30), np.uint8)
    image[:, 140:] = (30, 30, 200)
    method = create_method("morph", {"target": "tracked", "strength": 1.0})
    mask = walkers()
    alone = covered_copy(image, mask, method, sequence=0)
    drawn = covered_copy(image, mask, method, sequence=1)
    assert alone[100, 65, 0] == alone[100, 65, 2]  # nobody is known yet: the mannequin is grey
    assert (drawn[100, 65] == (30, 30, 200)).all()
    assert (drawn[120, 175] == (200, 30, 30)).all()
    forgotten = covered_copy(image, mask, method, camera="another", sequence=2)
    assert np.array_equal(forgotten, alone)


def test_false_colours_are_few_and_no_colour_of_the_person() -> None:
    mask = walkers()
    for palette in ("keyed", "thermal"):
        drawn = covered_copy(noise_picture(), mask, create_method("false_colors", {"palette": palette, "levels": 3}))
        assert len(colors_of(drawn, mask)) <= 3
    two = [np.full((240, 320, 3), color, np.uint8) for color in ((120, 120, 120), (121, 121, 121))]
    secrets = SessionSecrets()
    same = [covered_copy(image, mask, create_method("false_colors", {}, secrets=secrets))[mask] for image in two]
    assert np.array_equal(*same)  # quantised: who is a little lighter looks the same


def test_thermal_gets_lighter_with_brightness() -> None:
    mask = walkers()
    method = create_method("false_colors", {"palette": "thermal"})
    means = [
        covered_copy(np.full((240, 320, 3), grey, np.uint8), mask, method)[mask].mean() for grey in (10, 90, 170, 250)
    ]
    assert means == sorted(means)
    assert len(set(means)) == 4


def figures(mask: Mask) -> tuple[Image, int]:
    """The drawn figure as uint8 0 and 1, and how many separate ones there are."""
    drawn = draw_figures(mask, (0, 0, 0), (255, 255, 255), (200, 200, 200))
    figure = (drawn.max(-1) > 100).astype(np.uint8)
    return figure, cv2.connectedComponents(figure)[0] - 1


def test_an_avatar_has_its_head_above_and_a_leg_on_each_side() -> None:
    mask = walkers(people=1)
    window = np.ascontiguousarray(mask[31:206, 40:91])
    figure, count = figures(window)
    assert count == 2  # a head, and the rest
    assert figure[15, 20:31].all()  # the head
    assert not figure[2:25, :8].any()
    assert figure[160, :20].any()
    assert figure[160, 31:].any()
    assert not figure[160, 23:28].any()
    assert 0.2 < figure.mean() < 0.8


def test_a_raised_arm_is_drawn_raised() -> None:
    mask = np.zeros((200, 160), np.uint8)
    cv2.circle(mask, (80, 20), 15, 1, cv2.FILLED)
    cv2.rectangle(mask, (60, 32), (100, 199), 1, cv2.FILLED)
    hanging = figures(mask[:, 60:101].copy().view(np.bool_))[0]
    cv2.line(mask, (95, 50), (150, 62), 1, 14)
    raised = figures(mask.view(np.bool_))[0]
    assert raised[50:75, 115:140].any()
    assert not hanging[50:75, 39:].any() or hanging[50:75, 39:].sum() < raised[50:75, 100:].sum()


def test_people_side_by_side_become_as_many_figures_and_someone_lying_one() -> None:
    group = np.zeros((175, 170), np.bool_)
    one = walkers(people=1)[31:206, 40:91]
    for left in (0, 56, 112):
        group[:, left : left + 51] |= one
    group[60:70] = True  # they hold hands
    assert figures(group)[1] == 3 * 2  # of each a head, and the rest
    assert figures(np.ascontiguousarray(one.T))[1] == 2
    assert figures(np.ascontiguousarray(one.T[:, ::-1]))[0][15:36, -20:].any()


def test_edges_are_rings_that_follow_the_outline() -> None:
    mask = np.zeros((240, 320), np.bool_)
    mask[20:220, 60:260] = True
    drawn = covered_copy(noise_picture(), mask, create_method("edges", {"color": "#000000", "line": "#ffffff"}))
    assert (drawn[20, 60:260] == drawn[20, 60]).all()
    assert drawn[20, 60].min() > 200
    along = drawn[20:120, 160, 0] > 30
    assert 10 <= np.count_nonzero(np.diff(along.astype(int)) == 1) <= 20  # a ring every 3 % of 200 pixels
    assert np.array_equal(drawn[20:220, 60:260], drawn[20:220, 60:260][::-1, ::-1])


def test_labels_tell_upright_from_lying_unless_told_not_to() -> None:
    mask = np.zeros((240, 320), np.bool_)
    mask[10:110, 10:40] = True
    mask[150:180, 100:300] = True
    picture = noise_picture()
    drawn = covered_copy(picture, mask, create_method("labels", {"color": "#010203", "lying": "#040506"}))
    assert (drawn[10:110, 10:40] == (1, 2, 3)).all()
    assert (drawn[150:180, 100:300] == (4, 5, 6)).all()
    flat = covered_copy(picture, mask, create_method("labels", {"color": "#010203", "posture": False}))
    assert (flat[mask] == (1, 2, 3)).all()


def test_a_token_stays_with_the_person_and_the_vault_knows_when_and_where() -> None:
    method = create_method("token")
    assert isinstance(method, Token)
    for step in range(10):
        covered_copy(noise_picture(), walkers(step), method, camera="door", sequence=5 + step)
    assert len(method.vault) == 2
    for token, entry in method.vault.items():
        assert re.fullmatch("[A-Z2-7]{4}", token)
        assert (entry.camera, entry.first, entry.last) == ("door", 5, 14)
    covered_copy(noise_picture(), walkers(0), method, camera="yard", sequence=15)
    assert len(method.vault) == 4
    assert method.record() is None


def test_tokens_change_with_the_lifetime_and_never_belong_to_two() -> None:
    method = create_method("token", {"lifetime": 5})
    assert isinstance(method, Token)
    for step in range(15):
        covered_copy(noise_picture(), walkers(0), method, sequence=step)
    assert len(method.vault) == 6


def test_the_vault_is_bounded() -> None:
    method = create_method("token", {"lifetime": 1})
    assert isinstance(method, Token)
    mask = np.zeros((64, 64), np.bool_)
    mask[2:62:4, 2:62:4] = True  # more than sixty people
    mask[50:] = False
    for step in range(120):
        covered_copy(noise_picture()[:64, :64], mask, method, sequence=step)
    assert len(method.vault) <= 4096


def test_a_badge_is_drawn_on_the_shape_and_lies_inside_the_person() -> None:
    mask = walkers()
    drawn = covered_copy(noise_picture(), mask, create_method("token", {"color": "#404040"}))
    plain = (drawn == 0x40).all(-1)
    badge = mask & ~plain
    for left in (40, 150):
        card = badge[:, left : left + 51]
        assert card.sum() > 100
        assert np.flatnonzero(card.any(0))[0] > 0  # neither side is cut off
        assert np.flatnonzero(card.any(0))[-1] < 50


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
