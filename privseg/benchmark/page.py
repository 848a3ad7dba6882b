"""The benchmark as one page: no script, nothing beside itself, light or dark, on a phone as on a desk."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any

from privseg.benchmark import pictures
from privseg.benchmark.columns import ACCURACY, COMPLEXITY, MISSED, NOTHING, TRAINING, verdict
from privseg.benchmark.page_style import STYLE
from privseg.benchmark.plot import Frame, Point, bubble_plot
from privseg.benchmark.tables import (
    figures_table,
    measured_shapes,
    plain_table,
    runtime_name,
    speed_table,
    study_table,
)

__all__ = ["Gallery", "render_page"]

Row = Mapping[str, Any]
Gallery = Mapping[str, Sequence[bytes | None]]
"""Title of a row of pictures to its JPEG files; None where one is missing."""

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Benchmark: $winner</title>
<style>$style</style>
<h1>Benchmark</h1>
$verdict
<nav><a href="#overall">Overall</a><a href="#accuracy">Accuracy</a><a href="#missed">Missed people</a>
<a href="#speed">Speed</a><a href="#complexity">Complexity</a><a href="#pictures">Pictures</a>
<a href="#choice">Choice</a><a href="#study">The study</a><a href="#conditions">Conditions</a></nav>
<h2 id="overall">Overall</h2>
$overall
<h2 id="accuracy">Accuracy</h2>
$accuracy
<h2 id="missed">Missed people</h2>
$missed
<h2 id="speed">Speed</h2>
$speed
<h2 id="complexity">Complexity</h2>
$complexity
<h2 id="pictures">Pictures</h2>
$pictures
<h2 id="choice">Choice</h2>
$choice
<h2 id="study">Beside the study</h2>
$study
<h2 id="conditions">Conditions</h2>
$conditions
</html>
""")


def render_page(results: Row, gallery: Gallery) -> str:
    """Render the page.

    Args:
        results: What ``gather_results`` gave.
        gallery: Rows of pictures: input, truth, and each candidate's.
    """
    rows, winner = results["candidates"], results["winner"]
    shapes = measured_shapes(rows)
    speed = "".join(
        f"<h3>{height}x{width}</h3>{speed_table(rows, (height, width), winner)}" for height, width in shapes
    )
    return _PAGE.substitute(
        style=STYLE,
        winner=escape(winner),
        verdict=_verdict(results),
        overall=_overall(results),
        accuracy=_soft(
            "Over all labelled pixels of the test pictures together; human is the positive class. Score: "
            f"{results['rule']['score']}. Boundary F: outlines met within 0.75 % of the picture's diagonal."
        )
        + figures_table(rows, ACCURACY, winner),
        missed=_missed(rows, winner),
        speed=_soft(
            "Batch of one unless it says otherwise, from pictures in memory to their person probability in memory. "
            "Other programs may have run meanwhile, and absolute times vary from run to run: ratio, the pictures a "
            "second as a multiple of the winner's, varies less."
        )
        + _load(rows)
        + speed,
        complexity=_soft(
            f"FLOPs: {rows[0]['complexity']['flops_convention']}. Peak memory at {rows[0]['complexity']['size']}x"
            f"{rows[0]['complexity']['size']}: {rows[0]['complexity']['peak_memory_convention']}."
        )
        + figures_table(rows, COMPLEXITY, winner),
        pictures=_pictures(gallery),
        choice=_choice(results),
        study=_study(results),
        conditions=_conditions(rows),
    )


def _verdict(results: Row) -> str:
    rule = results["rule"]
    row = next(row for row in results["candidates"] if row["candidate"] == results["winner"])
    runtime = f" in {runtime_name(rule['latency_runtime'])}" if "latency_runtime" in rule else ""
    tiles = {
        "score": f"{row['score']:.3f}",
        "IoU human": f"{row['accuracy']['iou_human']:.3f}",
        "recall": f"{row['accuracy']['recall']:.3f}",
        "precision": f"{row['accuracy']['precision']:.3f}",
        "median latency": f"{row['speed']['p50_ms']:.1f} ms",
        "parameters": f"{row['complexity']['parameters'] / 1e6:.2f} M",
    }
    boxes = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in tiles.items())
    return (
        f'<p class="verdict">{escape(verdict(results))}</p>\n'
        + _soft(f"Rule: the highest {rule['score']}, among those within {rule['max_latency_ms']:g} ms{runtime}.")
        + f'\n<div class="tiles">{boxes}</div>'
    )


