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
    """Toy corpus, prepared; a method trained on it and scored beside the trivial rows: on two CPU cores in minutes."""
    corpus, data, result = str(out / "toy"), str(out / "data"), str(out / "result")
    run, videos = out / "runs" / "ipl", str(out / "videos" / "ipl")
    _step("toy", corpus, "--clips", str(clips))
    _step("prep", "lrs2", corpus, "--out", data, "--views", "box128,face96,aligned512", "--name", "toy")
    _step("inspect", data, "--verify")
    go_on = ["--resume"] if (run / "config.json").exists() else []
    _step("train", "ipl", "--data", data, "--preset", "tiny", "--run", str(run), *go_on)
    _step("generate", "ipl", "--run", str(run), "--data", data, "--out", videos)
    _step("eval", f"ipl={videos}", "--data", data, "--with-trivial", "--out", result)
    _step("report", result, "--table", "default", "--site", str(out / "site"))


def _step(*words: str) -> None:
    from bench.cli import app
    from bench.cli.console import console

    console.print(f"\n$ bench {shlex.join(words)}", style="bold", soft_wrap=True)
    code = app(list(words), standalone_mode=False)
    if code:
        raise typer.Exit(code)
