"""Who may hold a raw frame: a written roster, checked against the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import privseg

ROOT = Path(privseg.__file__).parent
# Whoever is added here can show a person. The last one is the test camera.
ROSTER = {
    "privacy/frames.py",
    "streaming/adaptive.py",
    "streaming/protector.py",
    "streaming/source.py",
    "streaming/source_folder.py",
    "streaming/source_synthetic.py",
    "testing/camera.py",
}
# What only the protector, and the module that defines it, may do with a raw frame.
PRIVATE = {
    "model_input": {"privacy/frames.py", "streaming/protector.py"},
    "small_copy": {"privacy/frames.py", "privacy/motion.py", "streaming/adaptive.py", "streaming/protector.py"},
    "_protected_pixels": {"privacy/frames.py"},
}
# Where scrambled people come back: defined in the first, called in the second, named in no third.
UNSCRAMBLING = {"privacy/filters/scramble.py", "streaming/unscramble.py"}
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def words(source: str) -> set[str]:
    """Every identifier of a module, those inside text annotations and getattr() texts included, docstrings not."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.update((node.name, node.asname or ""))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found.update(node.value.replace(".", " ").replace("[", " ").replace("]", " ").split())
    return found


@pytest.mark.parametrize("module", MODULES)
def test_only_the_roster_names_the_raw_frame(module: str) -> None:
    found = words((ROOT / module).read_text(encoding="utf-8"))
    if module not in ROSTER:
        assert "RawFrame" not in found
        assert "_RawFrame__pixels" not in found
    for name, allowed in PRIVATE.items():
        if module not in allowed:
            assert name not in found
    if module != "privacy/frames.py":
        assert "_MAKER" not in found


def test_the_roster_is_no_longer_than_it_must_be() -> None:
    naming = {module for module in MODULES if "RawFrame" in words((ROOT / module).read_text(encoding="utf-8"))}
    assert naming == ROSTER


def test_people_come_back_in_one_place_only() -> None:
    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in MODULES}
    found = {module: words(source) for module, source in sources.items()}
    assert {module for module in MODULES if "decrypt" in found[module]} == UNSCRAMBLING
    assert {module for module in MODULES if "streaming.unscramble" in sources[module]} == {"cli_keys.py"}
    # What it makes are raw pixels in a file of its own: it cannot pass them off as protected ones.
    assert not {"ProtectedFrame", "protect", "slate", "H264FileSink"} & found["streaming/unscramble.py"]


def test_the_check_sees_a_name_in_every_disguise() -> None:
    for disguise in (
        "from privseg.privacy.frames import RawFrame",
        "from privseg.privacy.frames import RawFrame as Picture",
        "frames.RawFrame",
        "x: 'RawFrame' = 1",
        "x: 'list[frames.RawFrame]' = 1",
        "getattr(frames, 'RawFrame')",
    ):
        assert "RawFrame" in words(disguise)
    assert "RawFrame" not in words('"""About RawFrame."""')
