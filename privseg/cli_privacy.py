"""`privseg methods`, `keys`, `approve`, `unscramble`, `assess`: protection, its keys and what it is worth."""

from __future__ import annotations

import json
from typing import Any

import typer

from privseg.cli_options import JsonOption, show_table

__all__ = ["methods"]


def methods(as_json: JsonOption = False) -> None:
    """List the protection methods: class, parameters with bounds, what each does not hide."""
    from privseg.privacy.filters.registry import describe_methods

    described = describe_methods()
    if as_json:
        typer.echo(json.dumps(described, indent=2))
        return
    show_table(
        ["method", "class", "parameters", "does not hide"],
        [
            [
                m["name"],
                m["privacy_class"],
                ", ".join(f"{k}: {_short(v)}" for k, v in m["parameters"].items()),
                m["does_not_hide"],
            ]
            for m in described
        ],
    )


def _short(parameter: dict[str, Any]) -> str:
    """``default (lowest to highest)`` for numbers, ``default (one, other)`` for a choice, else the default alone."""
    default, choices = parameter["default"], parameter["choices"]
    if isinstance(default, bool):
        return "yes" if default else "no"
    if choices:
        return f"{default} ({', '.join(str(choice) for choice in choices)})"
    if parameter["minimum"] is None:
        return str(default)
    return f"{default} ({parameter['minimum']} to {parameter['maximum']})"
