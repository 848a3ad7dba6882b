"""Having a method cover the people of a picture: what it may see, what of its output counts, what is refused."""

from __future__ import annotations

from typing import NoReturn

import cv2
import numpy as np

from privseg.errors import PrivacyViolationPrevented
from privseg.privacy.filters.base import BoolMask, Context, Image, Method, Person, Scene
from privseg.privacy.people import find_people

__all__ = ["cover", "covered_copy"]


def covered_copy(image: Image, mask: BoolMask, method: Method, *, camera: str = "", sequence: int = 0) -> Image:
    """As :func:`cover`, on a copy: for pictures that are measured, not for those of a camera."""
    copy = image.copy()
    cover(copy, np.ascontiguousarray(mask), method, camera=camera, sequence=sequence)
    return copy


def cover(pixels: Image, mask: BoolMask, method: Method, *, camera: str, sequence: int) -> None:
    """Cover every person, in place; only masked pixels are written.

    Args:
        pixels: uint8 ``(H, W, 3)`` RGB, contiguous. Useless where this raises: some people may be covered, others not.
        mask: bool ``(H, W)``, contiguous.
        method: The filter.
        camera: The camera's name.
        sequence: The frame's number within its source.

    Raises:
        PrivacyViolationPrevented: The filter's output is not what it must be, or shows what it was to cover.
    """
    height, width = mask.shape
    people = find_people(mask)
    scene = Scene(camera, sequence, height, width, tuple(person for person, _ in people))
    method.begin(scene)
    if method.strips:
        rows = _strip(height, sequence, method.strips)
        method.observe(_without(pixels[rows], mask[rows]), mask[rows], rows.start)
    # All are covered before the first is written, so that none is shown what another's cover looks like.
    outputs = [_output(pixels, mask, own, method, Context(scene, person)) for person, own in people]
    if method.privacy_class != "irreversible" and people:
        _refuse_unchanged(pixels, people, outputs, method)
    for (person, own), output in zip(people, outputs, strict=True):
        cv2.copyTo(output, own.view(np.uint8), pixels[_box(person)])


def _output(pixels: Image, mask: BoolMask, own: BoolMask, method: Method, context: Context) -> Image:
    """Have the method cover one person, and check what comes back; uint8 ``(h, w, 3)``."""
    window = pixels[_box(context.person)]
    # An irreversible filter never sees what it covers, so no mistake in it can let a person through. No filter ever
    # sees another person than the one it covers.
    erased = mask[_box(context.person)]
    irreversible = method.privacy_class == "irreversible"
    given = _without(window, erased if irreversible else erased & ~own)
    output = method.protect(given, own, context)
    if not isinstance(output, np.ndarray) or output.dtype != np.uint8 or output.shape != window.shape:
        _refuse(method, "its output is not a picture of the person's size")
    if np.shares_memory(output, pixels):
        _refuse(method, "it returned the raw picture itself")
    return output


def _without(pixels: Image, mask: BoolMask) -> Image:
    """A read-only copy with zeros under the mask."""
    kept: Image = cv2.bitwise_and(pixels, pixels, mask=np.logical_not(mask).view(np.uint8))
    kept.flags.writeable = False
    return kept


def _box(person: Person) -> tuple[slice, slice]:
    return np.s_[person.top : person.top + person.height, person.left : person.left + person.width]


def _strip(height: int, sequence: int, strips: int) -> slice:
    """The rows of frame ``sequence``'s turn."""
    turn = sequence % strips
    return slice(height * turn // strips, height * (turn + 1) // strips)


def _refuse_unchanged(
    pixels: Image, people: list[tuple[Person, BoolMask]], outputs: list[Image], method: Method
) -> None:
    """A method that left everybody as they were did nothing, unless all are of one colour each anyway."""
    varied = False
    for (person, own), output in zip(people, outputs, strict=True):
        covered = own.view(np.uint8)
        changed = cv2.absdiff(output, pixels[_box(person)])
        if cv2.bitwise_and(changed, changed, mask=covered).any():
            return
        varied = varied or bool(cv2.meanStdDev(pixels[_box(person)], mask=covered)[1].max() > 0)
    if varied:
        _refuse(method, "it left the masked pixels as they were")


def _refuse(method: Method, fault: str) -> NoReturn:
    raise PrivacyViolationPrevented(method.name, fault, "the frame leaves as a slate; correct the method")
