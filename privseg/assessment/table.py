"""The assessment in words and tables: Markdown for the documents, rows for the terminal, and the targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["COLUMNS", "coverage_markdown", "markdown", "rows_of", "strengths_markdown", "targets", "targets_markdown"]

Row = Mapping[str, Any]
_GAIN_DB: Final = 1.0
_TIMES_CHANCE: Final = 1.5
_WRONG_KEY: Final = 0.1

#: heading, and how a row's figure is written
COLUMNS: Final[Sequence[tuple[str, Callable[[Row, float], str]]]] = (
    ("method", lambda row, chance: f"`{row['label']}`"),
    ("class", lambda row, chance: row["privacy_class"]),
    ("px/m", lambda row, chance: _number(row["pixels_per_metre"], 1)),
    ("bits left, at most", lambda row, chance: _bits(row)),
    ("inversion dB", lambda row, chance: _pair(row["inversion"])),
    ("fusion dB, still", lambda row, chance: _pair(row["fusion"]["still"])),
    ("fusion dB, moving", lambda row, chance: _pair(row["fusion"]["moving"])),
    ("restorer dB", lambda row, chance: _number((row.get("restorer") or {}).get("learnt_db"), 1, sign=True)),
    ("re-identified by appearance", lambda row, chance: _times(row["parrot"]["appearance"], chance)),
    ("by outline too", lambda row, chance: _times(row["parrot"]["shape"], chance)),
    ("faces left", lambda row, chance: _percent(row["faces"])),
    ("found", lambda row, chance: _percent(row["utility"]["found"])),
    ("counted", lambda row, chance: _percent(row["utility"]["counted"])),
    ("followed", lambda row, chance: _percent(row["utility"]["followed"])),
    ("posture", lambda row, chance: _percent(row["utility"]["posture"])),
    ("by the model", lambda row, chance: _percent(row["utility"]["detected"])),
)
_STRENGTH_COLUMNS: Final = ("method", "px/m", "inversion dB", "fusion dB, still", "re-identified by appearance")


def rows_of(result: Row, *, default: bool = True) -> list[list[str]]:
    """One list of texts a method, in the order of :data:`COLUMNS`; with ``default`` false, the other strengths'."""
    rows = [row for row in result["methods"] if row["default"] is default]
    return [[write(row, result["chance"]) for _, write in COLUMNS] for row in rows]


def markdown(result: Row) -> str:
    """The table of the methods as they are by default."""
    best = result["unprotected"]
    shares = [_percent(best[name]) for name in ("found", "counted", "followed", "posture", "detected")]
    last = ["*not protected*", "-", *["-"] * (len(COLUMNS) - 7), *shares]
    return _table([heading for heading, _ in COLUMNS], [*rows_of(result), last])


def strengths_markdown(result: Row) -> str:
    """The table of the other strengths, with what was left out for want of time."""
    chosen = [index for index, (heading, _) in enumerate(COLUMNS) if heading in _STRENGTH_COLUMNS]
    rows = [[row[index] for index in chosen] for row in rows_of(result, default=False)]
    table = _table([COLUMNS[index][0] for index in chosen], rows) if rows else "None was measured."
    return table + (f"\n\nNot measured for want of time: {', '.join(result['skipped'])}." if result["skipped"] else "")


def coverage_markdown(result: Row) -> str:
    """What the person model and the mask policy cover."""
    pictures, clips = result["coverage"]["pictures"], result["coverage"]["clips"]
    by_height = ", ".join(
        f"{name} {_percent(rate)}" for name, rate in pictures["miss_rate_by_height"].items() if rate is not None
    )
    flickers = ", ".join(f"{clip} {value:.3f}" for clip, value in result["coverage"]["flicker"].items())
    source = "real photographs" if result["data"] == "real" else "drawn pictures"
    return _table(
        ["measure", "figure"],
        [
            [f"person-pixel recall on {pictures['pictures']} {source}: median", _percent(pictures["recall_p50"], 1)],
            ["5th percentile", _percent(pictures["recall_p5"], 1)],
            ["lowest", _percent(pictures["recall_min"], 1)],
            [
                f"people of whom less than 80 % is covered, of {pictures['people']}",
                f"{_percent(pictures['miss_rate'], 1)} ({by_height} by height: below 32, to 96, above 96 pixels)",
            ],
            ["background covered without need (over-masking)", _percent(pictures["over_masking"], 1)],
            [
                f"leak frames per 1,000, drawn clips of {clips['frames']} frames through the pipeline",
                f"{clips['leaks_per_1000']:.0f}",
            ],
            ["longest run of leak frames", str(clips["longest_leak"])],
            ["person-pixel recall there", _percent(clips["recall"], 1)],
            ["flicker: IoU of successive masks, flow-warped, without temporal hold (1: none)", flickers],
        ],
    )


