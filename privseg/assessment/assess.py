"""One assessment: every attack on every method, what is left to see, and how well the masks cover people at all."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from privseg.assessment import data as material
from privseg.assessment import inversion, parrot
from privseg.assessment.coverage import Eye, on_clips, on_pictures
from privseg.assessment.faces import Boxes, FaceDetector, faces_left, model_file
from privseg.assessment.quality import BoolMask, Image, psnr, ssim
from privseg.assessment.subject import Subject, Variant, variants
from privseg.assessment.utility import Footage, Utility, flicker, measure_utility
from privseg.errors import UsageError
from privseg.params import AuditParams
from privseg.privacy.filters.registry import METHODS

__all__ = ["BLIND", "DRAWN", "REAL", "SCHEMA", "Scale", "assess", "check_methods"]

SCHEMA: Final = 1
#: what tells nothing: its restorer knows what people look like in general, and its recogniser guesses
BLIND: Final = Variant("blank")
_PERSON_METRES: Final = 1.7
_HEIGHT: Final = 160  # pixels of a portrait's person
_BITS: Final = 24  # a colour
_ASPECT: Final = 0.41  # a standing person's covered area by the square of the height


@dataclass(frozen=True)
class Scale:
    """How much is looked at.

    Attributes:
        identities: People to recognise.
        inverted: People on whom inversion and fusion are tried.
        trained: People a restorer learns from.
        restored: People it is asked about.
        steps: Batches it is trained on.
        fused: Frames to fuse.
        frames: Consecutive frames of every clip that is watched.
        pictures: Labelled pictures for the masks.
        faces: Pictures searched for faces.
        clips: Clips of :data:`~privseg.assessment.data.CLIPS` that are watched.
        golden: Drawn clips through the pipeline, and their frames.
        seconds: After so many, strengths other than the default are left out.
    """

    identities: int = 40
    inverted: int = 10
    trained: int = 160
    restored: int = 24
    steps: int = 100
    fused: int = 8
    frames: int = 16
    pictures: int = 90
    faces: int = 16
    clips: tuple[str, ...] = ("vtest", "one-by-one")
    golden: tuple[int, int] = (2, 40)
    seconds: float = 480.0


REAL: Final = Scale()
#: with the scenes that privseg draws, of which each costs time
DRAWN: Final = Scale(
    identities=16, inverted=6, trained=40, restored=8, steps=60, pictures=24, faces=0, clips=("vtest",), golden=(1, 40)
)


@dataclass(frozen=True)
class _Material:
    people: Sequence[material.Portrait]
    same: list[list[parrot.View]]
    own: list[list[parrot.View]]
    footage: dict[str, Footage]
    faces: list[tuple[Image, BoolMask]]
    before: list[Boxes]
    detector: FaceDetector | None


def check_methods(names: Sequence[str]) -> None:
    """Raises UsageError for a method, or a stage of a composition, that does not exist."""
    for stage in (stage for name in names for stage in name.split("+")):
        if stage not in METHODS:
            raise UsageError(f"method {stage}", "is not known", f"choose one of {', '.join(sorted(METHODS))}")


def assess(
    names: Sequence[str],
    data: Path | None,
    model: Path,
    work: Path,
    *,
    scale: Scale | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Attack and measure methods.

    Args:
        names: Keys of ``METHODS``, or compositions.
        data: Folder of real data as :mod:`privseg.assessment.data` describes it; None: drawn scenes.
        model: Version directory of the person model that makes the masks.
        work: A folder for drawn clips.
        scale: How much is looked at.
        say: Takes a line of progress.

    Returns:
        Plain data, as ``assess.json`` holds it.

    Raises:
        UsageError: A method does not exist, or PyTorch is not installed.
        DataError: The data lacks something.
    """
    begun = time.monotonic()
    scale = scale or (DRAWN if data is None else REAL)
    check_methods(names)
    material.check_folder(data)
    try:
        from privseg.assessment import restorer
    except ImportError:
        raise UsageError("torch", "is not installed", "pip install 'privseg[assess]'") from None
    cv2.setNumThreads(1)  # small pictures: threads cost more than they bring
    eye = Eye(model)
    try:
        say("material: people, clips, masks")
        coverage = _coverage(eye, data, scale, work)
        things = _gather(eye, data, scale)
        unprotected = [measure_utility(None, f, eye.figures, every=4) for f in things.footage.values()]
        coverage["flicker"] = {clip: flicker(f.frames, f.masks) for clip, f in things.footage.items()}
        chosen = {name: variants(name) for name in names}
        split = scale.identities, scale.identities + scale.trained
        trained, restored = things.people[split[0] : split[1]], things.people[split[1] :]
        blind = restorer.train_restorer(BLIND, trained, restored, steps=scale.steps)
        rows = []
        for done, variant in enumerate([Variant(name) for name in names]):
            say(f"{done + 1}/{len(names)} {variant.label} ({time.monotonic() - begun:.0f} s)")
            row = _measure(variant, things, scale, eye)
            learnt = restorer.train_restorer(variant, trained, restored, steps=scale.steps)
            row["restorer"] = {
                "protected_db": learnt.protected_db,
                "gain_db": learnt.restored_db - learnt.protected_db,
                "learnt_db": learnt.restored_db - blind.restored_db,
            }
            rows.append(row)
        skipped = []
        for variant in (variant for name in names for variant in chosen[name][1:]):
            if time.monotonic() - begun > scale.seconds:
                skipped.append(variant.label)
                continue
            say(f"strength {variant.label} ({time.monotonic() - begun:.0f} s)")
            rows.append(_measure(variant, things, scale, eye))
    finally:
        eye.close()
    return {
        "schema_version": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begun, 1),
        "data": "real" if data is not None else "drawn",
        "model_version": model.name,
        "scale": dataclasses.asdict(scale),
        "chance": 1 / scale.identities,
        "coverage": coverage,
        "unprotected": _averaged(unprotected),
        "methods": rows,
        "skipped": skipped,
    }


