"""Generated surveillance scenes with exact person masks: data for a first run where nothing can be downloaded.

One seed is one place with its people, drawn with numpy and OpenCV alone. Masks hold 0 background and 1 human, never
255: a pixel is human exactly when a person's paint (clothes and carried bags included) is what the camera sees there.
Shadows are not human. Noise, blur and compression change the picture, never the mask.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from privseg.datasets.sources._synthetic_scene import SceneLayers, render_layers, render_scene
from privseg.datasets.sources._synthetic_video import iter_video, write_video
from privseg.datasets.sources.base import Image, Mask, Pool, Sample, evenly_spaced
from privseg.params import SourceParams

__all__ = ["SceneLayers", "SyntheticSource", "iter_video", "render_layers", "render_scene", "write_video"]


@dataclass(frozen=True)
class SyntheticSource:
    """Rendered scenes as a source of samples.

    Attributes:
        name: Key of the source in ``params.yaml``.
        params: ``count`` scenes, of which about ``test_share`` are for testing; ``limit`` thins out as elsewhere.
        size: Height and width in pixels.
        seed: Changes every scene.
    """

    name: str
    params: SourceParams
    size: int
    seed: int

    def samples(self) -> Iterator[Sample]:
        """Samples sorted by name; a greater count only adds scenes, it changes none."""
        samples = [self._sample(index) for index in range(self.params.count)]
        chosen = [
            sample
            for pool in ("train", "test")
            for sample in evenly_spaced([sample for sample in samples if sample.pool == pool], self.params.limit)
        ]
        yield from sorted(chosen, key=lambda sample: sample.name)

    def _sample(self, index: int) -> Sample:
        digest = hashlib.sha256(f"{self.seed}/{index}".encode()).digest()
        share = int.from_bytes(digest[8:12], "big") / 2**32
        pool: Pool = "test" if share < self.params.test_share else "train"
        load = functools.partial(render_scene, int.from_bytes(digest[:8], "big"), height=self.size, width=self.size)
        return Sample(f"scene_{index:05d}", pool, f"scene {index}", load, functools.partial(_mask_of, load))


def _mask_of(load: Callable[[], tuple[Image, Mask]]) -> Mask:
    return load()[1]


RENDERER = SyntheticSource  # what `registry` opens for this kind
