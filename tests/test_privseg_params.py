"""params.yaml: typed, bounded, described."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from privseg import params as module
from privseg.errors import UsageError
from privseg.params import load_params

SHIPPED = Path(module.__file__).resolve().parents[1] / "params.yaml"


def test_the_shipped_parameters_are_valid_and_follow_the_profile() -> None:
    params = load_params(SHIPPED)
    assert params.image.size == 512
    assert params.train_profile is params.train.smoke
    full = params.model_copy(update={"profile": "full"})
    assert full.train_profile is params.train.full
    assert full.benchmark_profile is params.benchmark.full


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seeed": 1}, "seeed"), ({"image": {"size": 100}}, "image.size"), ({"sources": {}}, "sources")],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, object], named: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(SHIPPED.read_text()) | change))
    with pytest.raises(UsageError) as caught:
        load_params(file)
    assert named in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_a_file_that_holds_no_mapping_is_one_clear_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"params\.yaml"):
        load_params(file)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        load_params(tmp_path / "params.yaml")


def test_every_field_is_described() -> None:
    sections = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__
    ]
    bare = {
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description
        and not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }
    assert bare == set()
