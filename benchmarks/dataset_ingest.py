"""Ingest throughput and memory beside its ceiling: the same decode, resize and encode calls with nothing around them.

    python benchmarks/dataset_ingest.py --images 2000 20000 --json ingest.json

A few hundred distinct pairs of 640 x 480 pixels (rendered, or taken from ``--data``, a folder with ``images/*.jpg`` and
``masks/*.png``) are hard-linked until there are enough. Ingest runs in a process of its own with as many workers as
there are processors; its memory is the sum over the process tree of proportional set sizes (shared pages count once).
The ceiling runs in as many processes on the same pairs before, between and after, because the speed of a machine
drifts.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DISTINCT = 200
SIZE = 512
CEILING_SECONDS = 12.0
SAMPLE_SECONDS = 0.1


def measure(images: list[int], scratch: Path, *, data: Path | None = None, repeats: int = 3) -> dict[str, Any]:
    """Measure ingest at every size; the smallest ``repeats`` times, the others once.

    Args:
        images: Numbers of pairs, ascending.
        scratch: Folder to work in; it grows by about 130 KiB a pair of all runs.
        data: Folder with ``images`` and ``masks`` to take pairs from; rendered ones if None.
        repeats: Runs of the smallest size.

    Returns:
        ``ceiling`` (images/s of every ceiling run), ``runs`` (of every ingest: images, seconds, images_per_second,
        ms_per_image, peak_mib, and its share of the mean of the ceilings before and after it), and by size the medians.
    """
    pairs = make_pairs(scratch / "pairs", data)
    ceilings: list[float] = []
    runs = []
    # The first run finds cold caches and is not counted; the small ones stand before and after the large.
    order = [images[0]] * (repeats - 1) + images[1:] + [images[0]]
    for number, count in enumerate([images[0], *order], start=-1):
        # Nothing is removed before the end: for minutes after many files are, ext4 takes long to make new ones.
        folder = scratch / f"run_{number}"
        run = run_ingest(link_pairs(pairs, folder / "raw", count), folder / "out", count)
        ceilings.append(ceiling(pairs))
        if number < 0:
            continue
        runs.append(run | {"share_of_ceiling": run["images_per_second"] / statistics.mean(ceilings[-2:])})
    by_size = {
        str(count): {
            key: statistics.median(run[key] for run in runs if run["images"] == count)
            for key in ("images_per_second", "ms_per_image", "peak_mib", "share_of_ceiling")
        }
        for count in images
    }
    return {"processors": processors(), "ceiling": ceilings, "runs": runs, "by_size": by_size}


def table_rows(result: dict[str, Any]) -> list[str]:
    """Rows of a Markdown table with the columns measure, value, wanted."""
    sizes = list(result["by_size"])
    first, last = (result["by_size"][size] for size in (sizes[0], sizes[-1]))
    rows = [
        f"| ceiling, {result['processors']} processes | {statistics.median(result['ceiling']):.0f} images/s | |",
    ]
    for size in sizes:
        one = result["by_size"][size]
        rows += [
            f"| ingest of {int(size):,} images | {one['images_per_second']:.0f} images/s | |",
            f"| ingest of {int(size):,}, share of the ceiling | {one['share_of_ceiling']:.2f} | at least 0.80 |",
            f"| ingest of {int(size):,}, peak memory | {one['peak_mib']:.0f} MiB | |",
        ]
    span = f"{int(sizes[-1]):,} against {int(sizes[0]):,} images"
    return [
        *rows,
        f"| peak memory, {span} | {last['peak_mib'] / first['peak_mib']:.3f} | at most 1.10 |",
        f"| time an image, {span} | {last['ms_per_image'] / first['ms_per_image']:.3f} | 0.90 to 1.10 |",
    ]


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def make_pairs(folder: Path, data: Path | None) -> Path:
    """Distinct pairs in ``folder/images`` and ``folder/masks``, numbered; returns ``folder``."""
    from PIL import Image

    from privseg.datasets.sources.synthetic import render_scene

    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True)
    if data is not None:
        for index, image in enumerate(sorted((data / "images").glob("*.jpg"))[:DISTINCT]):
            shutil.copyfile(image, folder / "images" / f"{index:04d}.jpg")
            shutil.copyfile(data / "masks" / f"{image.stem}.png", folder / "masks" / f"{index:04d}.png")
        return folder
    for index in range(DISTINCT):
        image, mask = render_scene(index, height=480, width=640)
        Image.fromarray(image).save(folder / "images" / f"{index:04d}.jpg", quality=92)
        Image.fromarray(mask).save(folder / "masks" / f"{index:04d}.png")
    return folder


def link_pairs(pairs: Path, raw: Path, count: int) -> Path:
    """``count`` pairs that are hard links to the distinct ones, in a ``pairs`` source's layout; returns ``raw``."""
    for sub, suffix in (("images", "jpg"), ("masks", "png")):
        (raw / sub).mkdir(parents=True)
        distinct = sorted((pairs / sub).iterdir())
        for index in range(count):
            os.link(distinct[index % len(distinct)], raw / sub / f"{index:07d}.{suffix}")
    return raw


