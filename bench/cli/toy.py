"""``bench toy``: the embedded corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from prep.toy.corpus import ToyReport


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("toy")(toy)


def toy(
    out: Path = typer.Argument(
        ..., help="Folder to write, in the layout of LRS2, or with --sound-only prepared."
    ),
    clips: int | None = typer.Option(
        None, min=1, help="Number of clips; default: 40, with --sound-only 600."
    ),
    seconds: float = typer.Option(4.0, min=1.0, max=10.0, help="Longest clip."),
    sound_only: bool = typer.Option(
        False,
        "--sound-only",
        help="Speech and texts without pictures, as a prepared data set, for `bench train speech`.",
    ),
    size: int = typer.Option(256, min=128, max=1024, help="Side of the frames, pixels; even."),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same bytes."),
    workers: int | None = typer.Option(None, min=1, help="Processes; default: one per core."),
) -> None:
    """Make portraits in the public domain speak: a small corpus that needs no licence.

    It is for learning the tool and for regression tests, not for comparing methods. It needs the extra `toy`. Its
    speech synthesiser (eSpeak NG) has the GPL licence and is loaded only by this command.
    """
    from bench.cli.console import say
    from bench.cli.progress import simple_progress
    from prep.toy.corpus import write_corpus
    from prep.toy.sound_only import write_sound

    if sound_only:
        with simple_progress("toy speech") as advance:
            heard = write_sound(
                out, clips=clips or 600, seconds=seconds, seed=seed, workers=workers or 2, progress=advance
            )
        say(
            f"{out}: {clips or 600} clips, {heard:.0f} s of speech, no pictures; next: bench train speech --data {out}"
        )
        return
    with simple_progress("toy corpus") as advance:
        report = write_corpus(
            out, clips=clips or 40, seconds=seconds, size=size, seed=seed, workers=workers, progress=advance
        )
    show_corpus(report)


def show_corpus(report: ToyReport) -> None:
    """Print the content of the corpus."""
    from bench.cli.console import say

    speakers = len({clip.clip_id.split("/")[0] for clip in report.clips})
    what = f"{len(report.clips)} clips, {report.seconds:.0f} s of speech, {speakers} speakers"
    say(f"{report.root}: {what}{'' if report.fresh else ' (already there)'}")
