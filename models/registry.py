"""Classes by name, imported when they are asked for: this module itself loads nothing heavy.

Other packages bring their own through entry points: a method in the group ``talking_face_bench.methods``, a metric in
``talking_face_bench.metrics``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any

#: Entry points of methods, and of metrics.
METHOD_GROUP = "talking_face_bench.methods"
METRIC_GROUP = "talking_face_bench.metrics"


class Registry:
    """Classes of one kind by name: those of the suite first, then those of other installed packages.

    Args:
        entries: name → ``module:class``.
        kind: what one is called in messages.
        group: of entry points by which other packages bring theirs, or None.
    """

    def __init__(self, entries: Mapping[str, str], kind: str = "method", group: str | None = None) -> None:
        self.entries = dict(entries)
        self.kind = kind
        self.group = group

    @cached_property
    def _foreign(self) -> dict[str, list[EntryPoint]]:
        """Entry points of other packages by name; a name of the suite's own stays the suite's."""
        found: dict[str, list[EntryPoint]] = {}
        for point in sorted(entry_points(group=self.group) if self.group else (), key=lambda p: p.name):
            found.setdefault(point.name, []).append(point)
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.entries
        yield from (name for name in self._foreign if name not in self.entries)

    def __len__(self) -> int:
        return len({*self.entries, *self._foreign})

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self._foreign

    def __getitem__(self, name: str) -> Any:
        """Import a class.

        Raises:
            KeyError: there is none of that name; the message names the nearest one.
            ImportError: another package's entry point leads nowhere, or two packages bring that name; the message
                names the packages.
        """
        if name not in self:
            near = difflib.get_close_matches(name, list(self), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(self))}"
            raise KeyError(f"no {self.kind} is called {name}; {hint}")
        if name in self.entries:
            module, _, attribute = self.entries[name].partition(":")
            return getattr(importlib.import_module(module), attribute)
        packages = [point.dist.name if point.dist else "?" for point in self._foreign[name]]
        if len(packages) > 1:
            raise ImportError(
                f"the {self.kind} {name} is in several packages, {', '.join(sorted(packages))}: uninstall all but one"
            )
        try:
            return self._foreign[name][0].load()
        except Exception as error:  # whatever the code of another package raises when it is imported
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ImportError(
                f"the {self.kind} {name} of the package {packages[0]} cannot be imported ({reason}): "
                "update or uninstall that package"
            ) from error
