"""Commands that are made of other commands, each printed before it runs."""

from __future__ import annotations

import shlex

import typer


def step(*words: str) -> None:
    """Print and run ``bench WORDS``; leaves with its exit code where that is not 0."""
    from bench.cli import app
    from bench.cli.console import console

    console.print(f"\n$ bench {shlex.join(words)}", style="bold", soft_wrap=True)
    code = app(list(words), standalone_mode=False)
    if code:
        raise typer.Exit(code)