def _coverage(eye: Eye, data: Path | None, scale: Scale, work: Path) -> dict[str, Any]:
    rules = AuditParams(clips=scale.golden[0], frames=scale.golden[1])
    return {
        "pictures": on_pictures(eye, material.labelled(data, scale.pictures)),
        "clips": on_clips(eye.directory, work / "clips", rules),
    }


def _gather(eye: Eye, data: Path | None, scale: Scale) -> _Material:
    people = material.portraits(data, scale.identities + scale.trained + scale.restored, _HEIGHT)
    known = people[: scale.identities]
    footage = {}
    for clip in scale.clips:
        frames = material.video_frames(data, clip, _first(data, clip), scale.frames)
        empty = np.median(np.stack(material.sampled_frames(data, clip, 40)), axis=0).astype(np.uint8)
        footage[clip] = Footage(frames, [eye.figures(f) for f in frames], [eye.covered(f) for f in frames], empty)
    file = model_file() if scale.faces else None
    detector = FaceDetector(file) if file else None
    faces = [(p.image, p.mask) for p in material.portraits(data, scale.faces, 400)] if detector else []
    before = [detector.find(image) for image, _ in faces] if detector else []
    return _Material(
        people,
        parrot.views(known, own_outline=False),
        parrot.views(known, own_outline=True),
        footage,
        faces,
        before,
        detector,
    )


def _first(data: Path | None, clip: str) -> int:
    return 20 if data is None else material.CLIPS[clip][1]


def _measure(variant: Variant, things: _Material, scale: Scale, eye: Eye) -> dict[str, Any]:
    """Everything but the restorer; what strengths other than the default do without is None."""
    default = not variant.params
    method = variant.make()
    attacked = things.people[: scale.inverted]
    clip = things.footage[scale.clips[0]]
    utilities = [
        measure_utility(variant, f, eye.figures, every=4 if default else 10**6) for f in things.footage.values()
    ]
    keyed = method.privacy_class == "reversible with key"
    return {
        "method": variant.method,
        "params": dict(variant.params),
        "label": variant.label,
        "default": default,
        "privacy_class": method.privacy_class,
        "does_not_hide": method.does_not_hide,
        **_left(variant, attacked),
        **_pixels(variant, attacked),
        "inversion": dataclasses.asdict(inversion.invert(variant, attacked)),
        "fusion": {
            "still": dataclasses.asdict(inversion.fuse_still(variant, attacked, scale.fused)),
            "moving": dataclasses.asdict(
                inversion.fuse_moving(variant, clip.frames[: scale.fused], clip.masks[: scale.fused])
            ),
        },
        "parrot": {
            "appearance": parrot.recognition_rate(variant, things.same),
            "shape": parrot.recognition_rate(variant, things.own) if default else None,
        },
        "faces": faces_left(things.detector, variant, things.faces, things.before)
        if default and things.detector
        else None,
        "keys": inversion.try_keys(variant, attacked) if keyed else None,
        "utility": _averaged(utilities) | ({} if default else {"detected": None}),
    }


def _averaged(utilities: Sequence[Utility]) -> dict[str, float | None]:
    """Means over clips."""
    names = [field.name for field in dataclasses.fields(Utility)]
    means = {name: float(np.mean([getattr(each, name) for each in utilities])) for name in names}
    return {**means, "score": float(np.mean([each.score for each in utilities]))}


def _left(variant: Variant, people: Sequence[material.Portrait]) -> dict[str, float | None]:
    """How much the method itself says is left: cells, pixels a metre, and the bits they can hold at most."""
    cells = variant.make().cells_across()
    if variant.make().privacy_class == "reversible with key":
        return {"cells": None, "pixels_per_metre": None, "bits": None}  # all of it, for who has the key
    if cells is None:
        pixels = float(np.mean([person.mask.sum() for person in people]))
        return {"cells": None, "pixels_per_metre": None, "bits": pixels * _BITS}
    return {"cells": cells, "pixels_per_metre": cells / _PERSON_METRES, "bits": cells**2 * _ASPECT * _BITS}


def _pixels(variant: Variant, people: Sequence[material.Portrait]) -> dict[str, Any]:
    """PSNR and SSIM inside the people, and whether everything outside what was covered is as it was."""
    subject, inside, alike, untouched = Subject(variant), [], [], True
    for person in people:
        covered, used = subject.cover_wide(person.image, person.mask)
        inside.append(psnr(covered, person.image, person.mask))
        alike.append(ssim(covered, person.image, person.mask))
        untouched = untouched and np.array_equal(covered[~used], person.image[~used])
    return {
        "inside_psnr_db": float(np.mean(inside)),
        "inside_ssim": float(np.mean(alike)),
        "outside_untouched": untouched,
    }