def targets(result: Row) -> list[tuple[str, bool, str]]:
    """What must hold: in words, whether it does, and who is worst."""
    rows = result["methods"]
    hidden = [row for row in rows if row["privacy_class"] == "irreversible"]
    keyed = [row for row in rows if row["keys"]]
    chance = result["chance"]
    found = [
        _target(
            "irreversible: naive inversion gains < 1 dB", hidden, lambda r: r["inversion"]["gain_db"], _GAIN_DB, "dB"
        ),
        _target(
            "irreversible: what inversion gains of the person < 1 dB",
            hidden,
            lambda r: r["inversion"]["learnt_db"],
            _GAIN_DB,
            "dB",
        ),
        _target(
            "irreversible: fusion of frames gains < 1 dB",
            hidden,
            lambda r: max(r["fusion"][kind]["gain_db"] for kind in ("still", "moving")),
            _GAIN_DB,
            "dB",
        ),
        _target(
            "irreversible: what fusion gains of the person < 1 dB",
            hidden,
            lambda r: max(r["fusion"][kind]["learnt_db"] for kind in ("still", "moving")),
            _GAIN_DB,
            "dB",
        ),
        _target(
            "irreversible: re-identified by appearance ≤ 1.5 x chance",
            hidden,
            lambda r: r["parrot"]["appearance"] / chance,
            _TIMES_CHANCE,
            "x chance",
        ),
        _target("scrambled: SSIM with the wrong key < 0.1", keyed, lambda r: r["keys"]["wrong_key"], _WRONG_KEY, ""),
        _target(
            "scrambled: SSIM with a known frame's key stream < 0.1",
            keyed,
            lambda r: r["keys"]["known_plaintext"],
            _WRONG_KEY,
            "",
        ),
    ]
    outside = [row["label"] for row in rows if not row["outside_untouched"]]
    untouched = ("pixels outside the covered area are as they were", not outside, ", ".join(outside) or "all methods")
    return [*(target for target in found if target), *([untouched] if rows else [])]


def targets_markdown(result: Row) -> str:
    """The targets as a table."""
    return _table(
        ["must hold", "holds", "worst"],
        [[words, "yes" if held else "**no**", worst] for words, held, worst in targets(result)],
    )


def _target(
    words: str, rows: Sequence[Row], figure: Callable[[Row], float], limit: float, unit: str
) -> tuple[str, bool, str] | None:
    if not rows:
        return None
    worst = max(rows, key=figure)
    value = figure(worst)
    held = value <= limit if "≤" in words else value < limit
    return words, held, f"`{worst['label']}`: {value:.2f} {unit}".rstrip()


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _pair(gain: Row) -> str:
    """Over the protected picture, and in brackets the part that is the person's."""
    return f"{_number(gain['gain_db'], 1, sign=True)} ({_number(gain['learnt_db'], 1, sign=True)})"


def _bits(row: Row) -> str:
    if row["privacy_class"] == "reversible with key":
        return "all, with the key"
    return "-" if row["bits"] is None else f"{row['bits']:,.0f}"


def _times(rate: float | None, chance: float) -> str:
    return "-" if rate is None else f"{rate:.1%} ({rate / chance:.1f} x chance)"


def _percent(share: float | None, digits: int = 0) -> str:
    return "-" if share is None else f"{share:.{digits}%}"
