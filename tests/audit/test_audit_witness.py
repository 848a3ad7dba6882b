"""What the audit counts, against a brute-force count, and what it refuses."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from privseg.audit.witness import FILL, ClipCounts, Witness
from privseg.errors import DataError, PrivacyViolationPrevented
from privseg.privacy.filters.blank import Blank, BlankParams
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld, protect, slate
from privseg.privacy.masks import PersonMask

HEIGHT, WIDTH = 48, 40
METHOD = Blank(BlankParams(color="#{:02x}{:02x}{:02x}".format(*FILL)))
BASE = Fraction(1, 10)


def frame(covered: np.ndarray, sequence: int = 0) -> ProtectedFrame:
    pixels = np.random.default_rng(3).integers(0, 250, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    raw = RawFrame(pixels, sequence=sequence, pts=sequence, time_base=BASE)
    return protect(raw, PersonMask(covered, sequence), METHOD)


def write_mask(folder: Path, truth: np.ndarray, sequence: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{sequence:06d}.png").write_bytes(cv2.imencode(".png", truth)[1].tobytes())


@given(
    covered=arrays(np.bool_, (HEIGHT, WIDTH)),
    truth=arrays(np.uint8, (HEIGHT, WIDTH), elements=st.sampled_from([0, 1, 255])),
)
def test_pixels_are_counted_as_by_hand(
    tmp_path_factory: pytest.TempPathFactory, covered: np.ndarray, truth: np.ndarray
) -> None:
    masks = tmp_path_factory.mktemp("masks")
    write_mask(masks, truth)
    witness = Witness(masks)
    witness.write(frame(covered))
    pairs = [(bool(c), int(t)) for c, t in zip(covered.flat, truth.flat, strict=True)]
    assert witness.counts.person_pixels == sum(t == 1 for _, t in pairs)
    assert witness.counts.covered_pixels == sum(t == 1 and c for c, t in pairs)
    assert witness.counts.background_pixels == sum(t == 0 for _, t in pairs)
    assert witness.counts.background_covered == sum(t == 0 and c for c, t in pairs)


@pytest.mark.parametrize(("share", "leaks"), [(0.75, 1), (0.80, 0), (1.0, 0)])
def test_a_frame_leaks_when_somebody_is_covered_to_less_than_four_fifths(
    tmp_path: Path, share: float, leaks: int
) -> None:
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[4:44, 10:20] = 1
    covered = np.zeros((HEIGHT, WIDTH), np.bool_)
    covered[4 : 4 + round(40 * share), 10:20] = True
    write_mask(tmp_path, truth)
    witness = Witness(tmp_path)
    witness.write(frame(covered))
    assert (witness.counts.leak_frames, witness.counts.missed, witness.counts.people) == (leaks, leaks, 1)
    assert [(sequence, pixels) for sequence, pixels, _ in witness.worst] == ([(0, 100)] if leaks else [])


def test_a_small_person_is_counted_apart(tmp_path: Path) -> None:
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[4:30, 10:20] = 1
    write_mask(tmp_path, truth)
    witness = Witness(tmp_path)
    witness.write(frame(np.zeros((HEIGHT, WIDTH), np.bool_)))
    assert (witness.counts.small_people, witness.counts.small_missed) == (1, 1)
    assert (witness.counts.people, witness.counts.leak_frames) == (0, 0)


def test_outlines_hold_no_pixel_of_the_scene(tmp_path: Path) -> None:
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[4:44, 10:20] = 1
    write_mask(tmp_path, truth)
    witness = Witness(tmp_path)
    witness.write(frame(np.zeros((HEIGHT, WIDTH), np.bool_)))
    picture = cv2.imdecode(np.frombuffer(witness.worst[0][2], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 2


def test_a_withheld_frame_is_counted_and_not_measured(tmp_path: Path) -> None:
    witness = Witness(tmp_path)
    witness.write(slate(WIDTH, HEIGHT, Withheld.LATE, sequence=0, pts=0, time_base=BASE))
    assert witness.counts == ClipCounts(frames=1, withheld=1)


def test_nothing_but_a_protected_frame_is_taken(tmp_path: Path) -> None:
    with pytest.raises(PrivacyViolationPrevented):
        Witness(tmp_path).write(np.zeros((HEIGHT, WIDTH, 3), np.uint8))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [None, b"no picture", "other size"])
def test_a_frame_without_a_usable_mask_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    if content == "other size":
        write_mask(tmp_path, np.zeros((HEIGHT, WIDTH + 2), np.uint8))
    elif isinstance(content, bytes):
        (tmp_path / "000000.png").write_bytes(content)
    with pytest.raises(DataError, match=r"000000\.png"):
        Witness(tmp_path).write(frame(np.zeros((HEIGHT, WIDTH), np.bool_)))


@given(st.lists(st.tuples(*[st.integers(0, 99)] * 11), min_size=2, max_size=4))
def test_counts_add_up(entries: list[tuple[int, ...]]) -> None:
    names = list(ClipCounts.model_fields)
    total = ClipCounts()
    for entry in entries:
        total += ClipCounts(**dict(zip(names, entry, strict=True)))
    assert [getattr(total, name) for name in names] == [sum(column) for column in zip(*entries, strict=True)]
