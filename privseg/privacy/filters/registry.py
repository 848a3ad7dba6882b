"""Methods by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from privseg.errors import UsageError
from privseg.privacy.filters.base import Method
from privseg.privacy.filters.blank import Blank
from privseg.privacy.filters.pixelate import Pixelate
from privseg.privacy.filters.silhouette import Silhouette

__all__ = ["METHODS", "create_method", "describe_methods"]

METHODS: Mapping[str, type[Blank] | type[Silhouette] | type[Pixelate]] = {
    method.name: method for method in (Blank, Silhouette, Pixelate)
}


def create_method(name: str, params: Mapping[str, Any] | None = None) -> Method:
    """Make a method from its name and parameters.

    Args:
        name: A key of :data:`METHODS`.
        params: Values of its parameters; those left out keep their defaults.

    Raises:
        UsageError: No such method, no such parameter, or a value out of bounds; the message names it.
    """
    kind: Any = METHODS.get(name)
    if kind is None:
        raise UsageError(f"method {name}", "is not known", f"choose one of {', '.join(sorted(METHODS))}")
    try:
        checked = kind.params_type.model_validate(dict(params or {}))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.params_type.model_fields)
            raise UsageError(f"method {name}", f"has no parameter {field}", f"choose from {known}") from None
        raise UsageError(f"method {name}", f"{field}: {first['msg']}", f"correct {field}") from None
    method: Method = kind(checked)
    return method


def describe_methods() -> list[dict[str, Any]]:
    """What there is to choose from: name, privacy_class, does_not_hide, and parameters with default and bounds."""
    return [
        {
            "name": kind.name,
            "privacy_class": kind.privacy_class,
            "does_not_hide": kind.does_not_hide,
            "parameters": {name: _bounds(field) for name, field in kind.params_type.model_fields.items()},
        }
        for kind in METHODS.values()
    ]


def _bounds(field: FieldInfo) -> str:
    """``default (lowest to highest)`` for numbers, the default alone for the rest."""
    lowest, highest = (
        next((getattr(m, side) for m in field.metadata if hasattr(m, side)), None) for side in ("ge", "le")
    )
    return f"{field.default}" if lowest is None else f"{field.default} ({lowest} to {highest})"
