"""What a call of several steps tells of each of them, and how it ends early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from bench.eval.score import Step
    from bench.train.log import Reporter
    from prep.pipeline import PrepProgress


class Incomplete(BenchError):
    """A step ended, and some of its videos or figures are missing."""


class Stopped(BenchError):
    """Training was asked to stop and left a checkpoint; the same call goes on from there."""


class Watcher:
    """Is told of every step of a call. This one shows nothing; derive from it what does.

    Of each step, :meth:`begin` comes first, then one of the methods that give a listener for its progress, then
    :meth:`done`.
    """

    def begin(self, command: Sequence[str]) -> None:
        """A step begins; ``command`` holds the words of the command line that does the same, from ``bench`` on."""

    def counting(self, what: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
        """Gives what is called with the number of clips or videos done, and of all; ``what`` names them."""
        return nullcontext()

    def preparing(
        self, clips: int, shards: int
    ) -> AbstractContextManager[Callable[[PrepProgress], None] | None]:
        """Gives what is called with each step of the preparation of so many clips and shards."""
        return nullcontext()

    def training(self) -> AbstractContextManager[Reporter | None]:
        """Gives the reporter of a training run."""
        return nullcontext()

    def scoring(self) -> AbstractContextManager[Callable[[Step], None] | None]:
        """Gives what is called with every clip that is scored."""
        return nullcontext()

    def note(self, text: str) -> None:
        """Something else worth knowing, in one line."""

    def done(self, outcome: object, out: Path) -> None:
        """A step is done.

        Args:
            outcome: what its function returned: a toy corpus's report, a manifest, an inspection, how training
                ended, the record of a generation, a result; of the last step the :class:`bench.report.model.Table`,
                then the path of the page, where there is one.
            out: file or folder that it wrote.
        """
