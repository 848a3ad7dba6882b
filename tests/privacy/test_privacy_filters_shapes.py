"""What is drawn from the mask alone: outline, box, hull, avatar, edges, labels, and compositions with them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from filter_cases import Image, Mask, noise, noise_picture, rectangle, walkers

from privseg.privacy.cover import cover, covered_copy
from privseg.privacy.filters.mannequin import draw_figures
from privseg.privacy.filters.registry import create_method


def angle_mask() -> Mask:
    """An L: its box and its hull are larger than it."""
    return rectangle(200, 300, 40, 60, 100, 20) | rectangle(200, 300, 120, 60, 20, 100)


def test_outline_is_a_bright_contour_around_darkness() -> None:
    mask = rectangle(200, 200, 50, 80, 100, 40)
    drawn = covered_copy(noise(200, 200), mask, create_method("outline", {"color": "#000000", "outline": "#ffffff"}))
    assert (drawn[50, 80:120] == 255).all()
    assert (drawn[100, 100] == 0).all()


def test_outline_after_another_method_leaves_what_it_made() -> None:
    mask, image = rectangle(200, 200, 50, 80, 100, 40), noise(200, 200)
    pixelated = covered_copy(image, mask, create_method("pixelate"))
    method = create_method("pixelate+outline", {"outline.outline": "#ffffff"})
    both = covered_copy(image, mask, method)
    assert method.privacy_class == "obfuscation"
    assert (both[50, 80:120] == 255).all()
    assert np.array_equal(both[60:140, 90:110], pixelated[60:140, 90:110])


@pytest.mark.parametrize("name", ["blank+outline", "outline+pixelate", "pixelate+blank", "blur+box"])
def test_a_composition_in_which_an_irreversible_method_replaces_is_irreversible(name: str) -> None:
    method = create_method(name)
    assert method.privacy_class == "irreversible"
    mask, image = angle_mask(), noise(200, 300)
    other = image.copy()
    other[method.widen(mask)] = 0
    assert np.array_equal(covered_copy(image, mask, method), covered_copy(other, mask, method))


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_box_covers_the_whole_rectangle_around_a_person(margin: float) -> None:
    mask, more = angle_mask(), round(margin * 100)
    box = rectangle(200, 300, 40 - more, 60 - more, 100 + 2 * more, 100 + 2 * more)
    method = create_method("box", {"margin": margin, "outline_width": 0, "color": "#010203"})
    picture, image = noise(200, 300), noise(200, 300)
    assert np.array_equal(cover(picture, mask, method, camera="", sequence=0).mask, box)
    assert (picture[box] == (1, 2, 3)).all()
    assert np.array_equal(picture[~box], image[~box])


def test_box_is_framed() -> None:
    drawn = covered_copy(noise(300, 300), rectangle(300, 300, 50, 50, 90, 30), create_method("box"))
    assert not np.array_equal(drawn[50, 60], drawn[80, 60])


def test_hull_covers_the_dilated_convex_hull_and_not_the_box() -> None:
    mask = angle_mask()
    wide = create_method("hull", {"margin": 0.1}).widen(mask)
    tight = create_method("hull", {"margin": 0}).widen(mask)
    assert not (mask & ~tight).any()
    assert tight[110, 90]  # between the legs of the L
    assert not tight[45, 150]  # the far corner of its box
    assert not (tight & ~wide).any()
    distance = cv2.distanceTransform((~tight).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert wide[distance <= 9].all()
    assert not wide[distance > 12].any()


def figures(mask: Mask) -> tuple[Image, int]:
    """The drawn figure as uint8 0 and 1, and how many separate ones there are."""
    drawn = draw_figures(mask, (0, 0, 0), (255, 255, 255), (200, 200, 200))
    figure = (drawn.max(-1) > 100).astype(np.uint8)
    return figure, cv2.connectedComponents(figure)[0] - 1


def head_of(mask: Mask) -> float:
    """The column of the middle of the smaller of two parts."""
    drawn, _ = figures(mask)
    _, _, stats, middles = cv2.connectedComponentsWithStats(drawn)
    return float(middles[1:][stats[1:, cv2.CC_STAT_AREA].argmin(), 0])


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
    assert raised[45:80, 132:].any()
    assert not raised[90:, 132:].any()
    assert not hanging[50:75, 39:].any() or hanging[50:75, 39:].sum() < raised[50:75, 100:].sum()


def test_people_side_by_side_become_as_many_figures_and_someone_lying_one() -> None:
    group = np.zeros((175, 170), np.bool_)
    one = walkers(people=1)[31:206, 40:91]
    for left in (0, 56, 112):
        group[:, left : left + 51] |= one
    group[60:70] = True  # they hold hands
    assert figures(group)[1] == 3 * 2  # of each a head, and the rest
    crowd = np.concatenate([group, group], axis=1)  # wider than high
    crowd[60:70] = True
    assert figures(crowd)[1] == 6 * 2


def test_someone_lying_is_one_figure_as_long_as_the_body_with_the_head_where_it_is() -> None:
    standing = walkers(people=1)[31:206, 40:91]
    standing[100:, :14] = standing[100:, 37:] = False  # legs together
    standing[100:, 14:37] = True
    for lying, left, right in ((standing.T, 0, 35), (standing.T[:, ::-1], 140, 175)):
        mask = np.ascontiguousarray(lying)
        drawn, parts = figures(mask)
        assert parts == 2  # a head, and the rest
        assert drawn.any(0).mean() > 0.8
        assert drawn.mean() > 0.35  # not somebody small who stands at its head
        assert left < head_of(mask) < right


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
