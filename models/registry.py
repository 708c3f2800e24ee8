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
    def _foreign(self) -> dict[str, EntryPoint]:
        """Entry points of other packages; a name of the suite's own stays the suite's."""
        if self.group is None:
            return {}
        return {point.name: point for point in sorted(entry_points(group=self.group), key=lambda p: p.name)}

    def _all(self) -> dict[str, str]:
        return {**{name: point.value for name, point in self._foreign.items()}, **self.entries}

    def __iter__(self) -> Iterator[str]:
        yield from self.entries
        yield from (name for name in self._foreign if name not in self.entries)

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        return name in self.entries or name in self._foreign

    def __getitem__(self, name: str) -> Any:
        """Import a class.

        Raises:
            KeyError: there is none of that name; the message names the nearest one.
            ImportError: another package's entry point leads nowhere; the message names the package.
        """
        value = self._all().get(name)
        if value is None:
            near = difflib.get_close_matches(name, list(self), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(self))}"
            raise KeyError(f"no {self.kind} is called {name}; {hint}")
        module, _, attribute = value.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if name in self.entries:
                raise
            package = self._foreign[name].dist
            raise ImportError(
                f"the {self.kind} {name} of the package {package.name if package else '?'} cannot be imported "
                f"({error}): update or uninstall that package"
            ) from error
