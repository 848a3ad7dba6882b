"""Methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from privseg.errors import UsageError
from privseg.privacy.filters.avatar import Avatar
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.blank import Blank
from privseg.privacy.filters.blur import Blur
from privseg.privacy.filters.box import Box
from privseg.privacy.filters.cartoon import Cartoon
from privseg.privacy.filters.compose import Composition
from privseg.privacy.filters.edges import Edges
from privseg.privacy.filters.false_colors import FalseColors
from privseg.privacy.filters.hashing import Hashing
from privseg.privacy.filters.hull import Hull
from privseg.privacy.filters.labels import Labels
from privseg.privacy.filters.morph import Morph
from privseg.privacy.filters.mosaic import Mosaic
from privseg.privacy.filters.noise import Noise
from privseg.privacy.filters.outline import Outline
from privseg.privacy.filters.pixelate import Pixelate
from privseg.privacy.filters.plate import Plate
from privseg.privacy.filters.scramble import Scramble
from privseg.privacy.filters.silhouette import Silhouette
from privseg.privacy.filters.token import Token
from privseg.privacy.filters.warp import Warp
from privseg.privacy.keys import Secrets

__all__ = ["METHODS", "create_method", "describe_methods"]

METHODS: Mapping[str, type[Method]] = {
    method.name: method
    for method in (
        Blank,
        Plate,
        Silhouette,
        Outline,
        Box,
        Hull,
        Avatar,
        Edges,
        Labels,
        Token,
        Hashing,
        Pixelate,
        Blur,
        Mosaic,
        Noise,
        Cartoon,
        Warp,
        Morph,
        FalseColors,
        Scramble,
    )
}


def create_method(
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    secrets: Secrets | None = None,
    allow_obfuscation: bool = True,
) -> Method:
    """Make a method from its name and parameters.

    Args:
        name: A key of :data:`METHODS`, or several joined by ``+``, which then follow one another.
        params: Values of its parameters; those left out keep their defaults. A composition's are named after their
            stage, as ``pixelate.cells``.
        secrets: Where a keyed method gets its keys.
        allow_obfuscation: Accept a method from whose output an attacker learns something.

    Raises:
        UsageError: No such method, no such parameter, or a value out of bounds; a method that needs a key ring has
            none; or the method is an obfuscation and that is not allowed. The message names it.
    """
    names = name.split("+")
    for stage in names:
        if stage not in METHODS:
            raise UsageError(f"method {stage}", "is not known", f"choose one of {', '.join(sorted(METHODS))}")
    given = dict(params or {})
    if len(names) == 1:
        method = _made(METHODS[name], given, secrets)
    else:
        stray = next((key for key in given if key.partition(".")[0] not in names or "." not in key), None)
        if stray is not None:
            raise UsageError(f"method {name}", f"has no parameter {stray}", f"name its stage, as {names[0]}.{stray}")
        method = Composition(
            [
                _made(
                    METHODS[stage],
                    {k.partition(".")[2]: v for k, v in given.items() if k.startswith(f"{stage}.")},
                    secrets,
                )
                for stage in names
            ]
        )
    if method.privacy_class == "obfuscation" and not allow_obfuscation:
        safe = ", ".join(sorted(kind.name for kind in METHODS.values() if kind.privacy_class == "irreversible"))
        next_step = f"choose one of {safe}, or say that obfuscation is enough here"
        raise UsageError(f"method {name}", "only obfuscates: an attacker may recognise people in its output", next_step)
    return method


def _made(kind: type[Method], params: Mapping[str, Any], secrets: Secrets | None) -> Method:
    if kind.needs_keys and secrets is None:
        raise UsageError(
            f"method {kind.name}", "needs keys and has none", "privseg keys create, then name the key ring"
        )
    try:
        checked = kind.params_type.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.params_type.model_fields)
            raise UsageError(f"method {kind.name}", f"has no parameter {field}", f"choose from {known}") from None
        raise UsageError(f"method {kind.name}", f"{field}: {first['msg']}", f"correct {field}") from None
    return kind(checked, secrets)


def describe_methods() -> list[dict[str, Any]]:
    """What there is to choose from, as plain data.

    Returns:
        For every method its ``name``, ``privacy_class``, ``does_not_hide``, ``needs_keys``, ``cells_across`` (with
        default parameters; 0: no cell of the person is left, None: as many as there were) and ``parameters``: for
        each ``default``, ``minimum``, ``maximum``, ``choices`` (None where it has none) and ``description``.
    """
    return [
        {
            "name": kind.name,
            "privacy_class": kind.privacy_class,
            "does_not_hide": kind.does_not_hide,
            "needs_keys": kind.needs_keys,
            "cells_across": kind().cells_across(),
            "parameters": {name: _parameter(field) for name, field in _fields(kind).items()},
        }
        for kind in METHODS.values()
    ]


def _fields(kind: type[Method]) -> Mapping[str, Mapping[str, Any]]:
    """The JSON schema of every parameter."""
    fields: Mapping[str, Mapping[str, Any]] = kind.params_type.model_json_schema().get("properties", {})
    return fields


def _parameter(field: Mapping[str, Any]) -> dict[str, Any]:
    # A value that may also be left out has its bounds in the first of its kinds.
    bounds = {**field, **field["anyOf"][0]} if "anyOf" in field else field
    return {
        "default": field.get("default"),
        "minimum": bounds.get("minimum", bounds.get("exclusiveMinimum")),
        "maximum": bounds.get("maximum", bounds.get("exclusiveMaximum")),
        "choices": [False, True] if bounds.get("type") == "boolean" else bounds.get("enum"),
        "description": field.get("description", ""),
    }
