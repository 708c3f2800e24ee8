"""The last lines printed by commands that make videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.cli.console import console

if TYPE_CHECKING:
    from bench.clips.generation_record import GenerationRecord


def speed(done: GenerationRecord) -> str:
    """The speed in frames per second, as a suffix of the summary line."""
    return f", {done.frames / done.seconds:.1f} frames/s" if done.frames else ""


def show_made(out: Path, done: GenerationRecord, rate: str = "") -> None:
    """Print the number of videos made, and for each reason the number of missing videos."""
    console.print(
        f"{out}: {done.made} of {done.clips} videos, {done.protocol}; {done.frames} frames made in "
        f"{done.seconds:.1f} s{rate}",
        soft_wrap=True,
    )
    for reason, count in Counter(done.failures.values()).most_common():
        example = next(name for name, why in done.failures.items() if why == reason)
        typer.echo(f"missing: {count} of {done.clips} ({example}, for one): {reason}", err=True)


def with_options(changed: Mapping[str, Any]) -> str:
    """Options of generation that differ from those of the run, as words of a line."""
    from bench.train.config_checks import show

    return "with " + ", ".join(f"{key}={show(value)}" for key, value in changed.items())
