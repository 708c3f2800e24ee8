"""``bench demo``: all steps of the suite on the embedded corpus."""

from __future__ import annotations

from pathlib import Path

import typer

#: Figures of the table at the end, the most telling first; more of them on a wider terminal.
SHOWN = ("psnr", "ssim", "lmd.lip_norm", "lse.expert", "sync.cca")


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    out: Path = typer.Argument(Path("demo"), help="Folder to write."),
    clips: int = typer.Option(60, min=4, help="Clips of the embedded corpus."),
    method: list[str] = typer.Option(
        ["wav2lip", "ipl"], help="Method to train and score, such as lipformer; may be repeated."
    ),
) -> None:
    """Make the toy corpus, prepare it, train methods and score them with the trivial rows: minutes on two CPU
    cores."""
    from bench.cli.console import console
    from bench.cli.console_tables import print_short
    from bench.cli.hints import after_demo
    from bench.cli.steps import ConsoleWatcher, ending
    from bench.report import demo as run_demo

    with ending():
        made = run_demo(out, clips=clips, methods=method, watcher=ConsoleWatcher(tables=False))
        console.print()
        print_short(made.table, console, SHOWN)
        after_demo(out, made.videos)
