"""Output of calls with several steps: each step's command line, its progress, its result."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.report.watching import Incomplete, Stopped, Watcher

if TYPE_CHECKING:
    from bench.eval.score import Step
    from bench.train.log import Reporter
    from prep.shard_tasks import PrepProgress


class ConsoleWatcher(Watcher):
    """Prints the equivalent command line of each step, and then the output of that command.

    Args:
        tables: also print the table of the last step, ``bench report``.
    """

    def __init__(self, tables: bool = True) -> None:
        self._tables = tables

    def begin(self, command: Sequence[str]) -> None:
        """Print the command line as in a shell."""
        from bench.cli.console import say

        say(f"\n$ {shlex.join(command)}", style="bold")

    def counting(self, what: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A bar."""
        from bench.cli.progress import simple_progress

        return simple_progress(what)

    def preparing(self, clips: int, shards: int) -> AbstractContextManager[Callable[[PrepProgress], None]]:
        """The bar of `bench prep`."""
        from bench.cli.progress import prep_progress

        return prep_progress(clips, shards)

    def training(self) -> AbstractContextManager[Reporter]:
        """The bar and lines of `bench train`."""
        from bench.cli.console import console
        from bench.cli.train_progress import Console

        return Console(console)

    def scoring(self) -> AbstractContextManager[Callable[[Step], None]]:
        """The bar of `bench eval`."""
        from bench.cli.progress import eval_progress

        return eval_progress()

    def note(self, text: str) -> None:
        """A line on standard error."""
        typer.echo(text, err=True)

    def done(self, outcome: object, out: Path) -> None:
        """Print the last lines of the step's command."""
        from bench.cli import console, console_videos, eval, report, toy, train
        from bench.clips.generation_record import GenerationRecord
        from bench.report.model import Table
        from bench.results import Result
        from bench.train import TrainResult
        from prep.inspect import Inspection
        from prep.toy.corpus import ToyReport

        if isinstance(outcome, ToyReport):
            toy.show_corpus(outcome)
        elif isinstance(outcome, dict):
            console.summary(outcome, out)
        elif isinstance(outcome, Inspection):
            console.console.print(console.inspection(outcome))
            console.say(f"contact sheet: {out}")
        elif isinstance(outcome, TrainResult):
            train.show_trained(outcome)
        elif isinstance(outcome, GenerationRecord):
            console_videos.show_made(out, outcome, console_videos.speed(outcome))
        elif isinstance(outcome, Result):
            eval.show_scored(outcome, out)  # the table is that of the last step
        elif isinstance(outcome, Table):
            if self._tables:
                report.show_table(outcome)
        else:
            console.say(f"page: {outcome}")


@contextmanager
def ending() -> Iterator[None]:
    """Exit codes of a call with several steps: 3 if something is missing, 143 or 130 if it was stopped."""
    from bench.cli.train import STOPPED

    try:
        yield
    except Incomplete as error:
        typer.echo(f"incomplete: {error}", err=True)
        raise typer.Exit(3) from None
    except Stopped as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(STOPPED) from None
    except KeyboardInterrupt:
        typer.echo("stopped: what is finished stays, the same command continues from there", err=True)
        raise typer.Exit(130) from None
