"""Put a frame of a generated clip beside its protected twin: the picture in the README.

After `make run` without PRIVSEG_DATA:

    python scripts/before_after.py .privseg/generated docs/images/before_after.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import cv2
import numpy as np

FRAME = 70


def main(home: Path, out: Path) -> None:
    """Write both frames side by side; only a generated scene may be shown unprotected."""
    both = []
    for clip in ("scene.mp4", "protected.mp4"):
        with av.open(str(home / "out" / clip)) as container:
            frame = next(f for index, f in enumerate(container.decode(video=0)) if index == FRAME)
            both.append(frame.to_ndarray(format="bgr24"))
    gap = np.full((both[0].shape[0], 8, 3), 255, np.uint8)
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), np.hstack([both[0], gap, both[1]]), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
