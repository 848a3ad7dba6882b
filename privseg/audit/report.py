"""What an audit leaves: a page for people, JSON for programs, metrics for Prometheus, and a line in the history.

::

    <folder>/audit.html    verdict, figures, the worst frames as outlines
    <folder>/audit.json    the last audit
    <folder>/audits.jsonl  one line an audit, for good
    <folder>/audit.prom    for the textfile collector of Prometheus' node exporter
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from privseg.audit.measure import Audit
from privseg.benchmark.page_style import STYLE
from privseg.errors import StorageError
from privseg.params import AuditParams
from privseg.streaming.places import write_whole

__all__ = ["HISTORY", "compare_with_history", "write_audit"]

HISTORY: Final = "audits.jsonl"
_GAUGES: Final = {
    "person_recall": ("privseg_audit_person_recall_ratio", "Covered share of the people's pixels in golden clips."),
    "leak_frames": ("privseg_audit_leak_frames", "Golden frames in which somebody was not covered to 80 %."),
    "frames": ("privseg_audit_frames", "Golden frames sent."),
    "withheld": ("privseg_audit_withheld_frames", "Golden frames without an answer."),
    "background_covered": ("privseg_audit_background_covered_ratio", "Covered share of the background."),
    "mean_difference": ("privseg_audit_parity_difference", "Mean difference to the version's own file, of 255."),
    "mask_agreement": ("privseg_audit_parity_mask_agreement_ratio", "Pixels with the same decision as the file's."),
}


def compare_with_history(result: Audit, folder: Path, rules: AuditParams) -> list[str]:
    """Find what got worse since the last audit of another version on the same clips; lines in words.

    A damaged line of the history is passed over.
    """
    earlier = None
    for line in _lines(folder / HISTORY):
        same_clips = {entry["clip"] for entry in line["clips"]} == {entry.clip for entry in result.clips}
        if same_clips and line["sha256"] != result.sha256 and not line["breaches"]:
            earlier = line
    if earlier is None or earlier["person_recall"] is None or result.person_recall is None:
        return []
    drop = earlier["person_recall"] - result.person_recall
    if drop <= rules.max_recall_drop:
        return []
    before = f"version {earlier['version']} covered {earlier['person_recall']:.3f} of the people's pixels"
    return [f"{before}, this one {result.person_recall:.3f}; a drop of {rules.max_recall_drop} is permitted"]


def write_audit(folder: Path, result: Audit, outcome: str) -> None:
    """Write all four files; ``outcome`` says in a sentence what followed from the audit.

    Raises:
        StorageError: A file cannot be written.
    """
    record = result.model_dump(mode="json") | {"outcome": outcome}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / HISTORY).open("a", encoding="utf-8") as history:
            history.write(json.dumps(record) + "\n")
    except OSError as error:
        raise StorageError.from_os_error(folder / HISTORY, error) from error
    write_whole(folder / "audit.json", (json.dumps(record, indent=2) + "\n").encode())
    write_whole(folder / "audit.html", _page(result, outcome).encode())
    write_whole(folder / "audit.prom", _metrics(result))


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            entry["clips"], entry["sha256"], entry["breaches"], entry["person_recall"], entry["version"]
        except (ValueError, TypeError, KeyError):
            continue
        found.append(entry)
    return found


def _metrics(result: Audit) -> bytes:
    registry = CollectorRegistry()
    for attribute, (name, help_text) in _GAUGES.items():
        value = getattr(result, attribute)
        if value is not None:
            Gauge(name, help_text, ["version"], registry=registry).labels(str(result.version)).set(value)
    Gauge("privseg_audit_breaches", "Rules that did not hold.", ["version"], registry=registry).labels(
        str(result.version)
    ).set(len(result.breaches))
    made = datetime.fromisoformat(result.created).timestamp()
    Gauge("privseg_audit_last_timestamp_seconds", "When the last audit ended.", registry=registry).set(made)
    return bytes(generate_latest(registry))


def _page(result: Audit, outcome: str) -> str:
    recall = "-" if result.person_recall is None else f"{result.person_recall:.3f}"
    verdict = "within its limits" if not result.breaches else "breached"
    tiles = {
        "people's pixels covered": recall,
        "frames that leak": f"{result.leak_frames} of {result.frames}",
        "background covered": f"{result.background_covered:.3f}",
        "frames withheld": str(result.withheld),
        "masks as the file's": f"{result.mask_agreement:.5f}",
    }
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit: version {result.version} {verdict}</title>
<style>{STYLE}</style>
<h1>Audit of version {result.version}: {verdict}</h1>
<p class="verdict">{escape(outcome)}</p>
<p class="soft">{escape(str(result.candidate))}, dataset {escape(str(result.dataset_version))},
{escape(result.created)}, {result.replicas} server(s). Golden clips went through the live servers as a camera's frames
do, people filled with one colour; what is not filled is not covered. A frame leaks when somebody of 32 pixels or more
is covered to less than 80 %.</p>
<div class="tiles">{"".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles.items())}</div>
{_breach_list(result)}
<h2>Clips</h2>
<div class="scroll"><table><thead><tr><th>clip</th><th>server</th><th>frames</th><th>leak</th><th>people</th>
<th>missed</th><th>below 32 px</th><th>missed</th><th>covered</th></tr></thead>
<tbody>{"".join(_row(entry) for entry in result.clips)}</tbody></table></div>
{_gallery(result)}
</html>
"""


def _breach_list(result: Audit) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in result.breaches)
    return f"<h2>Rules that do not hold</h2><ul>{items}</ul>" if items else ""


def _row(entry: Any) -> str:
    counts = entry.counts
    recall = "-" if counts.person_recall is None else f"{counts.person_recall:.3f}"
    figures = (
        entry.replica,
        counts.frames,
        counts.leak_frames,
        counts.people,
        counts.missed,
        counts.small_people,
        counts.small_missed,
        recall,
    )
    return f"<tr><th>{escape(entry.clip)}</th>{''.join(f'<td>{figure}</td>' for figure in figures)}</tr>"


def _gallery(result: Audit) -> str:
    if not result.worst:
        return ""
    figures = "".join(
        f'<figure><img alt="" style="max-width:100%" src="data:image/png;base64,'
        f'{base64.b64encode(item.outlines).decode()}"><figcaption>{escape(item.clip)}, frame {item.frame}: '
        f"{item.pixels} pixels of people uncovered</figcaption></figure>"
        for item in result.worst
    )
    legend = (
        "Green: people covered; red: people not covered; grey: covered without need. No pixel of a camera is shown."
    )
    grid = "display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1rem"
    return f'<h2>Worst frames</h2><p class="soft">{legend}</p><div style="{grid}">{figures}</div>'
