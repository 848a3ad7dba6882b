"""What is wrong with the training parameters is said before there is anything to train on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privseg.errors import UsageError
from privseg.params import Params, check_params, load_params, read_params_file
from privseg.training.checks import check_training, parts_of_batch

PARAMS_FILE = Path(__file__).parents[2] / "params.yaml"


def changed(**train: object) -> Params:
    """The parameters as they come, with some of ``train`` replaced; profiles are added to."""
    values = read_params_file(PARAMS_FILE)
    for name, value in train.items():
        values["train"][name] = {**values["train"].get(name, {}), **value}
    return check_params(values, PARAMS_FILE)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    return file


def test_the_parameters_as_they_come_and_good_ones_pass(weights: Path) -> None:
    check_training(load_params(PARAMS_FILE))
    good = {"batch_size": 12, "accumulate": 3}
    check_training(changed(backbones={"fcn_r18": str(weights)}, source_weights={"scenes": 2.0}, smoke=good, full=good))


def test_a_backbone_of_no_candidate(weights: Path) -> None:
    with pytest.raises(
        UsageError, match=r"train\.backbones\.fnc_r18: is no candidate.*did you mean 'fcn_r18'\? .*stdc1"
    ):
        check_training(changed(backbones={"fnc_r18": str(weights)}))


def test_a_backbone_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"train\.backbones\.fcn_r18: is .*/absent\.pth, which is no file.*correct or rem"
    ):
        check_training(changed(backbones={"fcn_r18": str(tmp_path / "absent.pth")}))


def test_a_backbone_that_only_the_current_folder_has(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(weights.parent)
    with pytest.raises(UsageError, match=r"train\.backbones\.fcn_r18: is 'weights\.pth', a relative path.*whole path"):
        check_training(changed(backbones={"fcn_r18": "weights.pth"}))


def test_a_weight_of_no_source() -> None:
    with pytest.raises(
        UsageError, match=r"train\.source_weights\.scene: is no source of this run\. Next: did you mean 'scenes'\? "
    ):
        check_training(changed(source_weights={"scene": 2.0}))


@pytest.mark.parametrize("profile", ["smoke", "full"])
@pytest.mark.parametrize(("batch_size", "accumulate"), [(6, 4), (6, 6)], ids=["uneven", "single images"])
def test_a_batch_that_its_parts_do_not_divide(profile: str, batch_size: int, accumulate: int) -> None:
    with pytest.raises(
        UsageError, match=rf"train\.{profile}\.batch_size 6: cannot be divided.*multiple of {accumulate}, "
    ) as caught:
        check_training(changed(**{profile: {"batch_size": batch_size, "accumulate": accumulate}}))
    assert caught.value.exit_code == 2


def test_checking_loads_no_framework() -> None:
    code = "import sys, privseg.training.checks; sys.exit(bool({'torch', 'mmseg', 'cv2', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.integers(2, 64), st.integers(1, 8), st.integers(1, 8))
def test_a_batch_is_divided_evenly_or_refused(batch_size: int, processes: int, accumulate: int) -> None:
    try:
        images = parts_of_batch(batch_size, processes, accumulate)
    except UsageError:
        assert batch_size % (processes * accumulate) or batch_size // (processes * accumulate) < 2
    else:
        assert images * processes * accumulate == batch_size
        assert images >= 2
