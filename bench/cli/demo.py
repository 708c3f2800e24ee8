"""``bench demo``: the way through the house on the embedded corpus."""

from __future__ import annotations

import shlex
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    out: Path = typer.Argument(Path("demo"), help="Folder to write."),
    clips: int = typer.Option(24, min=4, help="Clips of the embedded corpus."),
) -> None:
    """Toy corpus, prepared, its trivial rows scored and reported: every step so far, on two CPU cores in minutes."""
    corpus, data, result = str(out / "toy"), str(out / "data"), str(out / "result")
    _step("toy", corpus, "--clips", str(clips))
    _step("prep", "lrs2", corpus, "--out", data, "--views", "box128,face96,aligned512", "--name", "toy")
    _step("inspect", data, "--verify")
    _step("eval", "--data", data, "--with-trivial", "--out", result)
    _step("report", result, "--table", "default", "--site", str(out / "site"))


def _step(*words: str) -> None:
    from bench.cli import app
    from bench.cli.console import console

    console.print(f"\n$ bench {shlex.join(words)}", style="bold", soft_wrap=True)
    code = app(list(words), standalone_mode=False)
    if code:
        raise typer.Exit(code)
