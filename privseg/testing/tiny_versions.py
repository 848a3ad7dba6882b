"""A home with versions of a tiny dataset: real git, real DVC, a pipeline of the real one's shape; seconds to make."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from privseg import workspace
from privseg.datasets.manifest import dataset_version, empty_row, manifest_frame, write_manifest
from privseg.repro import run

__all__ = ["TinyVersions", "sample"]

_PIPELINE = """
stages:
  ingest:
    foreach: ${sources}
    do:
      cmd: echo ingest ${key}
      outs: ["data/ingested/${key}"]
  cleanse:
    cmd: echo cleanse
    deps: [data/ingested]
    outs: [reports/cleansing]
  split:
    cmd: echo split
    params: [split]
    deps: [data/ingested]
    outs: [data/manifest.parquet]
  reevaluate:
    cmd: echo reevaluate
    deps: [data/manifest.parquet]
    outs: [reports/dataset]
    metrics:
      - reports/dataset.json: {cache: false}
  validate:
    cmd: echo validate
    deps: [data/manifest.parquet]
    outs: [reports/validation, data/validated.json]
  train:
    cmd: echo train
    deps: [data/validated.json]
    outs: [models/winner]
"""


def sample(name: str, *, content: int = 0, **values: Any) -> dict[str, Any]:
    """A row of a manifest, kept and in the training split unless ``values`` say otherwise.

    Args:
        name: ``source/name``.
        content: Changes the bytes of image and mask.
        values: Columns of the manifest.
    """
    source = name.split("/")[0]
    paths = {
        "image_path": f"{source}/images/{Path(name).name}.jpg",
        "mask_path": f"{source}/masks/{Path(name).name}.png",
    }
    image, mask = (_bytes(path, content) for path in paths.values())
    defaults = {"is_human": True, "human_ratio": 0.1, "tallest_ratio": 0.4, "split": "train", "detail": str(content)}
    digest = hashlib.sha256(image + mask).hexdigest()
    return empty_row(**({"sample_id": name, "source": source, "sha256": digest} | defaults | paths | values))


class TinyVersions:
    """Makes and records versions in a home.

    Attributes:
        home: The home.
        workspace: Its workspace.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.workspace = workspace.prepare(home).path
        (self.workspace / "dvc.yaml").write_text(_PIPELINE, encoding="utf-8")

    def write(self, samples: Iterable[dict[str, Any]], **split: Any) -> str:
        """Replace the workspace's dataset; DVC takes note of it, as after a run of the pipeline.

        Args:
            samples: Rows made by `sample`.
            split: Parameters of the section ``split``.

        Returns:
            The name of the version, which is not recorded yet.
        """
        root, df = self.workspace, manifest_frame(samples)
        for folder in ("data", "reports", "models"):
            shutil.rmtree(root / folder, ignore_errors=True)
        for row in df.to_dict("records"):
            for path in (row["image_path"], row["mask_path"]):
                if path:
                    _write(root / "data" / "ingested" / path, _bytes(path, int(row["detail"])))
        for source, rows in df.groupby("source"):
            write_manifest(root / "data" / "ingested" / str(source) / "manifest.parquet", rows)
        write_manifest(root / "data" / "manifest.parquet", df)
        version = dataset_version(df)
        pages = ("reports/dataset/index.html", "reports/cleansing/index.html", "reports/validation/validation.html")
        for path in (*pages, "data/validated.json", "reports/dataset.json", "models/winner/checkpoint.pth"):
            _write(root / path, f'{{"dataset_version": "{version}", "about": "{path}"}}\r\n'.encode())
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        params["sources"] = {str(source): {"kind": "synthetic"} for source in sorted(df["source"].unique())}
        params["split"] = split or params["split"]
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        run([sys.executable, "-m", "dvc", "commit", "--quiet", "--force"], root)
        return version

    def record(self, samples: Iterable[dict[str, Any]], **split: Any) -> str:
        """Do as `write`, and record the version; returns its name."""
        version = self.write(samples, **split)
        workspace.record_dataset(self.workspace, version)
        return version

    def digests(self, root: Path | None = None) -> dict[str, str]:
        """Sha256 of every file that a version consists of, by path.

        Args:
            root: The folder that holds ``data`` and ``reports``; the workspace if omitted.
        """
        root = root or self.workspace
        files = [root / "data" / "manifest.parquet"]
        files += [file for part in ("data/ingested", "reports") for file in (root / part).rglob("*") if file.is_file()]
        return {
            str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file.name != ".gitignore"  # DVC's, not the dataset's
        }


def _bytes(path: str, content: int) -> bytes:
    seed = int.from_bytes(hashlib.sha256(f"{path} {content}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).bytes(600)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
