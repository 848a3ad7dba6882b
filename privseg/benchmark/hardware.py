"""What the measurements ran on: latencies compare only on the same."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import privseg

__all__ = ["hardware"]

PACKAGES = {
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "mmsegmentation": "onedl-mmsegmentation",
    "numpy": "numpy",
}


def hardware() -> dict[str, Any]:
    """Describe the machine and the libraries, JSON-ready.

    Returns:
        ``cpu``, ``logical_cpus``, ``threads`` (of an inference), ``memory_bytes``, ``gpu`` (None without one),
        ``system`` and ``versions``, package to version.
    """
    return {
        "cpu": _cpu(),
        "logical_cpus": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {"privseg": privseg.__version__} | _versions(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found
