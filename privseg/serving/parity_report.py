"""The comparison of the runtimes as two files: figures for programs, and a page with the worst pictures for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from privseg.datasets.manifest import write_atomic
from privseg.params import Params
from privseg.serving.parity import Comparison, Pair

__all__ = ["write_report"]

JSON_FILE, HTML_FILE = "parity.json", "parity.html"
_LONGEST_SIDE: Final = 320  # pixels
_APART: Final = (220, 0, 130)  # RGB: seen on skin, cloth and street, by people with any colour vision
_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parity: $candidate</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 1.5rem auto 4rem; padding: 0 1rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, .words { text-align: left; } .bad { color: #c2185b; font-weight: 600; }
figure { display: inline-block; margin: 0 1rem 1.2rem 0; } figcaption { font-size: .85rem; max-width: 40rem; }
img { height: 11rem; border-radius: 4px; } .key { color: rgb(220, 0, 130); }
</style>
<h1>Do the runtimes agree?</h1>
<p>$verdict</p>
<h2>Runtimes</h2>
<div class="scroll"><table><tr><th>runtime<th>precision<th>mean difference<th>mask agreement<th class="words">verdict
</tr>$runtimes</table></div>
<h2>Pairs</h2>
<p>Mean absolute difference of the person probability times 255, and the share of pixels with the same decision, over
$pictures test pictures.</p>
<div class="scroll"><table><tr><th>pair<th>size<th>mean difference<th>mask agreement<th>pictures with equal masks
<th>worst mask agreement<th>bounds</tr>
$pairs</table></div>
<h2>The worst picture of each pair</h2>
<p>At $size: the picture, and in <b class="key">this colour</b> where the two decide differently.</p>
$figures
</html>
""")


def write_report(params: Params, record: Mapping[str, Any], comparison: Comparison, out_dir: Path) -> dict[str, Any]:
    """Write ``parity.json`` and ``parity.html``.

    Args:
        params: Bounds and threshold.
        record: Of the published variant.
        comparison: What came out.
        out_dir: Where they go.

    Returns:
        What ``parity.json`` holds.

    Raises:
        StorageError: The disk is full or cannot be written.
    """
    bounds = params.export.model_dump(include={"max_mean_difference", "min_mask_agreement", "int8"})
    report = {
        **{name: record.get(name) for name in ("candidate", "variant", "sha256", "dataset_version")},
        "passed": all(state["may_serve"] for state in comparison.runtimes.values() if state["serves"]),
        "pictures": len(comparison.pictures),
        "threshold": params.benchmark.threshold,
        "bounds": bounds,
        "runtimes": comparison.runtimes,
        "pairs": [asdict(pair) for pair in comparison.pairs],
    }
    write_atomic(out_dir / JSON_FILE, (json.dumps(report, indent=2) + "\n").encode())
    write_atomic(out_dir / HTML_FILE, _page(report, comparison).encode())
    return report


def _page(report: Mapping[str, Any], comparison: Comparison) -> str:
    height, width = comparison.pictures.shape[1:3]
    size = f"{height}x{width}"
    outcome = "may be published" if report["passed"] else '<b class="bad">is not put forward for publication</b>'
    return _PAGE.substitute(
        candidate=escape(str(report["candidate"])),
        verdict=f"{escape(str(report['candidate']))}, {escape(str(report['variant']))}: {outcome}.",
        runtimes="".join(_runtime_row(name, state) for name, state in comparison.runtimes.items()),
        pictures=report["pictures"],
        pairs="".join(_pair_row(pair) for pair in comparison.pairs),
        size=size,
        figures="".join(_figure(pair, comparison) for pair in comparison.pairs if pair.size == size),
    )


def _runtime_row(name: str, state: Mapping[str, Any]) -> str:
    may = "may serve" if state["may_serve"] else "may not serve"
    words = "the reference" if name == "pytorch" else f"{may}: {state['fault']}" if "fault" in state else may
    figures = (f"{state[key]:.5f}" if key in state else "" for key in ("mean_difference", "mask_agreement"))
    mark = "" if state["may_serve"] or name == "pytorch" else " bad"
    cells = "".join(f"<td>{escape(text)}" for text in (_named(name), state.get("precision", ""), *figures))
    return f'<tr>{cells}<td class="words{mark}">{escape(words)}</tr>\n'


def _pair_row(pair: Pair) -> str:
    cells = (
        f"{_named(pair.left)} and {_named(pair.right)}",
        pair.size,
        f"{pair.mean_difference:.4f}",
        f"{pair.mask_agreement:.5f}",
        f"{pair.equal_masks:.0%}",
        f"{pair.worst_mask_agreement:.5f}",
    )
    kept = "<td>kept" if pair.within else '<td class="bad">broken'
    return "<tr>" + "".join(f"<td>{escape(text)}" for text in cells) + kept + "</tr>\n"


def _figure(pair: Pair, comparison: Comparison) -> str:
    image = comparison.pictures[pair.worst]
    limit = comparison.threshold * 255
    left, right = (comparison.answers[name][pair.worst] >= limit for name in (pair.left, pair.right))
    drawn = image.copy()
    drawn[left != right] = _APART
    words = (
        f"{_named(pair.left)} and {_named(pair.right)}: picture {pair.worst + 1}, "
        f"{int((left != right).sum())} pixels apart"
    )
    pictures = "".join(f'<img alt="" src="data:image/jpeg;base64,{_jpeg(part)}"> ' for part in (image, drawn))
    return f"<figure>{pictures}<figcaption>{escape(words)}</figcaption></figure>\n"


def _named(runtime: str) -> str:
    name, _, precision = runtime.partition("_")
    names = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "triton": "Triton"}
    return f"{names.get(name, name)} {precision}".strip()


def _jpeg(image: NDArray[np.uint8]) -> str:
    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    # Nearest: a single pixel that differs must not fade away. A picture of 512 loses some, whence the number below it.
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)
    _, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return base64.b64encode(data.tobytes()).decode()
