"""Progress of training: in a terminal a bar and a line of figures, otherwise plain lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.progress import TaskID

from bench.cli.bars import Bars

if TYPE_CHECKING:
    from torch import Tensor

    from bench.train.log import Speed


class Console:
    """A reporter that prints. Use it as a context manager, so that the bar is removed after an error.

    Args:
        console: a console of rich; if it is not a terminal, every report is a line.
    """

    def __init__(self, console: RichConsole) -> None:
        self._console = console
        self._bar: Bars | None = None
        self._task = TaskID(0)
        self._total: int | None = None

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def begin(self, stage: str, start_step: int, total_steps: int | None) -> None:
        """Print a line, and show a bar in a terminal."""
        self._stop()
        self._total = total_steps
        of = f" of {total_steps:,}" if total_steps is not None else ""
        self._line(f"{stage}: from step {start_step:,}{of}")
        if self._console.is_terminal:
            self._bar = Bars(self._console)
            self._task = self._bar.add(stage, total_steps, start_step)
            self._bar.start()

    def advance(self, stage: str, step: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        """Losses and speed."""
        rate = f"{speed.samples_per_s:.1f} samples/s, {speed.data_wait:.0%} waiting for data"
        figures = f"epoch {epoch:.2f}  {_figures(logs)}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, details=f"{figures}  {rate}")
        else:
            self._line(f"{stage} {self._place(step)}  {figures}  {rate}")

    def validation(self, stage: str, step: int, figures: Mapping[str, float], best: bool) -> None:
        """A line that stays."""
        self._line(
            f"{stage} {self._place(step)}  validation: {_figures(figures)}{'  best so far' if best else ''}"
        )

    def pictures(self, stage: str, step: int, columns: Mapping[str, Tensor]) -> None:
        """Nothing is printed: the images are in the run."""

    def note(self, text: str) -> None:
        """A line that stays."""
        self._line(text)

    def end(self, stage: str, reason: str) -> None:
        """Remove the bar and print the reason."""
        self._stop()
        self._line(f"{stage}: {reason}")

    def _place(self, step: int) -> str:
        return f"{step:,}" if self._total is None else f"{step:,}/{self._total:,}"

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _figures(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())
