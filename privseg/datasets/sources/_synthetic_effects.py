"""What a surveillance camera does to a picture: light, lens, sensor, compression. Masks are never touched."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from privseg.datasets.sources._synthetic_camera import Floats, Pixels, smooth_noise
from privseg.datasets.sources._synthetic_world import World

__all__ = ["Lens", "expose", "random_lens"]


@dataclass(frozen=True)
class Lens:
    """How a camera sees.

    Attributes:
        gain: (height, width, 3) float32, brightness factor by pixel: exposure, lamps, vignette, uneven light.
        tint: Factors of red, green and blue.
        contrast: Around mid grey, 1 unchanged.
        saturation: 1 unchanged, 0 grey as in infrared pictures.
        blur: Deviation of the lens blur in pixels.
        noise: Deviation of the sensor noise in grey levels.
        reduce: Factor by which the picture was once smaller.
        quality: JPEG quality; None leaves out the compression.
        stamp: Text burnt into the picture's corner; empty for none.
    """

    gain: Floats
    tint: tuple[float, float, float]
    contrast: float
    saturation: float
    blur: float
    noise: float
    reduce: float
    quality: int | None
    stamp: str


def random_lens(rng: np.random.Generator, world: World, *, compressed: bool = True) -> Lens:
    """Choose a camera and a time of day for a place: day, night under lamps, or infrared.

    Videos are not ``compressed`` here: their encoder does that.
    """
    height, width = world.camera.height, world.camera.width
    mode = str(rng.choice(["day", "night", "infrared"], p=[0.74, 0.14, 0.12]))
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None]
    corner = rows**2 + columns**2
    if mode == "night":
        bright = rng.uniform(0.28, 0.5) + np.zeros((height, width), dtype=np.float32)
        lamps = [*world.lamps, rng.uniform((0.1 * width, 0.3 * height), (0.9 * width, 0.8 * height))]
        for x, y in lamps[:6]:
            wide = width * rng.uniform(0.15, 0.4)
            across, down = (columns * width / 2 + width / 2 - x) / wide, (rows * height / 2 + height / 2 - y) / wide
            bright += rng.uniform(0.3, 0.6) * np.exp(-(across**2) - 2 * down**2)
        bright = np.minimum(bright, 1.15)
        tint = rng.uniform((0.95, 0.82, 0.55), (1.1, 0.95, 0.95))
    elif mode == "infrared":
        bright = rng.uniform(0.75, 1.15) * np.exp(-corner * rng.uniform(0.3, 0.8))
        tint = np.ones(3)
    else:
        bright = rng.uniform(0.62, 1.28) * (1 - rng.uniform(0, 0.2) * corner)
        tint = 1 + rng.normal(0, 0.05, 3)
    noisy = mode != "day"
    return Lens(
        gain=cv2.merge([bright.astype(np.float32) * (1 + np.float32(0.05) * smooth_noise(rng, height, width, 4))] * 3),
        tint=(float(tint[0]), float(tint[1]), float(tint[2])),
        contrast=float(rng.uniform(0.78, 1.2)),
        saturation=0.0 if mode == "infrared" else float(rng.uniform(0.45, 1.1)),
        blur=float(rng.uniform(0.45, 1.0) if rng.random() < 0.8 else rng.uniform(1.0, 1.8)),
        noise=float(rng.uniform(5, 13) if noisy else rng.uniform(1, 6)),
        reduce=float(rng.uniform(1.3, 2.2)) if rng.random() < 0.15 else 1.0,
        quality=int(rng.integers(28, 96)) if compressed else None,
        stamp=f"CAM {int(rng.integers(1, 40)):02d}" if rng.random() < 0.25 else "",
    )


def expose(lens: Lens, image: Pixels, rng: np.random.Generator) -> Pixels:
    """Take a picture: (height, width, 3) uint8 RGB in and out; ``rng`` gives the sensor noise."""
    height, width = image.shape[:2]
    seen = cv2.multiply(image, lens.gain, dtype=cv2.CV_8U)
    # tint, saturation and contrast are one linear map of the three channels
    grey = np.array([[0.299, 0.587, 0.114]]) * (1 - lens.saturation) * np.ones((3, 1))
    mix = lens.contrast * (lens.saturation * np.eye(3) + grey) * np.array(lens.tint)
    seen = cv2.transform(seen, np.hstack([mix, np.full((3, 1), 118 * (1 - lens.contrast))]).astype(np.float32))
    seen = cv2.GaussianBlur(seen, (0, 0), lens.blur)
    if lens.reduce > 1:
        small = cv2.resize(seen, None, fx=1 / lens.reduce, fy=1 / lens.reduce, interpolation=cv2.INTER_AREA)
        seen = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    grain = rng.standard_normal((height, width), dtype=np.float32)
    grain *= np.float32(lens.noise)
    layers = [grain] * 3
    if lens.saturation > 0:
        colour = rng.standard_normal(((height + 1) // 2, (width + 1) // 2, 2), dtype=np.float32)
        colour = cv2.resize(colour * np.float32(0.8 * lens.noise), (width, height), interpolation=cv2.INTER_LINEAR)
        layers = [grain + colour[..., 0], grain, grain + colour[..., 1]]
    seen = cv2.add(seen, cv2.merge(layers), dtype=cv2.CV_8U)
    if lens.stamp:
        size = height / 900
        for thick, tone in ((3, (10, 10, 10)), (1, (240, 240, 240))):
            cv2.putText(seen, lens.stamp, (8, 8 + int(24 * size)), cv2.FONT_HERSHEY_SIMPLEX, size, tone, thick)
    if lens.quality is not None:
        _, packed = cv2.imencode(".jpg", seen[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, lens.quality])
        seen = cv2.cvtColor(cv2.imdecode(packed, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return np.asarray(seen, dtype=np.uint8)
