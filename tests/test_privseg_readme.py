"""What the README shows is true."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from privseg.cli import app
from privseg.privacy.filters.registry import METHODS
from privseg.streaming.config import load_config

README = Path(__file__).resolve().parents[1] / "README.md"


def test_its_camera_configuration_loads(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    file = tmp_path / "cameras.yaml"
    file.write_text(block[1], encoding="utf-8")
    config = load_config(file, {"CAMERA_USER": "u", "CAMERA_PASSWORD": "p"})
    assert set(config.cameras) == {"entrance", "yard"}


def test_its_commands_and_methods_exist() -> None:
    text = README.read_text(encoding="utf-8")
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"^    privseg ([a-z]+)", text, re.MULTILINE)) <= commands
    assert set(re.findall(r"--method ([a-z]+)", text)) <= set(METHODS)


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (README.parent / target).exists(), target
