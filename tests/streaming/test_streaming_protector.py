"""The mask policy on the way of frames: zones, doubt, and motion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from privseg.errors import UsageError
from privseg.privacy.filters.registry import create_method
from privseg.privacy.frames import ProtectedFrame, RawFrame, Withheld
from privseg.privacy.masks import MaskPolicy
from privseg.privacy.profile import Profile
from privseg.privacy.zones import Zones
from privseg.streaming.anonymize import anonymize
from privseg.streaming.protector import Protector
from privseg.streaming.segmenter import Answer
from privseg.streaming.telemetry import Telemetry
from privseg.testing.camera import FakeCamera, beacon_pixels, read_video
from privseg.testing.segmenter import FaultySegmenter

WIDTH, HEIGHT = 160, 128
RIGHT_HALF = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
Image = npt.NDArray[np.uint8]


class Told:
    """A segmenter that answers what it is told and keeps what it was shown."""

    model = "told"
    max_in_flight = 1

    def __init__(self, answer: Any) -> None:
        self.shown: list[Image] = []
        self._answer = answer

    def check_ready(self) -> None:
        pass

    def submit(self, sequence: int, image: Image) -> None:
        self.shown.append(image[0].copy())

    def result(self, sequence: int) -> Answer:
        return Answer(sequence, self._answer(sequence, self.shown[-1].shape[:2]), "1")

    def close(self) -> None:
        pass


def everywhere(value: int) -> Any:
    return lambda _sequence, shape: np.full(shape, value, np.uint8)


def run(segmenter: Any, count: int = 1, **options: Any) -> list[ProtectedFrame]:
    policy = options.pop("policy", MaskPolicy())
    method = create_method(options.pop("method", "blank"))
    person = options.pop("person", True)
    protector = Protector("door", segmenter, method, policy, Telemetry(), long_side=160, **options)
    protector_frames = []
    for frame in frames(count, person):
        protector.begin(frame)
        protector_frames.append(protector.finish())
    return protector_frames


def frames(count: int, person: bool = True) -> list[RawFrame]:
    camera = FakeCamera(count=count, width=WIDTH, height=HEIGHT, person=person)
    return list(camera.frames())


@pytest.mark.parametrize("method", ["blank", "pixelate"])
def test_a_zone_never_shown_is_one_colour_and_the_model_never_sees_it(method: str) -> None:
    segmenter = Told(everywhere(1))
    output = run(segmenter, 3, method=method, zones=Zones(never_shown=(RIGHT_HALF,)))
    for shown, frame in zip(segmenter.shown, output, strict=True):
        assert len(np.unique(shown[:, WIDTH // 2 + 4 :].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(frame.pixels[:, WIDTH // 2 :].reshape(-1, 3), axis=0)) == 1
        assert len(np.unique(frame.pixels[:, : WIDTH // 2 - 4].reshape(-1, 3), axis=0)) > 10
        assert frame.withheld is None


def test_a_zone_is_covered_though_the_model_sees_nobody() -> None:
    everybody = Zones(always=(((0, 0), (1, 0), (1, 1), (0, 1)),))
    (with_zone,) = run(Told(everywhere(1)), zones=everybody)
    (without,) = run(Told(everywhere(1)))
    assert beacon_pixels(without.pixels) > 0
    assert len(np.unique(with_zone.pixels.reshape(-1, 3), axis=0)) == 1
    assert with_zone.person_ratio == 1


def test_zones_that_do_not_fit_the_picture_withhold_it() -> None:
    (frame,) = run(Told(everywhere(1)), zones=Zones(always=(((0, 0), (999, 0), (999, 99)),)))
    assert frame.withheld is Withheld.WRONG_ZONES


@pytest.mark.parametrize(("value", "withheld"), [(5, None), (60, Withheld.UNSURE), (200, None)])
def test_a_frame_of_which_the_model_is_unsure_is_withheld(value: int, withheld: Withheld | None) -> None:
    segmenter = Told(everywhere(value))
    (frame,) = run(segmenter)
    assert frame.withheld is withheld
    (frame,) = run(segmenter, policy=MaskPolicy(unsure_share=1))
    assert frame.withheld is None


def test_what_is_never_shown_hides_no_doubt_about_the_rest() -> None:
    def unsure_on_the_left(_sequence: int, shape: tuple[int, int]) -> Image:
        probability = np.ones(shape, np.uint8)
        probability[:, : shape[1] // 5] = 60
        return probability

    (frame,) = run(Told(unsure_on_the_left))
    assert frame.withheld is None  # a fifth of the picture
    (frame,) = run(Told(unsure_on_the_left), zones=Zones(never_shown=(RIGHT_HALF,)))
    assert frame.withheld is Withheld.UNSURE  # two fifths of what is shown


class Missing(FaultySegmenter):
    """Loses the person after frame 4."""

    def result(self, sequence: int) -> Answer:
        answer = super().result(sequence)
        return answer if sequence < 5 else Answer(sequence, np.ones_like(answer.probability), "1")


def test_a_person_whom_the_model_loses_stays_covered_where_the_picture_moves_to() -> None:
    policy = {"min_dilation": 1, "dilation": 0, "hold_frames": 6, "collapse_hold_frames": 0}
    uncovered = {
        flow: [beacon_pixels(frame.pixels) for frame in run(Missing(), 10, policy=MaskPolicy(flow=flow, **policy))]
        for flow in (False, True)
    }
    assert uncovered[False][:5] == uncovered[True][:5] == [0] * 5
    assert min(uncovered[False][6:]) > 100
    assert sum(uncovered[True][5:]) < 0.2 * sum(uncovered[False][5:])


def test_the_hold_can_end_early_where_the_model_sees_no_sign() -> None:
    def one_person(sequence: int, shape: tuple[int, int]) -> Image:
        probability = np.ones(shape, np.uint8)
        probability[30:90, 40:60] = 255 if sequence == 0 else 1
        return probability

    policy = MaskPolicy(hold_frames=9, collapse_hold_frames=0, confirm_empty=2)
    ratios = [frame.person_ratio > 0 for frame in run(Told(one_person), 6, policy=policy, person=False)]
    assert ratios == [True, True, False, False, False, False]


def test_production_takes_an_obfuscating_method_only_when_told(tmp_path: Path) -> None:
    def protect(**options: Any) -> dict[str, Any]:
        report = tmp_path / "report.json"
        anonymize(
            FakeCamera(count=2), tmp_path / "out.mp4", method=create_method("pixelate"),
            segmenter=FaultySegmenter(), report=report, **options,
        )  # fmt: skip
        said: dict[str, Any] = json.loads(report.read_text())
        return said

    with pytest.raises(UsageError, match="pixelate: only obfuscates, and the profile is production"):
        protect()
    assert not list(tmp_path.iterdir())
    said = protect(allow_obfuscation=True)
    assert (said["profile"], said["obfuscation_allowed"]) == ("production", True)
    said = protect(profile=Profile.LABORATORY)
    assert (said["profile"], said["obfuscation_allowed"]) == ("laboratory", False)
    assert said["privacy_class"] == "obfuscation"
    assert len(read_video(tmp_path / "out.mp4")) == 2
