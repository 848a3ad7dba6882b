"""The dataset factory at the study's scale: ingest throughput and memory, and the manifest steps on 157,037 rows.

    python benchmarks/dataset.py --scratch /dev/shm            writes benchmarks/results/dataset.{json,md}

In memory, because a disk's speed is not ingest's: on ext4 of the machine that made the committed table, 2,000 pictures
reached 0.74 to 0.90 of the ceiling and 20,000 reached 0.96 to 0.99.

Ingest is measured by `dataset_ingest.py` in the same folder, on 2,000 and on 20,000 pictures, beside its ceiling in the
same run. The manifest steps run in a process of their own, on a manifest with as many rows as the study has pictures;
every row has a picture and a mask of its own, 64 pixels wide.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import dataset_ingest
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from privseg.datasets.analyze import analyze
from privseg.datasets.cleanse import cleanse
from privseg.datasets.features import features, people_rows
from privseg.datasets.ingest import Fitted
from privseg.datasets.manifest import empty_row, manifest_frame, write_manifest
from privseg.datasets.merge import merge
from privseg.datasets.split import split
from privseg.datasets.validate import validate
from privseg.params import Params, check_params, read_params_file

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ROWS = 157_037  # VOC 11,540 + COCO-Stuff 164k 123,287 + ADE20K 22,210
SIDE = 64
SOURCES = {"voc": 11_540, "cocostuff164k": 123_287, "ade20k": 22_210}


def parameters() -> Params:
    """The project's own thresholds, for small pictures of three sources."""
    path = ROOT / "params.yaml"
    values = read_params_file(path)
    values["sources"] = {name: {"kind": "synthetic"} for name in SOURCES}
    values["image"] = {"size": SIDE, "resize": "stretch"}
    values["cleanse"] |= {"min_component_height": 2}
    return check_params(values, path)


def make_rows(folder: Path, source: str, first: int, count: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write pictures and masks of one source; every fourth shows nobody, every fiftieth is a near duplicate."""
    rng = np.random.default_rng([list(SOURCES).index(source), first])
    rows, people = [], []
    hashes = rng.integers(0, 2**63, count, dtype=np.uint64)
    hashes[49::50] = hashes[48:-1:50][: len(hashes[49::50])] ^ np.uint64(1)
    for sub in ("images", "masks"):
        (folder / source / sub).mkdir(parents=True, exist_ok=True)
    whole = slice(0, SIDE)
    for index in range(count):
        image = cv2.resize(rng.integers(0, 256, (8, 8, 3), np.uint8), (SIDE, SIDE))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(int(rng.integers(1, 4)) if index % 4 else 0):
            height, width = int(rng.integers(4, 30)), int(rng.integers(2, 12))
            top, left = int(rng.integers(1, SIDE - height)), int(rng.integers(1, SIDE - width))
            mask[top : top + height, left : left + width] = 1
        name = f"{first + index:09d}"
        image_bytes, mask_bytes = (
            cv2.imencode(kind, pixels)[1].tobytes() for kind, pixels in ((".jpg", image), (".png", mask))
        )
        image_path, mask_path = f"{source}/images/{name}.jpg", f"{source}/masks/{name}.png"
        (folder / image_path).write_bytes(image_bytes)
        (folder / mask_path).write_bytes(mask_bytes)
        fitted = Fitted(image, mask, (whole, whole))
        rows.append(
            empty_row(
                sample_id=f"{source}/{name}",
                source=source,
                pool="test" if index % 12 < 2 else "train",
                image_path=image_path,
                mask_path=mask_path,
                original_height=480,
                original_width=640,
                sha256=hashlib.sha256(image_bytes + mask_bytes).hexdigest(),
                **features(fitted) | {"phash": f"{int(hashes[index]):016x}"},
            )
        )
        people.extend(people_rows(f"{source}/{name}", fitted))
    return rows, people


def make_dataset(folder: Path) -> list[Path]:
    """Make the ingested folders of three sources with their manifests, both processors at work."""
    manifests = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        for source, total in SOURCES.items():
            chunks = [(folder, source, first, min(2000, total - first)) for first in range(0, total, 2000)]
            parts = pool.starmap(make_rows, chunks)
            path = folder / source / "manifest.parquet"
            write_manifest(path, manifest_frame([row for rows, _ in parts for row in rows]))
            people = pd.DataFrame([person for _, found in parts for person in found])
            pq.write_table(pa.Table.from_pandas(people, preserve_index=False), path.with_name("people.parquet"))
            manifests.append(path)
            print(f"  {source}: {total} pictures", flush=True)
    return manifests


def manifest_steps(folder: Path, manifests: list[Path], out: Path) -> None:
    """Time the steps one after the other; peak memory is this process's. Run in a process of its own."""
    params = parameters()
    seconds: dict[str, float] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - begun, 2)
        print(f"  {name}: {seconds[name]} s", flush=True)
        return result

    df = step("analyse", lambda: analyze(params, manifests))
    df = step("cleanse", lambda: cleanse(params, df))
    df = step("merge", lambda: merge(params, df))
    df = step("split", lambda: split(params, df))
    step("write", lambda: write_manifest(folder / "manifest.parquet", df))
    report = step("validate", lambda: validate(params, folder / "manifest.parquet", folder, folder / "report"))
    failed = [one.name for one in report.expectations if not one.success and one.severity == "critical"]
    result = {
        "rows": len(df),
        "kept": int((df["status"] == "kept").sum()),
        "expectations": len(report.expectations),
        "critical_failures": failed,
        "seconds": seconds,
        "total_seconds": round(sum(seconds.values()), 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    out.write_text(json.dumps(result), encoding="utf-8")


def measure_manifest(scratch: Path) -> dict[str, Any]:
    """Make the dataset, then run the steps in a fresh process."""
    print(f"manifest: making {ROWS} pictures", flush=True)
    manifests = make_dataset(scratch / "manifest")
    out = scratch / "steps.json"
    process = multiprocessing.get_context("spawn").Process(
        target=manifest_steps, args=(scratch / "manifest", manifests, out)
    )
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("the manifest steps failed")
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return result


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs=2, default=[2_000, 20_000], help="sizes of the two ingests")
    parser.add_argument("--scratch", type=Path, default=None, help="where to work; some 10 GiB")
    parser.add_argument("--only", choices=["ingest", "manifest"], default=None)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="privseg-dataset-", dir=arguments.scratch))
    path = RESULTS / "dataset.json"
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    try:
        if arguments.only != "manifest":
            results["ingest"] = dataset_ingest.measure(arguments.images, scratch)
        if arguments.only != "ingest":
            results["manifest"] = measure_manifest(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    where = f" --scratch {arguments.scratch}" if arguments.scratch else ""
    results["command"] = f"python benchmarks/dataset.py{where}"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(results), encoding="utf-8")
    print(table(results))


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown table with the command."""
    lines = ["# The dataset factory, measured", "", f"    {results['command']}", ""]
    lines += ["| measure | value | wanted |", "|---|---|---|"]
    if "ingest" in results:
        lines += dataset_ingest.table_rows(results["ingest"])
    if "manifest" in results:
        steps = results["manifest"]
        each = ", ".join(f"{name} {value} s" for name, value in steps["seconds"].items())
        lines += [
            f"| manifest steps on {steps['rows']:,} rows: {each} | {steps['total_seconds']} s | under 60 s |",
            f"| their peak memory | {steps['peak_mib']:,} MiB | under 1,536 MiB |",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
