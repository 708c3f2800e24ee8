"""Where clips come from: one file a corpus, each turning what is on disk into a list of ``ClipRef``."""

from __future__ import annotations

import difflib
import importlib

from prep.errors import PrepError
from prep.sources.base import ClipRef, Source

__all__ = ["SOURCES", "ClipRef", "Source", "get_source"]

#: Name on the command line -> ``module:Class``. A corpus is imported when it is asked for.
SOURCES: dict[str, str] = {
    "lrs2": "prep.sources.lrs2:Lrs2",
    "lrs3": "prep.sources.lrs3:Lrs3",
    "hdtf": "prep.sources.hdtf:Hdtf",
    "ffhq": "prep.sources.ffhq:Ffhq",
    "folder": "prep.sources.folder:Folder",
}


def get_source(name: str) -> Source:
    """Return the source called ``name``.

    Raises:
        PrepError: there is none of that name; the message proposes the nearest one.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name.lower(), SOURCES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SOURCES)}"
        raise PrepError(f"unknown source {name!r}: {hint}")
    module, _, attribute = SOURCES[name].partition(":")
    source: Source = getattr(importlib.import_module(module), attribute)()
    return source