def run_ingest(raw: Path, out: Path, count: int) -> dict[str, Any]:
    """Ingest ``raw`` into ``out`` in a process of its own, and watch its memory."""
    out.mkdir()
    command = [sys.executable, str(Path(__file__).resolve()), "--ingest", str(raw), str(out / "pairs")]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    peak = 0
    while child.poll() is None:
        peak = max(peak, sum(map(proportional_bytes, process_tree(child.pid))))
        time.sleep(SAMPLE_SECONDS)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}")
    seconds = float(child.stdout.read())
    return {
        "images": count,
        "seconds": seconds,
        "images_per_second": count / seconds,
        "ms_per_image": 1000 * seconds / count,
        "peak_mib": peak / 2**20,
    }


def process_tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    tree, found = [], [pid]
    while found:
        one = found.pop()
        tree.append(one)
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return tree


def proportional_bytes(pid: int) -> int:
    """Proportional set size: a page that several processes share counts in equal parts for each; 0 once it ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def ceiling(pairs: Path) -> float:
    """Images/s of decode, resize and encode alone, a process for every processor, all at once."""
    command = [sys.executable, str(Path(__file__).resolve()), "--ceiling", str(pairs)]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processors())
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()  # imports and the first pairs are behind it
    return sum(float(child.communicate("go\n")[0]) for child in children)


def child_ceiling(pairs: Path) -> None:
    """What a process of `ceiling` does; says when it is ready, and after a line of input how fast it was."""
    import cv2
    import numpy as np
    import PIL.Image

    from privseg.datasets.sources.base import read_image, read_mask

    cv2.setNumThreads(1)
    canvases: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def encode(pixels: Any, kind: str, **options: int) -> None:
        PIL.Image.fromarray(pixels).save(io.BytesIO(), kind, **options)

    def one(image_path: Path, mask_path: Path) -> None:
        image, mask = read_image(image_path), read_mask(mask_path)
        height, width = (max(1, round(side * SIZE / max(mask.shape))) for side in mask.shape)
        if (height, width) not in canvases:
            top, left = (SIZE - height) // 2, (SIZE - width) // 2
            place = np.s_[top : top + height, left : left + width]
            canvases[height, width] = np.zeros((SIZE, SIZE, 3), np.uint8), np.full((SIZE, SIZE), 255, np.uint8), place
        image_canvas, mask_canvas, place = canvases[height, width]
        how = cv2.INTER_AREA if height * width < mask.size else cv2.INTER_LINEAR
        cv2.resize(image, (width, height), dst=image_canvas[place], interpolation=how)
        cv2.resize(mask, (width, height), dst=mask_canvas[place], interpolation=cv2.INTER_NEAREST_EXACT)
        encode(image_canvas, "JPEG", quality=95, subsampling=0)
        encode(mask_canvas, "PNG")

    paths = [(path, pairs / "masks" / f"{path.stem}.png") for path in sorted((pairs / "images").iterdir())]
    for pair in paths[:10]:
        one(*pair)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.perf_counter()
    for done, pair in enumerate(itertools.cycle(paths), start=1):
        one(*pair)
        elapsed = time.perf_counter() - begun
        if elapsed >= CEILING_SECONDS and done % len(paths) == 0:  # pairs differ: whole rounds only
            print(done / elapsed)
            return


def child_ingest(raw: Path, out_dir: Path) -> None:
    """Ingest and print the seconds it took, workers' start and clearing up included."""
    from privseg.datasets.ingest import ingest
    from privseg.params import check_params, read_params_file

    values = read_params_file(ROOT / "params.yaml")
    partition = {"pool": "train", "images": "images", "masks": "masks"}
    values["sources"] = {out_dir.name: {"kind": "pairs", "path": str(raw), "partitions": [partition]}}
    values["ingest"]["processes"] = processors()
    values["image"] = {"size": SIZE, "resize": "letterbox"}
    params = check_params(values, ROOT / "params.yaml")
    begun = time.perf_counter()
    ingest(params, out_dir.name, out_dir)
    print(time.perf_counter() - begun)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[2_000, 20_000], help="sizes, ascending")
    parser.add_argument("--data", type=Path, default=None, help="take pairs from here instead of rendering some")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the smallest size")
    parser.add_argument("--scratch", type=Path, default=None, help="where to work")
    parser.add_argument("--json", type=Path, default=None, help="write the results here")
    parser.add_argument("--ceiling", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--ingest", type=Path, nargs=2, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ceiling is not None:
        child_ceiling(arguments.ceiling)
        return
    if arguments.ingest is not None:
        child_ingest(*arguments.ingest)
        return
    scratch = Path(tempfile.mkdtemp(prefix="privseg-ingest-", dir=arguments.scratch))
    try:
        result = measure(arguments.images, scratch, data=arguments.data, repeats=arguments.repeats)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(["| measure | value | wanted |", "|---|---|---|", *table_rows(result)]))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
