"""The progress bars of commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import TaskID

from bench.cli.bars import Bars
from bench.cli.console import console
from prep.shard_tasks import PrepProgress

if TYPE_CHECKING:
    from bench.eval.score import Step


@contextmanager
def simple_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; yields its callback, which gets the number of steps done and the total."""
    with Bars(console, transient=False) as bars:
        task = bars.add(what, None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def steps_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each step of a command; yields their callback, which gets the step, the number done and the
    total."""
    with Bars(console) as bars:
        tasks: dict[str, TaskID] = {}

        def notify(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add(step, total)
            bars.update(tasks[step], completed=done)

        yield notify


@contextmanager
def prep_progress(clips: int, shards: int) -> Iterator[Callable[[PrepProgress], None]]:
    """The bar of `bench prep`: clips; below, frames per second, failures, shards; yields its callback."""
    done = PrepProgress()
    started = time.monotonic()
    with Bars(console, transient=False) as bars:
        task = bars.add("clips", clips)

        def notify(step: PrepProgress) -> None:
            nonlocal done
            done += step
            rate = done.frames / max(time.monotonic() - started, 1e-3)
            bars.update(
                task,
                completed=min(done.clips + done.failures, clips),
                details=f"{rate:.0f} frames/s  {done.failures} failures  {done.shards}/{shards} shards",
            )

        try:
            yield notify
        except BaseException:
            bars.live.transient = True  # After an error the bar is removed.
            raise


@contextmanager
def eval_progress() -> Iterator[Callable[[Step], None]]:
    """The bar of `bench eval`: clips; below, frames per second, clips with failures; yields its callback."""
    started = time.monotonic()
    frames = failures = 0
    with Bars(console) as bars:
        task = bars.add("clips", None)

        def notify(step: Step) -> None:
            nonlocal frames, failures
            frames += step.frames
            failures += step.failures
            rate = frames / max(time.monotonic() - started, 1e-3)
            details = f"{rate:.0f} frames/s  {failures} incomplete"
            bars.update(task, advance=step.clips, total=step.total, details=details)

        yield notify
