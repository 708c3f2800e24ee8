"""Small fake corpora: listing never opens a media file, so empty ones will do."""

from __future__ import annotations

from pathlib import Path


def plant(root: Path, *paths: str) -> Path:
    """Create empty files below ``root``, with their folders."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root
