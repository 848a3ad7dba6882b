"""The command line: instant help, one-line errors, documented exit codes, --json on what shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def privseg(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PRIVSEG_")}
    return subprocess.run(
        [sys.executable, "-m", "privseg", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from privseg import cli\n"
        "heavy = {'torch', 'cv2', 'av', 'tritonclient', 'great_expectations', 'airflow', 'pandas', 'onnxruntime'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "anonymize" in privseg("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["anonymize", "nowhere.mp4", "out.mp4", "--triton", "127.0.0.1:9"], 2, "nowhere.mp4"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--method", "paint"], 2, "paint"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--param", "color"], 2, "color"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--method", "pixelate"], 2, "only obfuscates"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--profile", "none"], 2, "profile none"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--triton", "x", "--policy", "hold_frames=-1"], 2, "hold_frames"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--triton", "x", "--zones", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["anonymize", "nowhere.mp4", "out.mp4", "--param", "color=blue"], 2, "color"),
        (["anonymize", "nowhere.mp4", "out.mp4"], 5, "Triton"),
        (["stream", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["triton", "status"], 5, "Triton"),
        (["model", "rollback"], 5, "Triton"),
        (["stage", "ingest", "scenes"], 2, "workspace"),
        (["workspace", "--data", "nowhere"], 2, "nowhere"),
        (["workspace", "--set", "profile=huge"], 2, "profile"),
        (["workspace", "--recipe", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_a_fault_is_one_line_that_names_the_object_and_the_next_step(
    arguments: list[str], code: int, named: str, tmp_path: Path
) -> None:
    done = privseg(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert "Next: " in lines[0]


def test_a_file_that_is_no_video_is_bad_data(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"not a video at all" * 50)
    done = privseg("anonymize", str(clip), str(tmp_path / "out.mp4"), "--triton", "127.0.0.1:9")
    assert done.returncode in {3, 5}  # whichever is found first
    assert not (tmp_path / "out.mp4").exists()


def test_methods_are_listed_with_their_class() -> None:
    listed = {entry["name"]: entry for entry in json.loads(privseg("methods", "--json").stdout)}
    assert {"blank", "silhouette", "pixelate"} <= set(listed)
    assert listed["blank"]["privacy_class"] == "irreversible"
    assert listed["pixelate"]["privacy_class"] == "obfuscation"
    assert listed["blank"]["cells_across"] == 0
    assert listed["morph"]["parameters"]["target"]["choices"] == ["neutral", "tracked"]
    assert listed["morph"]["parameters"]["strength"]["minimum"] == 0.5
    assert all(entry["does_not_hide"] for entry in listed.values())


def test_no_version_yet_is_an_empty_list(tmp_path: Path) -> None:
    done = privseg("model", "list", "--json", "--home", str(tmp_path))
    assert json.loads(done.stdout) == []


def test_json_of_triton_status_is_for_programs(tmp_path: Path) -> None:
    done = privseg("triton", "status", "--home", str(tmp_path), "--json")
    assert done.returncode == 5
    assert done.stdout == ""
