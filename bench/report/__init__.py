"""Tables, plots and the leaderboard page, made from results; and functions that do all steps in one call.

``from bench.report import demo, reproduce``: see :func:`bench.report.demonstration.demo` and
:func:`bench.report.reproduction.reproduce`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.report.demonstration import demo
    from bench.report.reproduction import Reproduction, reproduce
    from bench.report.watching import Incomplete, Stopped, Watcher

__all__ = ["Incomplete", "Reproduction", "Stopped", "Watcher", "demo", "reproduce"]

_HOMES = {
    "Incomplete": "watching",
    "Reproduction": "reproduction",
    "Stopped": "watching",
    "Watcher": "watching",
    "demo": "demonstration",
    "reproduce": "reproduction",
}


def __getattr__(name: str) -> Any:
    # Imported late: torch needs seconds, and the command line imports this package before it parses the command.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
