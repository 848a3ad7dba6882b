"""`privseg dataset …`: tables for people, JSON for programs, one line and an exit code for every fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privseg.cli import main
from privseg.testing.tiny_versions import TinyVersions, sample


class Two(TinyVersions):
    """A home with two versions; from the first to the second a sample moved between splits."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        street = [sample(f"street/{i:03d}") for i in range(5)]
        self.first = self.record([*street, *(sample(f"mall/{i:03d}", split="test") for i in range(3))])
        self.then = self.digests()
        self.second = self.record([*street[1:], sample("street/000", split="test")], validation_share=0.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Two:
    return Two(tmp_path_factory.mktemp("cli") / "home")


class Command:
    """The command line in this process, from its arguments to its exit code, in a folder of the test's own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd
        self.out = self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        self._monkeypatch.setattr(sys, "argv", ["privseg", "dataset", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        self.out, self.err = self._capfd.readouterr()
        return int(ended.value.code or 0)

    def json(self, *arguments: str | Path) -> Any:
        assert self(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def privseg(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    for name in [name for name in os.environ if name.startswith("PRIVSEG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capfd)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from privseg import cli_dataset\n"
        "heavy = {'dvc', 'pandas', 'pyarrow', 'numpy', 'botocore', 'configobj'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_versions_as_a_table_and_as_json(made: Two, privseg: Command) -> None:
    listed = privseg.json("versions", "--home", made.home)
    assert [version["name"] for version in listed] == [made.second, made.first]
    assert listed[1]["test"] == 3
    assert listed[1]["in_remote"] is True

    assert privseg("versions", "--home", made.home) == 0
    assert privseg.out.index(made.second) < privseg.out.index(made.first)
    assert "cache, remote" in privseg.out


def test_no_version_yet_is_an_empty_list_and_a_hint(privseg: Command) -> None:
    assert privseg.json("versions", "--home", "nowhere") == []
    assert privseg("versions", "--home", "nowhere") == 0
    assert privseg.out == ""
    assert "privseg run" in privseg.err


def test_diff_shows_what_changed_and_warns_of_moved_samples(made: Two, privseg: Command) -> None:
    found = privseg.json("diff", made.first[:9], made.second, "--home", made.home)
    assert (found["from"], found["to"]) == (made.first, made.second)
    assert found["samples"]["removed"] == 3
    assert found["moved"] == [{"sample_id": "street/000", "from": "train", "to": "test"}]

    assert privseg("diff", made.first, made.second, "--home", made.home) == 0
    assert "8 → 5 images" in privseg.out
    assert "split.validation_share" in privseg.out
    assert "WARNING: 1 samples moved between splits, for example street/000" in privseg.err

    assert privseg("diff", made.first, made.first, "--home", made.home) == 0
    assert privseg.err == ""


def test_checkout_goes_to_its_usual_place_and_the_report_finds_it(made: Two, privseg: Command, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(made.home, home, symlinks=True)
    folder = home / "datasets" / made.second
    done = privseg.json("checkout", made.second, "--home", home)
    assert done == {"version": made.second, "folder": str(folder), "written": True}
    assert made.digests(folder) == made.digests()

    assert privseg("checkout", made.second, "--home", home) == 0
    assert "was there" in privseg.out

    shutil.rmtree(home / "workspace" / "reports")
    assert privseg("report", "--home", home) == 0
    assert made.second in privseg.out
    assert str(folder / "reports" / "validation" / "validation.html") in privseg.out
    found = privseg.json("report", "--home", home)
    assert found["sources"]["all"]["kept"] == 5
    assert found["pages"]["dataset"] == str(folder / "reports" / "dataset" / "index.html")


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["checkout", "ds-nothing"], 2, "ds-nothing"),
        (["diff", "ds-nothing", "ds-nothing"], 2, "ds-nothing"),
        (["report", "--home", "nowhere"], 2, "nowhere"),
        (["fetch", "imagenet"], 2, "imagenet"),
        (["fetch", "voc", "--base-url", "ftp://mirror"], 2, "ftp://mirror"),
    ],
)
def test_a_fault_is_one_line_with_its_exit_code(
    arguments: list[str], code: int, named: str, made: Two, privseg: Command
) -> None:
    home = [] if "--home" in arguments or arguments[0] == "fetch" else ["--home", made.home]
    assert privseg(*arguments, *home) == code, privseg.err
    assert privseg.out == ""
    lines = privseg.err.strip().splitlines()
    assert len(lines) == 1
    assert named in lines[0]
    assert "Next: " in lines[0]
