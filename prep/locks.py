"""A folder that only one process writes at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prep.errors import PrepError


@contextmanager
def exclusive(folder: Path, command: str, error: type[Exception] = PrepError) -> Iterator[None]:
    """Keep other processes from writing ``folder`` while the block runs. The lock ends with the process.

    Args:
        folder: an existing folder. The folder itself is locked (``flock``), without a lock file.
        command: the command that writes there, for the error message of a second process.
        error: type of the exception in a second process.

    Raises:
        OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error(
                f"{folder} is being written by another `{command}`: wait for it, or stop it"
            ) from None
        yield
    finally:
        os.close(descriptor)