def _overall(results: Row) -> str:
    rows, first = results["candidates"], results["candidates"][0]["speed"]
    points = [
        Point(
            row["candidate"],
            row["speed"]["fps"],
            row["accuracy"]["iou_human"],
            row["complexity"]["parameters"],
            f"{row['candidate']}: IoU {row['accuracy']['iou_human']:.3f}, {row['speed']['fps']:.1f} FPS, "
            f"{row['complexity']['parameters'] / 1e6:.2f} M parameters",
        )
        for row in rows
    ]
    where = f"{runtime_name(first['runtime'])}, {first['height']}x{first['width']}"
    return _figure(
        points,
        f"pictures a second ({where})",
        "human IoU",
        results["winner"],
        '<span class="key" style="background:var(--accent)"></span>winner'
        '<span class="key" style="background:var(--front)"></span>on the Pareto front (dashed): none is both faster '
        'and better<span class="key" style="background:var(--other)"></span>others. A bubble\'s area is the number of '
        f"parameters; the largest has {max(point.size for point in points) / 1e6:.1f} M.",
    )


def _figure(points: Sequence[Point], x_label: str, y_label: str, winner: str, caption: str) -> str:
    wide = bubble_plot(points, Frame(x_label, y_label), winner)
    narrow = bubble_plot(points, Frame(x_label, y_label, width=370, height=520, largest=20, type_size=11), winner)
    return (
        f'<figure><div class="wide">{wide}</div><div class="narrow">{narrow}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _missed(rows: Sequence[Row], winner: str) -> str:
    accuracy = rows[0]["accuracy"]
    counts, heights = accuracy["person_miss_rate"], accuracy["person_height_buckets"]
    low, high = heights["small_below"], heights["large_above"]
    text = (
        f"Share of people of whom less than 80 % was found, by their height in the picture: small below {low} pixels "
        f"({counts['small']['people']} people), medium {low} to {high} ({counts['medium']['people']}), large above "
        f"{high} ({counts['large']['people']}). A person is a connected group of human pixels. Recall: share of their "
        "pixels found."
    )
    return _soft(text) + figures_table(rows, MISSED, winner)


def _load(rows: Sequence[Row]) -> str:
    loads = [row["load_average"] for row in rows]
    processors, own = rows[0]["hardware"]["logical_cpus"], rows[0]["hardware"]["threads"]
    if max(loads) <= own + processors / 2:
        return ""
    return (
        f"<p><strong>The machine was busy:</strong> load averages from {min(loads):.1f} to {max(loads):.1f} on "
        f"{processors} logical processors just before the timing, {own} of which is the benchmark's own. "
        "Times are longer than on an idle machine.</p>"
    )


def _pictures(gallery: Gallery) -> str:
    keys = "".join(
        f'<span class="key" style="background:rgb{colour}"></span>{name}'
        for name, colour in (
            ("found", pictures.FOUND),
            ("missed", pictures.MISSED),
            ("background taken for a person", pictures.INVENTED),
        )
    )
    rows = "".join(
        f"<b>{escape(title)}</b><div>"
        + "".join(_image(data, f"{title}, picture {number}") for number, data in enumerate(row, start=1))
        + "</div>"
        for title, row in gallery.items()
    )
    return f'<p class="soft">{keys}</p>\n<div class="scroll" tabindex="0"><div class="pictures">{rows}</div></div>'


def _image(data: bytes | None, text: str) -> str:
    if data is None:
        return "<small>no picture</small>"
    return f'<img alt="{escape(text)}" src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}">'


def _choice(results: Row) -> str:
    rows = [[row["candidate"], row["reason"]] for row in results["candidates"]]
    text = plain_table(["Candidate", "Reason"], rows, words=(1,))
    if champion := results["champion"]:
        text += "<h3>Against the version that serves</h3>" + _champion(results, champion)
    if failed := results["failed"]:
        text += "<h3>Failed</h3>"
        text += plain_table(["Candidate", "Reason"], [[row["candidate"], row["reason"]] for row in failed], words=(1,))
    return text


def _champion(results: Row, champion: Row) -> str:
    row = next(row for row in results["candidates"] if row["candidate"] == results["winner"])
    ours = {"score": row["score"], **row["accuracy"]}
    figures = [name for name in ("score", "iou_human", "recall", "precision") if champion.get(name) is not None]
    named = {"score": "Score", "iou_human": "IoU human", "recall": "Recall", "precision": "Precision"}
    lines = [
        [row["candidate"], *(f"{ours[name]:.3f}" for name in figures)],
        [f"version {champion['version']}", *(f"{champion[name]:.3f}" for name in figures)],
    ]
    text = plain_table(["Model", *(named[name] for name in figures)], lines)
    if found := results["bootstrap"]:
        (low, high), rule = found["interval"], results["rule"]
        text += _soft(
            f"Paired bootstrap over the test pictures, {found['samples']} resamples: difference of the scores "
            f"{found['difference']:+.4f}, {found['confidence']:.0%} interval {low:+.4f} to {high:+.4f}; the challenger "
            f"wins {found['wins']:.2%}, and {rule['wins_asked']:.2%} is asked: it is the best of {rule['compared']} on "
            f"these pictures, and chance has as many goes ({rule['confidence']:.1%} of one alone; Bonferroni)."
        )
    return text


def _study(results: Row) -> str:
    study, first = results["study"], results["candidates"][0]["speed"]
    where = f"{runtime_name(first['runtime'])} at {first['height']}x{first['width']}"
    points = [
        Point(model["model"], model["fps"], model["mean_iou"], 0, f"{model['model']}: {model['fps']} FPS")
        for model in study["models"]
    ]
    return (
        _soft(f"{study['note']} Ours: {where}, mean IoU of human and background.")
        + study_table(study["models"], results["candidates"])
        + "<h3>The study's figures, drawn</h3>"
        + _figure(points, "pictures a second (V100)", "mIoU, Cityscapes", "", "As published; dashed: the Pareto front.")
    )


def _conditions(rows: Sequence[Row]) -> str:
    first = rows[0]
    text = (
        f"<p>{first['images']} test images, {first['people_images']} of them with people; a pixel counts as human from "
        f"probability {first['threshold']:g}.</p>\n"
    )
    machines: dict[str, list[str]] = {}
    for row in rows:
        machines.setdefault(_machine(row["hardware"]), []).append(row["candidate"])
    if len(machines) == 1:
        text += f"<p>{escape(next(iter(machines)))}</p>\n"
    else:
        text += "<p><strong>Not all were measured on the same machine: their latencies do not compare.</strong></p>\n"
        text += plain_table(
            ["Machine", "Candidates"], [[name, ", ".join(names)] for name, names in machines.items()], words=(1,)
        )
    return text + _training(rows)


def _machine(hardware: Row) -> str:
    gpu = hardware["gpu"] or "no GPU"
    versions = ", ".join(f"{name} {version}" for name, version in hardware["versions"].items())
    return (
        f"{hardware['cpu']}, {hardware['logical_cpus']} logical processors of which an inference may use "
        f"{hardware['threads']}, {hardware['memory_bytes'] / 2**30:.0f} GiB memory, {gpu}; {hardware['system']}; "
        f"{versions}."
    )


def _training(rows: Sequence[Row]) -> str:
    lines = [
        [
            row["candidate"],
            *(column.text(row) for column in TRAINING),
            row["training"].get("device") or NOTHING,
            row["training"].get("pretrained") or "nothing",
        ]
        for row in rows
    ]
    heads = ["Candidate", *(column.heading for column in TRAINING), "Device", "Pre-trained on"]
    return "<h3>Training</h3>" + plain_table(heads, lines, words=(len(heads) - 1,))


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'
