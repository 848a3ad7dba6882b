"""Count human IoU again from the saved masks, and hold it against what the benchmark says.

    python benchmarks/recompute_iou.py .privseg/public/workspace [CANDIDATE …]

It shares no code with privseg: NumPy, pandas and Pillow read the test split's masks (``data/``) and each candidate's
predicted ones (``reports/benchmark/CANDIDATE/masks``). Ends with exit code 1 if a figure differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

TOLERANCE = 1e-9


def human_iou(workspace: Path, candidate: str) -> float:
    """Intersection over union of human pixels over all measured test images together."""
    folder = workspace / "reports" / "benchmark" / candidate
    manifest = pd.read_parquet(workspace / "data" / "manifest.parquet").set_index("sample_id")
    intersection = union = 0
    for row in pd.read_parquet(folder / "images.parquet").itertuples():
        assert manifest.loc[row.sample_id, "split"] == "test", row.sample_id
        truth = np.asarray(Image.open(workspace / "data" / "ingested" / manifest.loc[row.sample_id, "mask_path"]))
        found = np.asarray(Image.open(folder / "masks" / row.mask).convert("L")) > 0
        labelled = truth != 255
        intersection += np.count_nonzero(labelled & (truth == 1) & found)
        union += np.count_nonzero(labelled & ((truth == 1) | found))
    return intersection / union if union else 1.0


def main(workspace: Path, candidates: list[str]) -> int:
    """Print a line a candidate; returns the exit code."""
    results = json.loads((workspace / "reports" / "results.json").read_text(encoding="utf-8"))
    said = {row["candidate"]: row["accuracy"]["iou_human"] for row in results["candidates"]}
    differing = 0
    for candidate in candidates or list(said):
        counted = human_iou(workspace, candidate)
        same = abs(counted - said[candidate]) < TOLERANCE
        differing += not same
        print(f"{candidate}: counted {counted:.6f}, results.json {said[candidate]:.6f}{'' if same else ', DIFFERENT'}")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
