"""Checks of the places that a command will write, before it begins to work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.common.errors import BenchError


def check_folder(folder: Path, shown: Path | None = None) -> None:
    """Check that files can be written into a folder, which may not exist yet, without leaving anything there.

    Args:
        folder: it.
        shown: what is to be written, for the message; None: the folder itself.

    Raises:
        BenchError: the folder is a file, or it cannot be made or written.
    """
    shown = folder if shown is None else shown
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if there.is_file():
        raise BenchError(f"{shown} cannot be written: {there} is a file; name another place")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BenchError(
            f"{shown} cannot be written ({there}: {reason}): name a place where you can write"
        ) from None
