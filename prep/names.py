"""Choosing by name, with a helpful message for an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from prep.errors import PrepError


def known(what: str, names: Sequence[str], registry: Collection[str]) -> tuple[str, ...]:
    """``names`` without spaces and repetitions, in their order.

    Raises:
        PrepError: one is not in ``registry``; the message proposes the nearest name, or lists all.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names))
    for name in chosen:
        if name not in registry:
            near = difflib.get_close_matches(name.lower(), registry, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(registry)}"
            raise PrepError(f"unknown {what} {name!r}: {hint}")
    return chosen
