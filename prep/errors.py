"""The two kinds of errors in preprocessing: one clip cannot be used, or the run cannot continue."""

from __future__ import annotations


class ClipError(Exception):
    """One clip cannot be used; it becomes a row of ``failures.parquet``, and the run continues.

    ``step`` is the step that failed (``source``, ``video``, ``audio``, ``landmarks``, ``crash``); ``reason`` is one
    readable line, and must be the same on every run over the same input.
    """

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(step, reason)
        self.step = step
        self.reason = " ".join(reason.split())

    def __str__(self) -> str:
        return f"{self.step}: {self.reason}"


class PrepError(Exception):
    """The run cannot start or continue; the message is one line that names the file and the remedy."""


class NoSamples(PrepError):
    """The requested clips have no sample: there are no clips, or too few of their frames show a face."""
