"""``bench dub``: one video says another sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import TaskID


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("dub")(dub)


def dub(
    method: str = typer.Argument(..., help="As `bench ls methods` names it."),
    run: Path = typer.Option(..., help="Folder of its training run, or of imported weights."),
    video: Path = typer.Option(..., help="The video that is to speak; any size and frame rate."),
    audio: Path = typer.Option(..., help="What it is to say: a sound file, or a video with sound."),
    out: Path = typer.Option(..., "--out", "-o", help="The MP4 to write, at 25 frames a second."),
    longer_audio: str = typer.Option(
        "bounce", help="Sound longer than the video: bounce (back and forth), loop or cut the sound."
    ),
    shorter_audio: str = typer.Option(
        "cut", help="Sound shorter than the video: cut the video, or pad with silence."
    ),
    sheet: bool = typer.Option(
        True,
        "--sheet/--no-sheet",
        help="Draw twelve frames, original over generated, as OUT.sheet.jpg beside the video.",
    ),
    tracking: bool = typer.Option(False, "--tracking", help="Follow the face; faster, for a single face."),
    crf: int = typer.Option(18, min=0, max=51, help="x264's constant rate factor; smaller is better."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Make the face in one video say what is heard in another file; any length, frames without a face stay."""
    from bench.cli.console import console
    from bench.common.device import pick_device
    from bench.generate.dubbing import check_files
    from bench.generate.dubbing import dub as run_dub
    from bench.generate.fit import Fit
    from bench.generate.over_data import load_method

    fit = Fit.named(longer_audio, shorter_audio)
    check_files(video, audio, out)
    _, built = load_method(run, pick_device(device), method)
    drawing = out.with_suffix(".sheet.jpg") if sheet else None
    try:
        with _progress() as notify:
            done = run_dub(
                built,
                video,
                audio,
                out,
                fit=fit,
                crf=crf,
                tracking=tracking,
                sheet=drawing,
                on_progress=notify,
            )
    except KeyboardInterrupt:
        typer.echo("stopped: nothing was written", err=True)
        raise typer.Exit(130) from None
    length = f"{done.frames} frames, {done.frames / 25:.2f} s at 25 fps"
    rate = f"the video has {done.source_fps:.5g}"
    faceless = f"{done.faceless} without a face passed through"
    console.print(
        f"{out}: {length} ({rate}), {done.width}x{done.height}, {faceless}; took {done.seconds:.1f} s",
        soft_wrap=True,
        markup=False,
    )
    if drawing is not None:
        console.print(f"{drawing}: original over generated", soft_wrap=True, markup=False)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar that is first of the one step, then of the other; yields its listener."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bench.cli.console import console

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def notify(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done)

        yield notify
