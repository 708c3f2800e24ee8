"""Progress of a call with several steps, and the errors that end it early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from bench.eval.score import Step
    from bench.train.log import Reporter
    from prep.shard_tasks import PrepProgress


class Incomplete(BenchError):
    """A step is finished, but some of its videos or figures are missing."""


class Stopped(BenchError):
    """Training was asked to stop and left a checkpoint; the same call continues from there."""


class Watcher:
    """Receives the progress of every step of a call. This base class shows nothing; subclasses can.

    For each step, :meth:`begin` is called first, then one of the methods that return a callback for its progress, then
    :meth:`done`.
    """

    def begin(self, command: Sequence[str]) -> None:
        """A step begins. ``command`` contains the words of the equivalent command line, starting with ``bench``."""

    def counting(self, what: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """Returns a callback for the number of clips or videos done and the total; ``what`` names them."""
        return nullcontext()

    def preparing(
        self, clips: int, shards: int
    ) -> AbstractContextManager[Callable[[PrepProgress], None] | None]:
        """Returns a callback for each step of the preparation of ``clips`` clips and ``shards`` shards."""
        return nullcontext()

    def training(self) -> AbstractContextManager[Reporter | None]:
        """Returns the reporter of a training run."""
        return nullcontext()

    def scoring(self) -> AbstractContextManager[Callable[[Step], None] | None]:
        """Returns a callback for every scored clip."""
        return nullcontext()

    def note(self, text: str) -> None:
        """A message about anything else, in one line."""

    def done(self, outcome: object, out: Path) -> None:
        """A step is done.

        Args:
            outcome: what its function returned: the report of a toy corpus, a manifest, an inspection, a training
                result, the record of a generation, an evaluation result; for the last step the
                :class:`bench.report.model.Table`, then the path of the page, if there is one.
            out: the file or folder that it wrote.
        """
