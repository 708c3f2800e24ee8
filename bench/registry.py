"""Everything that can be chosen by name, one line each."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Sequence

from prep.errors import PrepError


def _sources() -> dict[str, str]:
    from prep.sources import SOURCES, get_source

    return {name: get_source(name).summary for name in SOURCES}


def _views() -> dict[str, str]:
    from prep.views import VIEWS

    return {name: view.summary for name, view in VIEWS.items()}


def _landmarks() -> dict[str, str]:
    from prep.landmark_sets import LANDMARK_SETS

    return {name: f"{len(indices)} points of the 478-point mesh" for name, indices in LANDMARK_SETS.items()}


def _mel_rules() -> dict[str, str]:
    from prep.mel import MEL_RULES

    return {
        name: f"the 16 columns of frame f start at frame f{offset:+d}" for name, offset in MEL_RULES.items()
    }


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "sources": _sources,
    "views": _views,
    "landmarks": _landmarks,
    "mel-rules": _mel_rules,
}


def entries(kind: str) -> dict[str, str]:
    """Name → one line, of a kind in :data:`KINDS`. Raises ``KeyError`` for another kind."""
    return KINDS[kind]()


def known(what: str, names: Sequence[str], registry: Collection[str]) -> tuple[str, ...]:
    """``names`` without spaces and repetitions, in their order.

    Raises:
        PrepError: one is not in ``registry``; the message names the nearest and all there are.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names))
    for name in chosen:
        if name not in registry:
            near = difflib.get_close_matches(name, registry, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise PrepError(f"unknown {what} {name!r}: {hint}there are {', '.join(registry)}")
    return chosen
