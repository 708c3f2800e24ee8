"""The two ways in which preprocessing goes wrong: one clip cannot be used, or the run cannot go on."""

from __future__ import annotations


class ClipError(Exception):
    """One clip cannot be used; it becomes a row of ``failures.parquet`` and the rest goes on.

    ``step`` names the stage that refused the clip (``source``, ``video``, ``audio``, ``landmarks``, ``crash``);
    ``reason`` is one line for a person, and must be the same on every run over the same input.
    """

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = " ".join(reason.split())

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}"


class PrepError(Exception):
    """The run cannot start or go on; the message is one line that names the file and the remedy."""


class NoSamples(PrepError):
    """The clips that were asked for offer no sample: there are none, or too few of their frames show a face."""
