"""Methods by name, imported when they are asked for: this module itself loads nothing heavy."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.base import Method


class Registry:
    """Methods by name.

    Args:
        entries: name → ``module:class``.
    """

    def __init__(self, entries: Mapping[str, str]) -> None:
        self.entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> type[Method]:
        """Import a method. Raises KeyError, whose message names the nearest one."""
        if name not in self.entries:
            near = difflib.get_close_matches(name, self.entries, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(self.entries))}"
            raise KeyError(f"no method is called {name}; {hint}")
        module, _, attribute = self.entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)
