"""There are two ways to make a frame that may leave, and neither lets a raw pixel of a person through."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from privseg.errors import PrivacyViolationPrevented
from privseg.privacy.filters.base import Context, Method, MethodParams, PrivacyClass
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.masks import PersonMask
from privseg.testing.camera import BEACON, beacon_pixels, is_slate, person_box, scene

WIDTH, HEIGHT = 61, 47
BASE = Fraction(1, 10)
Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def raw(number: int = 3) -> RawFrame:
    return RawFrame(scene(number, WIDTH, HEIGHT), sequence=number, pts=number, time_base=BASE)


def true_mask(number: int = 3) -> Mask:
    left, top, right, bottom = person_box(number, WIDTH, HEIGHT)
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


class Rogue(Method):
    """A filter that does whatever a test makes it do."""

    name = "rogue"
    params_type = MethodParams
    does_not_hide = "anything"

    def __init__(self, privacy_class: PrivacyClass, behave: Any, widen: Any = None) -> None:
        super().__init__()
        self.privacy_class: Any = privacy_class
        self._behave = behave
        self._widen = widen

    def widen(self, mask: Mask) -> Mask:
        return mask if self._widen is None else self._widen(mask)  # type: ignore[no-any-return]

    def protect(self, image: Image, mask: Mask, context: Context) -> Image:
        output: Image = self._behave(image, mask)
        return output


@pytest.mark.parametrize("name", ["blank", "silhouette", "pixelate"])
def test_protect_covers_the_person_and_keeps_the_rest(name: str) -> None:
    frame = protect(raw(), PersonMask(true_mask(), 3), create_method(name))
    outside = ~true_mask()
    assert np.array_equal(frame.pixels[outside], scene(3, WIDTH, HEIGHT)[outside])
    assert (frame.sequence, frame.pts, frame.time_base) == (3, 3, BASE)
    assert frame.withheld is None
    assert frame.person_ratio == pytest.approx(true_mask().mean())
    if name != "pixelate":
        assert beacon_pixels(frame.pixels) == 0


def test_a_protected_frame_cannot_be_made_elsewhere() -> None:
    with pytest.raises(PrivacyViolationPrevented, match="protect"):
        ProtectedFrame(object(), scene(0, 8, 8), sequence=0, pts=0, time_base=BASE, captured=0.0)


def test_a_protected_frame_cannot_be_painted_over() -> None:
    frame = protect(raw(), PersonMask(true_mask(), 3), create_method("blank"))
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[0, 0] = BEACON
    with pytest.raises(AttributeError):
        frame.raw = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "mask",
    [
        PersonMask(true_mask(), 2),
        PersonMask(true_mask(), 4),
        PersonMask(true_mask()[:-1], 3),
        PersonMask(true_mask().T, 3),
        PersonMask(true_mask().astype(np.uint8), 3),  # type: ignore[arg-type]
    ],
)
def test_a_mask_for_another_frame_is_refused(mask: PersonMask) -> None:
    with pytest.raises(PrivacyViolationPrevented):
        protect(raw(), mask, create_method("blank"))


@pytest.mark.parametrize("privacy_class", ["irreversible", "obfuscation"])
@pytest.mark.parametrize(
    "behave",
    [
        lambda image, mask: image.copy().astype(np.float32),
        lambda image, mask: image[:-1].copy(),
        lambda image, mask: None,
    ],
    ids=["float", "smaller", "nothing"],
)
def test_a_filter_that_breaks_its_promise_is_refused(privacy_class: PrivacyClass, behave: Any) -> None:
    with pytest.raises(PrivacyViolationPrevented):
        protect(raw(), PersonMask(true_mask(), 3), Rogue(privacy_class, behave))


@pytest.mark.parametrize("privacy_class", ["irreversible", "obfuscation"])
def test_what_a_filter_paints_outside_the_mask_is_thrown_away(privacy_class: PrivacyClass) -> None:
    ragged = true_mask()
    ragged[::2] = False
    frame = protect(raw(), PersonMask(ragged, 3), Rogue(privacy_class, lambda image, mask: np.full_like(image, 7)))
    assert np.array_equal(frame.pixels[~ragged], scene(3, WIDTH, HEIGHT)[~ragged])
    assert (frame.pixels[ragged] == 7).all()


def test_a_filter_may_widen_the_mask_and_the_share_counts_it() -> None:
    wide = np.zeros((HEIGHT, WIDTH), np.bool_)
    wide[: HEIGHT // 2] = True
    wide |= true_mask()
    seen: list[int] = []

    def spy(image: Image, mask: Mask) -> Image:
        seen.append(int(image[mask].max()))
        return np.full_like(image, 7)

    frame = protect(raw(), PersonMask(true_mask(), 3), Rogue("irreversible", spy, lambda mask: wide))
    assert set(seen) == {0}
    assert (frame.pixels[wide] == 7).all()
    assert np.array_equal(frame.pixels[~wide], scene(3, WIDTH, HEIGHT)[~wide])
    assert frame.person_ratio == pytest.approx(wide.mean())


@pytest.mark.parametrize(
    "widen",
    [
        lambda mask: np.zeros_like(mask),
        lambda mask: mask & (np.arange(mask.size).reshape(mask.shape) != np.flatnonzero(mask)[0]),
        lambda mask: mask[:-1],
        lambda mask: np.ones(mask.shape, np.uint8),
        lambda mask: None,
    ],
    ids=["nothing", "a pixel less", "smaller", "numbers", "none"],
)
def test_a_filter_that_narrows_the_mask_is_refused(widen: Any) -> None:
    rogue = Rogue("obfuscation", lambda image, mask: np.zeros_like(image), widen)
    with pytest.raises(PrivacyViolationPrevented, match="mask"):
        protect(raw(), PersonMask(true_mask(), 3), rogue)


def test_a_filter_cannot_write_into_the_mask_it_widens() -> None:
    def wipe(mask: Mask) -> Mask:
        mask[:] = False
        return mask

    with pytest.raises(ValueError, match="read-only"):
        protect(raw(), PersonMask(true_mask(), 3), Rogue("obfuscation", lambda image, mask: image.copy(), wipe))


def test_a_frame_is_covered_once_and_then_gone() -> None:
    frame = raw()
    protect(frame, PersonMask(true_mask(), 3), create_method("blank"))
    assert (frame.width, frame.height) == (WIDTH, HEIGHT)
    with pytest.raises(PrivacyViolationPrevented, match="before"):
        protect(frame, PersonMask(~true_mask(), 3), create_method("blank"))
    with pytest.raises(PrivacyViolationPrevented, match="before"):
        frame.model_input(64)


def test_a_frame_that_a_filter_failed_on_is_gone_too() -> None:
    frame = raw()
    with pytest.raises(PrivacyViolationPrevented):
        protect(frame, PersonMask(true_mask(), 3), Rogue("obfuscation", lambda image, mask: None))
    with pytest.raises(PrivacyViolationPrevented, match="before"):
        protect(frame, PersonMask(true_mask(), 3), create_method("blank"))


def test_no_filter_sees_another_person_than_the_one_it_covers() -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[5:40, 5:10] = mask[35:40, 5:40] = True  # an angle, in whose box another stands
    mask[10:20, 20:30] = True
    picture = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
    picture[mask] = 200
    seen = []

    def spy(image: Image, own: Mask) -> Image:
        seen.append(np.array_equal(image.max(axis=2) == 200, own))
        return np.zeros_like(image)

    frame = RawFrame(picture, sequence=3, pts=3, time_base=BASE)
    assert not protect(frame, PersonMask(mask, 3), Rogue("obfuscation", spy)).pixels[mask].any()
    assert seen == [True, True]


def test_a_filter_that_returns_its_input_shows_nobody() -> None:
    frame = protect(raw(), PersonMask(true_mask(), 3), Rogue("irreversible", lambda image, mask: image))
    assert beacon_pixels(frame.pixels) == 0
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    noise = RawFrame(picture, sequence=3, pts=3, time_base=BASE)
    with pytest.raises(PrivacyViolationPrevented, match="as they were"):
        protect(noise, PersonMask(true_mask(), 3), Rogue("obfuscation", lambda image, mask: image))


def test_an_obfuscating_filter_that_does_nothing_is_refused() -> None:
    picture = scene(3, WIDTH, HEIGHT)
    picture[true_mask()] += np.arange(int(true_mask().sum()), dtype=np.uint8)[:, None] % 5
    frame = RawFrame(picture, sequence=3, pts=3, time_base=BASE)
    with pytest.raises(PrivacyViolationPrevented, match="left the masked pixels"):
        protect(frame, PersonMask(true_mask(), 3), Rogue("obfuscation", lambda image, mask: image.copy()))


def test_an_irreversible_filter_never_sees_the_person() -> None:
    seen: list[int] = []

    def spy(image: Image, mask: Mask) -> Image:
        seen.append(int(image[mask].max()))
        return image.copy()

    frame = protect(raw(), PersonMask(true_mask(), 3), Rogue("irreversible", spy))
    assert seen == [0]
    assert beacon_pixels(frame.pixels) == 0


def test_a_filter_cannot_write_into_the_raw_frame() -> None:
    def scribble(image: Image, mask: Mask) -> Image:
        image[mask] = 0
        return image

    with pytest.raises(ValueError, match="read-only"):
        protect(raw(), PersonMask(true_mask(), 3), Rogue("obfuscation", scribble))


def test_a_raw_frame_has_no_way_out() -> None:
    frame = raw()
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(PrivacyViolationPrevented):
            leave(frame)  # type: ignore[operator]
    public = {name for name in dir(frame) if not name.startswith("_")}
    expected = {
        "captured", "damaged", "decode_seconds", "frozen", "height", "model_input", "never_show", "pts", "sequence",
        "small_copy", "time_base", "width"
    }  # fmt: skip
    assert public == expected
    assert str(BEACON[0]) not in repr(frame)
    assert not isinstance(frame, ProtectedFrame)
    assert set(RawFrame.__mro__) & set(ProtectedFrame.__mro__) == {object}


@pytest.mark.parametrize(("width", "height"), [(768, 576), (626, 360), (33, 500), (1, 1)])
def test_the_models_input_keeps_the_contract(width: int, height: int) -> None:
    frame = RawFrame(np.zeros((height, width, 3), np.uint8), sequence=0, pts=0, time_base=BASE)
    image = frame.model_input(512)
    assert image.dtype == np.uint8
    assert image.shape[0] == 1
    assert image.shape[3] == 3
    assert max(image.shape[1:3]) == 512
    assert all(side % 32 == 0 and side >= 32 for side in image.shape[1:3])


@pytest.mark.parametrize("size", [(768, 576), (61, 47), (1920, 1081), (9, 7)])
@pytest.mark.parametrize("reason", list(Withheld))
def test_a_slate_is_dark_and_says_why(size: tuple[int, int], reason: Withheld) -> None:
    frame = slate(*size, reason, sequence=5, pts=50, time_base=BASE)
    assert (frame.width, frame.height) == size
    assert frame.withheld is reason
    assert is_slate(frame.pixels)
    if min(size) > 40:
        assert frame.pixels.max() > 60  # there is writing on it


def test_slates_with_different_reasons_differ() -> None:
    cards = {slate(200, 100, reason, sequence=0, pts=0, time_base=BASE).pixels.tobytes() for reason in Withheld}
    assert len(cards) == len(Withheld)


def test_a_picture_of_another_kind_is_no_frame() -> None:
    with pytest.raises(ValueError, match="uint8"):
        RawFrame(np.zeros((4, 4), np.uint8), sequence=0, pts=0, time_base=BASE)


def test_a_damaged_frame_never_passes_as_protected() -> None:
    frame = RawFrame(scene(3, WIDTH, HEIGHT), sequence=3, pts=3, time_base=BASE, damaged=True)
    with pytest.raises(PrivacyViolationPrevented, match="damaged"):
        protect(frame, PersonMask(true_mask(), 3), create_method("blank"))
