"""Corpora: one file per corpus, each turns the files on disk into a list of ``ClipRef``."""

from __future__ import annotations

import importlib

from prep.names import known
from prep.sources.base import ClipRef, Source

__all__ = ["SOURCES", "ClipRef", "Source", "get_source"]

#: Name on the command line -> ``module:Class``. A corpus is imported when it is used.
SOURCES: dict[str, str] = {
    "lrs2": "prep.sources.lrs2:Lrs2",
    "lrs3": "prep.sources.lrs3:Lrs3",
    "hdtf": "prep.sources.hdtf:Hdtf",
    "ffhq": "prep.sources.ffhq:Ffhq",
    "voxceleb2": "prep.sources.voxceleb2:VoxCeleb2",
    "folder": "prep.sources.folder:Folder",
}


def get_source(name: str) -> Source:
    """Return the source called ``name``.

    Raises:
        PrepError: the name is unknown; the message proposes the nearest one.
    """
    (name,) = known("source", [name], SOURCES)
    module, _, attribute = SOURCES[name].partition(":")
    source: Source = getattr(importlib.import_module(module), attribute)()
    return source
