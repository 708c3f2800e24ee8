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
    clips: int = typer.Option(60, min=4, help="Clips of the embedded corpus."),
) -> None:
    """Toy corpus, prepared; methods trained on it and scored beside the trivial rows: on two CPU cores in minutes."""
    corpus, data, result = str(out / "toy"), str(out / "data"), str(out / "result")
    expert = out / "runs" / "sync-expert"
    _step("toy", corpus, "--clips", str(clips))
    _step("prep", "lrs2", corpus, "--out", data, "--views", "box128,face96,aligned512", "--name", "toy")
    _step("inspect", data, "--verify")
    _train("sync-expert", data, expert)
    rows = []
    for method, options in (("wav2lip", ("--set", f"wav2lip.expert={expert.absolute()}")), ("ipl", ())):
        run, videos = out / "runs" / method, str(out / "videos" / method)
        _train(method, data, run, *options)
        _step("generate", method, "--run", str(run), "--data", data, "--out", videos)
        rows.append(f"{method}={videos}")
    _step("eval", *rows, "--data", data, "--with-trivial", "--sync-expert", str(expert), "--out", result)
    _step("report", result, "--table", "default", "--site", str(out / "site"))


def _train(method: str, data: str, run: Path, *options: str) -> None:
    go_on = ["--resume"] if (run / "config.json").exists() else []
    _step("train", method, "--data", data, "--preset", "tiny", "--run", str(run), *options, *go_on)


def _step(*words: str) -> None:
    from bench.cli import app
    from bench.cli.console import console

    console.print(f"\n$ bench {shlex.join(words)}", style="bold", soft_wrap=True)
    code = app(list(words), standalone_mode=False)
    if code:
        raise typer.Exit(code)
