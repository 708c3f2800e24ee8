"""The folders of pretrained networks, and whether the network may be used to fill them."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The default folder of weights."""
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("talking-face-bench", appauthor=False)) / "weights"


def search_folders(weights_dir: Path | None = None) -> list[Path]:
    """``--weights-dir``, those of ``$BENCH_WEIGHTS`` (separated as in ``$PATH``), and the cache folder."""
    named = [weights_dir] if weights_dir else []
    environment = [Path(word) for word in os.environ.get("BENCH_WEIGHTS", "").split(os.pathsep) if word]
    return [folder.expanduser().absolute() for folder in (*named, *environment, cache_folder())]


def writable(folder: Path) -> bool:
    """Whether files can be created in ``folder``; if it does not exist, whether it can be created."""
    for place in (folder, *folder.parents):
        if os.access(place, os.F_OK):
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False


def offline_asked() -> bool:
    """Whether ``$BENCH_OFFLINE`` forbids the network."""
    return os.environ.get("BENCH_OFFLINE", "").lower() not in ("", "0", "false", "no")
