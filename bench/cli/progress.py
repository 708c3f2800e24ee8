"""Progress bars, in rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bench.cli.console import console
from prep.shard_tasks import PrepProgress

if TYPE_CHECKING:
    from bench.eval.score import Step


@contextmanager
def simple_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields its callback, which gets the number of steps done and the total."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def steps_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each step of a command; yields their callback, which gets the step, the number done and the
    total."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def notify(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done)

        yield notify


@contextmanager
def prep_progress(clips: int, shards: int) -> Iterator[Callable[[PrepProgress], None]]:
    """Bars for `bench prep`: clips, frames per second, failures, shards, time left; yields their callback."""
    done = PrepProgress()
    started = time.monotonic()
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}  failures {task.fields[failures]}  shards {task.fields[shards]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        refresh_per_second=4,
    ) as bar:
        task = bar.add_task("clips", total=clips, rate="", failures=0, shards=f"0/{shards}")

        def notify(step: PrepProgress) -> None:
            nonlocal done
            done += step
            rate = done.frames / max(time.monotonic() - started, 1e-3)
            bar.update(
                task,
                completed=min(done.clips + done.failures, clips),
                rate=f"{rate:.0f} frames/s",
                failures=done.failures,
                shards=f"{done.shards}/{shards}",
            )

        try:
            yield notify
        except BaseException:
            bar.live.transient = True  # After an error the bar is removed.
            raise


@contextmanager
def eval_progress() -> Iterator[Callable[[Step], None]]:
    """A bar for `bench eval`: clips, frames per second, clips with failures, time left; yields its callback."""
    started = time.monotonic()
    frames = failures = 0
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}  incomplete {task.fields[failures]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        refresh_per_second=4,
        transient=True,
    ) as bar:
        task = bar.add_task("clips", total=None, rate="", failures=0)

        def notify(step: Step) -> None:
            nonlocal frames, failures
            frames += step.frames
            failures += step.failures
            rate = frames / max(time.monotonic() - started, 1e-3)
            speed = f"{rate:.0f} frames/s"
            bar.update(task, advance=step.clips, total=step.total, rate=speed, failures=failures)

        yield notify
