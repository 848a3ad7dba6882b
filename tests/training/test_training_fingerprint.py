"""A training goes on from a checkpoint of the same training only: whatever changes it changes its fingerprint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from privseg.params import Params, SourceParams, load_params
from privseg.training._record import fingerprint

CANDIDATE = "stdc1"
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
# A run may go on with other ones; `full` is not the active profile; backbones have tests of their own.
OF_NO_CONSEQUENCE = {"smoke.workers", "smoke.accumulate", "smoke.checkpoint_seconds"}


def fields(section: BaseModel, prefix: str = "") -> Iterator[str]:
    """Every field of a section and of those in it, dotted."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def changed(section: Any, name: str, value: Any = None) -> Any:
    """A copy of a section in which one field has another value: the one given, or just another one."""
    first, _, rest = name.partition(".")
    old = getattr(section, first)
    if rest:
        new = changed(old, rest, value)
    elif value is not None:
        new = value
    elif isinstance(old, dict):
        new = old | {"scenes": 2.0}
    else:
        new = not old if isinstance(old, bool) else old + 1
    return section.model_copy(update={first: new})


ALL = [f"train.{name}" for name in fields(PARAMS.train) if name != "backbones"]
SAME = {f"train.{name}" for name in OF_NO_CONSEQUENCE} | {name for name in ALL if name.startswith("train.full.")}


@pytest.fixture(scope="module")
def manifest(tiny_dataset: tuple[Path, Path]) -> Path:
    return tiny_dataset[0]


def key(params: Params, manifest: Path) -> str:
    """The fingerprint, with settings that are the same whatever the parameters."""
    return fingerprint(params, CANDIDATE, {"model": {}, "optim_wrapper": {}}, manifest, torch.device("cpu"))


@pytest.mark.parametrize("name", sorted(set(ALL) - SAME))
def test_every_field_that_changes_a_training_changes_its_fingerprint(manifest: Path, name: str) -> None:
    assert key(changed(PARAMS, name), manifest) != key(PARAMS, manifest)


@pytest.mark.parametrize("name", sorted(SAME))
def test_what_makes_no_difference_does_not(manifest: Path, name: str) -> None:
    assert key(changed(PARAMS, name), manifest) == key(PARAMS, manifest)


@pytest.mark.parametrize("name", ["seed", "image.size"])
def test_so_do_seed_and_size(manifest: Path, name: str) -> None:
    assert key(changed(PARAMS, name), manifest) != key(PARAMS, manifest)


def test_sources_count_by_whether_they_are_drawn(manifest: Path) -> None:
    def with_sources(**kinds: str) -> str:
        sources = {name: SourceParams(kind=kind) for name, kind in kinds.items()}
        return key(changed(PARAMS, "sources", sources), manifest)

    before = with_sources(one="pairs", two="synthetic")
    assert with_sources(one="synthetic", two="synthetic") != before
    assert with_sources(two="synthetic", one="voc") == before


def test_a_backbone_counts_by_its_bytes_and_for_its_own_candidate(manifest: Path, tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one.pth", "same.pth", "other.pth"))
    for file, content in ((one, b"weights"), (same, b"weights"), (other, b"others")):
        file.write_bytes(content)

    def with_backbone(candidate: str, file: Path) -> str:
        return key(changed(PARAMS, "train.backbones", {candidate: str(file)}), manifest)

    assert with_backbone(CANDIDATE, one) == with_backbone(CANDIDATE, same)
    keys = {key(PARAMS, manifest), with_backbone(CANDIDATE, one), with_backbone(CANDIDATE, other)}
    assert len(keys) == 3
    assert with_backbone("stdc2", other) == key(PARAMS, manifest)
