"""Having a method cover the people of a picture: what it may see, what of its output counts, what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import cv2
import numpy as np

from privseg.errors import PrivacyViolationPrevented
from privseg.privacy.filters.base import BoolMask, Context, Image, Method, Person, Scene, color_sheet
from privseg.privacy.people import find_people

__all__ = ["Covered", "cover", "covered_copy"]


@dataclass(frozen=True, slots=True)
class Covered:
    """What was covered.

    Attributes:
        mask: bool ``(H, W)``: the mask as the method widened it.
        people: How many separate areas it has.
    """

    mask: BoolMask
    people: int


def covered_copy(image: Image, mask: BoolMask, method: Method, *, camera: str = "", sequence: int = 0) -> Image:
    """As :func:`cover`, on a copy: for pictures that are measured, not for those of a camera."""
    copy = image.copy()
    cover(copy, np.ascontiguousarray(mask), method, camera=camera, sequence=sequence)
    return copy


def cover(pixels: Image, mask: BoolMask, method: Method, *, camera: str, sequence: int) -> Covered:
    """Cover every person, in place; only masked pixels, and those that the method adds to them, are written.

    Args:
        pixels: uint8 ``(H, W, 3)`` RGB, contiguous. Useless where this raises: some people may be covered, others not.
        mask: bool ``(H, W)``, contiguous.
        method: The filter.
        camera: The camera's name.
        sequence: The frame's number within its source.

    Returns:
        The pixels covered, and in how many areas.

    Raises:
        PrivacyViolationPrevented: The filter narrows the mask, its output is not what it must be, or it shows what it
            was to cover.
    """
    height, width = mask.shape
    mask = _widened(mask, method)
    people = find_people(mask)
    if sum(_count(own) for _, own in people) != _count(mask):
        _refuse(method, "some covered pixels belong to nobody")
    scene = Scene(camera, sequence, height, width, tuple(person for person, _ in people))
    method.begin(scene)
    if method.strips:
        rows = _strip(height, method.next_turn(), method.strips)
        if rows.start < rows.stop:  # a frame of fewer rows than strips has empty ones
            method.observe(_without(pixels[rows], mask[rows]), mask[rows], rows.start)
    # All are covered before the first is written, so that none is shown what another's cover looks like.
    outputs = [_output(pixels, mask, own, method, Context(scene, person)) for person, own in people]
    if method.privacy_class != "irreversible" and people:
        _refuse_unchanged(pixels, people, outputs, method)
    for (person, own), output in zip(people, outputs, strict=True):
        cv2.copyTo(output, own.view(np.uint8), pixels[_box(person)])
    return Covered(mask, len(people))


def _widened(mask: BoolMask, method: Method) -> BoolMask:
    """The mask with what the method adds; it may add, never take away."""
    given = mask.view()
    given.flags.writeable = False
    widened = method.widen(given)
    if widened is given:
        return mask
    if not isinstance(widened, np.ndarray) or widened.dtype != np.bool_ or widened.shape != mask.shape:
        _refuse(method, "the mask it widened is not a mask of the frame's size")
    # In parts that the processor's cache holds: much faster than in one.
    if any(np.any(mask[row : row + 64] > widened[row : row + 64]) for row in range(0, len(mask), 64)):
        _refuse(method, "it uncovers pixels of the mask")
    return np.ascontiguousarray(widened)


def _output(pixels: Image, mask: BoolMask, own: BoolMask, method: Method, context: Context) -> Image:
    """Have the method cover one person, and check what comes back; uint8 ``(h, w, 3)``."""
    window = pixels[_box(context.person)]
    # An irreversible filter is shown no pixel, so no mistake in it can let a person through. No filter ever sees
    # another person than the one it covers.
    if method.privacy_class == "irreversible":
        given = color_sheet(own.shape, (0, 0, 0))
    else:
        whole = mask[_box(context.person)]
        given = _without(window, None if _count(whole) == _count(own) else whole > own)
    output = method.protect(given, own, context)
    if not isinstance(output, np.ndarray) or output.dtype != np.uint8 or output.shape != window.shape:
        _refuse(method, "its output is not a picture of the person's size")
    if np.may_share_memory(output, pixels):
        _refuse(method, "it returned the raw picture itself")
    return output


def _without(pixels: Image, mask: BoolMask | None) -> Image:
    """A read-only copy with zeros under the mask."""
    kept = pixels.copy()
    if mask is not None:
        cv2.copyTo(color_sheet(mask.shape, (0, 0, 0)), mask.view(np.uint8), kept)
    kept.flags.writeable = False
    return kept


def _count(mask: BoolMask) -> int:
    """How many pixels are covered; OpenCV counts twice as fast as numpy."""
    return cv2.countNonZero(mask.view(np.uint8))


def _box(person: Person) -> tuple[slice, slice]:
    return np.s_[person.top : person.top + person.height, person.left : person.left + person.width]


def _strip(height: int, turn: int, strips: int) -> slice:
    """The rows whose turn it is."""
    return slice(height * turn // strips, height * (turn + 1) // strips)


def _refuse_unchanged(
    pixels: Image, people: list[tuple[Person, BoolMask]], outputs: list[Image], method: Method
) -> None:
    """A method that left everybody as they were did nothing, unless all are of one colour each anyway."""
    varied = False
    for (person, own), output in zip(people, outputs, strict=True):
        window, covered = pixels[_box(person)], own.view(np.uint8)
        # A few rows are enough for nearly every method.
        if any(np.any((output[rows] != window[rows]).any(axis=2) & own[rows]) for rows in (np.s_[::32], np.s_[:])):
            return
        varied = varied or bool(cv2.meanStdDev(window, mask=covered)[1].max() > 0)
    if varied:
        _refuse(method, "it left the masked pixels as they were")


def _refuse(method: Method, fault: str) -> NoReturn:
    raise PrivacyViolationPrevented(method.name, fault, "the frame leaves as a slate; correct the method")
