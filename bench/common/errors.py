"""Errors of the bench that a person can mend: one line each."""

from __future__ import annotations


class BenchError(Exception):
    """Ends the command: one line that names the file and the remedy."""


class Unavailable(Exception):
    """A metric that cannot be computed here at all: its cells say ``n/a``, and the foot of the table says why.

    Attributes:
        reason: what is missing, in one line.
        remedy: the one command that mends it, or ``""``.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.reason = reason
        self.remedy = remedy


class Unscorable(Exception):
    """One clip that one metric cannot score: a failure row with this reason, and the rest goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
