"""``bench demo``: the way through the house on the embedded corpus."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    out: Path = typer.Argument(Path("demo"), help="Folder to write."),
    clips: int = typer.Option(60, min=4, help="Clips of the embedded corpus."),
    method: list[str] = typer.Option(
        ["wav2lip", "ipl"], help="To train and score; repeat it for several, as lipformer."
    ),
) -> None:
    """Toy corpus, prepared; methods trained on it and scored beside the trivial rows: on two CPU cores in minutes."""
    from bench.cli.steps import ConsoleWatcher, ending
    from bench.report import demo as run_demo

    with ending():
        run_demo(out, clips=clips, methods=method, watcher=ConsoleWatcher())
