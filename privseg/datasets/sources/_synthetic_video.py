"""Generated videos: one place under a fixed camera, people walking through it, written as H.264 with exact masks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from privseg.datasets.sources._synthetic_body import make_body
from privseg.datasets.sources._synthetic_cast import film_cast
from privseg.datasets.sources._synthetic_effects import expose, random_lens
from privseg.datasets.sources._synthetic_scene import compose
from privseg.datasets.sources._synthetic_world import build_world
from privseg.datasets.sources.base import Image, Mask
from privseg.errors import StorageError, UsageError

__all__ = ["iter_video", "write_video"]


def iter_video(
    seed: int, *, frames: int, height: int = 432, width: int = 768, frame_rate: float = 10.0
) -> Iterator[tuple[Image, Mask]]:
    """Draw a fixed camera's video: people enter, cross, leave, sit down and fall; the background is always the same.

    Args:
        seed: Chooses the place, its people and its camera.
        frames: How many frames to draw.
        height: Picture height in pixels.
        width: Picture width in pixels.
        frame_rate: Frames a second.

    Yields:
        RGB uint8 (height, width, 3) and mask uint8 (height, width) of 0 background and 1 human.
    """
    rng = np.random.default_rng([seed, 1])
    world = build_world(rng, height, width)
    cast = film_cast(rng, world, frames / frame_rate)
    lens = random_lens(rng, world, compressed=False)
    for index in range(frames):
        stances = [(actor.look, actor.at(index / frame_rate)) for actor in cast]
        present = [(look, make_body(look, stance)) for look, stance in stances if stance is not None]
        layers = compose(world, present)
        yield expose(lens, layers.image, rng), layers.mask


def write_video(
    path: Path,
    seed: int,
    *,
    frames: int = 150,
    height: int = 432,
    width: int = 768,
    frame_rate: float = 10.0,
    masks_dir: Path | None = None,
) -> None:
    """Write a generated video as MP4 (H.264, yuv420p, a key frame every second, no reordered frames).

    Args:
        path: The file to write; it appears when it is complete.
        seed: As for ``iter_video``.
        frames: How many frames.
        height: Picture height in pixels, even.
        width: Picture width in pixels, even.
        frame_rate: Frames a second.
        masks_dir: Where to write each frame's mask as ``000000.png``, uint8 of 0 background and 1 human; created.

    Raises:
        UsageError: A size is odd or not positive, or there are no frames.
        StorageError: The video or a mask cannot be written.
    """
    if height < 2 or width < 2 or height % 2 or width % 2:
        raise UsageError(path, f"{width}x{height} is no size for yuv420p video", "use even width and height")
    if frames < 1 or frame_rate <= 0:
        raise UsageError(path, f"{frames} frames at {frame_rate}/s is no video", "use at least one frame a video")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    pictures = iter_video(seed, frames=frames, height=height, width=width, frame_rate=frame_rate)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if masks_dir is not None:
            masks_dir.mkdir(parents=True, exist_ok=True)
        with av.open(str(partial), "w", format="mp4") as container:
            stream = container.add_stream(
                "libx264",
                rate=Fraction(frame_rate).limit_denominator(1001),
                options={"crf": "20", "preset": "veryfast", "bf": "0", "g": str(max(1, round(frame_rate)))},
            )
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            stream.codec_context.thread_count = 1  # the same bytes on every machine
            for index, (image, mask) in enumerate(pictures):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                if masks_dir is not None:
                    _write_mask(masks_dir / f"{index:06d}.png", mask)
            container.mux(stream.encode())
        partial.replace(path)
    except OSError as error:
        raise StorageError.from_os_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _write_mask(path: Path, mask: Mask) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    partial.replace(path)
