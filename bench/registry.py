"""Everything that can be chosen by name, one line each."""

from __future__ import annotations

from collections.abc import Callable


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
