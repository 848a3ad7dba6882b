"""Helm's own engine for tests, in a process of its own.

The engine is written in Go. Its runtime takes over signals and threads of the process that loads it, and one that also
holds PyTorch, gRPC and their threads has died of it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["HelmChart", "RefusedByHelmError"]

_FRESH: Final = multiprocessing.get_context("spawn")


class RefusedByHelmError(Exception):
    """Helm refused values or a template; the text is the engine's.

    Attributes:
        kind: Name of the engine's own error: ``HelmValuesError`` for values, ``HelmRenderError`` for templates.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class HelmChart:
    """A chart that is linted and rendered in another process; close it to end that.

    Args:
        folder: The chart.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engine = ProcessPoolExecutor(1, mp_context=_FRESH)
        #: ``Chart.yaml``
        self.metadata: dict[str, Any]
        #: ``values.schema.json``; None where the chart has none
        self.schema: dict[str, Any] | None
        self.metadata, self.schema = self._ask(_facts)

    def render(self, values: dict[str, Any], *, name: str, namespace: str) -> dict[str, str]:
        """Render every template; file name to text.

        Raises:
            RefusedByHelmError: The schema refuses the values, or a template fails.
        """
        files: dict[str, str] = self._ask(_render, values, name, namespace)
        return files

    def lint(self, values: dict[str, Any], *, namespace: str) -> dict[str, Any]:
        """What Helm's linter says, strictly: ``errors`` and ``messages`` with their ``severity``."""
        report: dict[str, Any] = self._ask(_lint, values, namespace)
        return report

    def close(self) -> None:
        """End the process."""
        self._engine.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, function: Callable[..., Any], *arguments: object) -> Any:
        refused, answer = self._engine.submit(_answered, function, str(self._folder), *arguments).result()
        if refused:
            raise RefusedByHelmError(refused, answer)
        return answer


def _answered(function: Callable[..., Any], *arguments: object) -> tuple[str, Any]:
    """Answer in plain values: the engine's errors do not survive the way between processes."""
    from helm_python import HelmError

    try:
        return "", function(*arguments)
    except HelmError as error:
        return type(error).__name__, str(error)


def _facts(folder: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    from helm_python import Chart

    with Chart.load(folder) as chart:
        return dict(chart.metadata), chart.schema


def _render(folder: str, values: dict[str, Any], name: str, namespace: str) -> dict[str, str]:
    from helm_python import Chart

    with Chart.load(folder) as chart:
        return dict(chart.render(values, name=name, namespace=namespace))


def _lint(folder: str, values: dict[str, Any], namespace: str) -> dict[str, Any]:
    from helm_python import lint

    return dict(lint(folder, values, strict=True, namespace=namespace))
