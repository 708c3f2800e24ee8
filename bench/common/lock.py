"""A folder that only one process writes at a time."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from bench.common.errors import BenchError
from prep import locks


def exclusive(folder: Path, command: str) -> AbstractContextManager[None]:
    """Keep other processes from writing ``folder`` while the block runs. The lock ends with the process.

    Args:
        folder: an existing folder.
        command: the command that writes there, for the error message of a second process.

    Raises:
        BenchError: another process writes there.
        OSError: there is no such folder.
    """
    return locks.exclusive(folder, command, BenchError)
