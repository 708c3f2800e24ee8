"""Progress bars that keep bar, steps and time left at any width of the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

#: Columns of a bar in characters, where the terminal has the room.
_BAR = 40
_LEAST_BAR = 6
#: Time left, such as 12:34:56, and the gaps between the columns.
_TIME, _GAPS = 8, 3


class Bars(Progress):
    """A line a task, with its name, a bar, the steps done of all, and the time left; below it a line of details.

    The bar takes the room that the others leave. On a narrow terminal the name is cut.

    Args:
        console: where they are shown; nothing is if it is not a terminal.
        transient: they vanish at the end.
        bytes_: the steps are bytes.
    """

    def __init__(self, console: Console, *, transient: bool = True, bytes_: bool = False) -> None:
        self._terminal = console
        self._name = Column(no_wrap=True, overflow="ellipsis")
        self._bar = BarColumn(_BAR)
        steps, time_left = (Column(no_wrap=True, justify="right") for _ in range(2))
        self._steps = DownloadColumn(table_column=steps) if bytes_ else MofNCompleteColumn(table_column=steps)
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=self._name),
            self._bar,
            self._steps,
            TimeRemainingColumn(compact=True, table_column=time_left),
            console=console,
            refresh_per_second=4,
            transient=transient,
            disable=not console.is_terminal,
        )

    def add(self, name: str, total: int | None, done: int = 0) -> TaskID:
        """Show a task; ``total`` is None if it is not known."""
        return self.add_task(name, total=total, completed=done, details="")

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The lines of all tasks."""
        shown = [task for task in tasks if task.visible]
        steps = max((self._steps.render(task).cell_len for task in shown), default=0)
        names = max((cell_len(task.description) for task in shown), default=0)
        room = self._terminal.width - steps - _TIME - _GAPS
        self._name.width = max(1, min(names, room - _LEAST_BAR))
        self._bar.bar_width = max(_LEAST_BAR, min(_BAR, room - self._name.width))
        return super().make_tasks_table(shown)

    def get_renderables(self) -> Iterable[RenderableType]:
        """The lines of all tasks, then the details of each that has some."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if details := task.fields.get("details"):
                yield Text(details, style="dim")
