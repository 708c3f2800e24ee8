"""The closing lines of commands that make videos."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.console import console

if TYPE_CHECKING:
    from bench.clips.generation_record import GenerationRecord


def speed(done: GenerationRecord) -> str:
    """How fast frames were made, to follow what was made."""
    return f", {done.frames / done.seconds:.1f} frames/s" if done.frames else ""


def show_made(out: Path, done: GenerationRecord, rate: str = "") -> None:
    """Say what was made, and for each reason how many videos are missing."""
    console.print(
        f"{out}: {done.made} of {done.clips} videos, {done.protocol}; {done.frames} frames made in "
        f"{done.seconds:.1f} s{rate}",
        soft_wrap=True,
        markup=False,
    )
    for reason, count in Counter(done.failures.values()).most_common():
        example = next(name for name, why in done.failures.items() if why == reason)
        typer.echo(f"missing: {count} of {done.clips} ({example}, for one): {reason}", err=True)
