"""Errors of the bench that the user can fix: one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BenchError(Exception):
    """Ends the command: one line that names the file and the remedy."""


class Unavailable(Exception):
    """A metric cannot be computed here at all: its cells say ``n/a``, and a note below the table says why.

    Attributes:
        reason: what is missing, in one line.
        remedy: the one command that fixes it, or ``""``.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class Unscorable(Exception):
    """A metric cannot score one clip: it becomes a failure row with this reason; the evaluation continues."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while ``path`` is written into a :class:`BenchError` that names it."""
    try:
        yield
    except OSError as error:
        raise BenchError(
            f"cannot write {path}: {error.strerror or error}; name a place where you can write"
        ) from None


def first_line(error: Exception) -> str:
    """The first line of an error's text, or ``""``; messages of torch can be very long."""
    return next(iter(str(error).strip().splitlines()), "")
