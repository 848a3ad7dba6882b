"""What an assessment leaves: JSON, a table and a plot; and the marked parts of ``docs/privacy.md``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from privseg.assessment.coverage import Eye
from privseg.assessment.plot import draw_plot
from privseg.assessment.sheets import write_sheets
from privseg.assessment.table import coverage_markdown, markdown, strengths_markdown, targets_markdown
from privseg.errors import StorageError, UsageError
from privseg.streaming.places import write_whole

__all__ = ["DOCUMENT", "check_document", "fill_sections", "write_document", "write_result"]

#: where the documents of the checkout are
DOCUMENT: Final = Path("docs") / "privacy.md"
_SECTIONS: Final = ("methods", "strengths", "targets", "coverage", "run")


def write_result(result: Mapping[str, Any], folder: Path) -> None:
    """Write ``assess.json``, ``table.md`` and ``plot.png``. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "assess.json", (json.dumps(result, indent=2) + "\n").encode())
        text = "\n\n".join([markdown(result), strengths_markdown(result), targets_markdown(result)])
        write_whole(folder / "table.md", (text + "\n\n" + coverage_markdown(result) + "\n").encode())
        draw_plot(result, folder / "plot.png")
    except OSError as error:
        raise StorageError.from_os_error(folder, error) from error


def check_document(document: Path) -> None:
    """Raises UsageError where the document is not there or lacks a marked part."""
    if not document.is_file():
        raise UsageError(document, "is not there", "run the command in privseg's checkout, or leave --docs out")
    text = document.read_text(encoding="utf-8")
    for name in _SECTIONS:
        if not _marked(name).search(text):
            raise UsageError(
                document, f"lacks the marks <!-- assess:{name} --> … <!-- /assess:{name} -->", "restore them"
            )


def write_document(result: Mapping[str, Any], document: Path, data: Path | None, model: Path) -> None:
    """Regenerate the marked parts, the plot and the contact sheets. Raises UsageError, StorageError."""
    check_document(document)
    scale = result["scale"]
    run = (
        f"Measured {result['created'][:10]} on {result['data']} data in {result['seconds'] / 60:.1f} minutes: "
        f"{scale['identities']} identities (chance {result['chance']:.1%}), {scale['inverted']} people attacked by "
        f"inversion and fusion of {scale['fused']} frames, {scale['trained']} people to train the restorer and "
        f"{scale['restored']} to try it, {scale['frames']} frames each of {', '.join(scale['clips'])}; masks by "
        f"version {result['model_version']} of the model. Regenerate: `privseg assess --all --data DIR --docs`."
    )
    parts = {
        "methods": markdown(result),
        "strengths": strengths_markdown(result),
        "targets": targets_markdown(result),
        "coverage": coverage_markdown(result),
        "run": run,
    }
    images = document.parent / "images"
    try:
        images.mkdir(exist_ok=True)
        draw_plot(result, images / "privacy_utility.png")
        eye = Eye(model)
        try:
            write_sheets([row["method"] for row in result["methods"] if row["default"]], data, eye, images)
        finally:
            eye.close()
        write_whole(document, fill_sections(document.read_text(encoding="utf-8"), parts).encode())
    except OSError as error:
        raise StorageError.from_os_error(document, error) from error


def fill_sections(text: str, parts: Mapping[str, str]) -> str:
    """Put each part between its marks, ``<!-- assess:NAME -->`` and ``<!-- /assess:NAME -->``."""
    for name, part in parts.items():
        text = _marked(name).sub(lambda found, part=part: f"{found[1]}\n{part}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _marked(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- assess:{name} -->).*?(<!-- /assess:{name} -->)", re.DOTALL)
