"""``bench check``: compares a result with stored expectations."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("check")(check)


def check(
    result: Path = typer.Argument(..., help="Folder that `bench eval` wrote."),
    against: Path | None = typer.Option(
        None, help="Expectation file; default: that of the data set in leaderboards/regression."
    ),
    update: bool = typer.Option(False, "--update", help="Store this result as the expectation."),
    note: str = typer.Option("", help="With --update: why these numbers are expected."),
) -> None:
    """Compare a result with its expectation; if a number changed, print the differences, with exit code 1."""
    from rich.table import Table

    from bench.cli.console import console, say
    from bench.report import regression
    from bench.results import read_result

    found = read_result(result)
    path = against or regression.expectation_path(found)
    before = regression.read_expectation(path) if path.is_file() or not update else None
    drifts = regression.compare(before, found) if before else []
    if drifts:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in ("method", "region", "figure", "expected", "found", "allowed", "why"):
            table.add_column(column, overflow="fold")
        for d in drifts:
            words = (d.method, d.region, d.output, d.expected, d.found, d.allowed, d.reason)
            table.add_row(*words)
        console.print(table)
    if update:
        regression.write_expectation(path, regression.freeze(found, note, before))
        say(f"{path}: {len(drifts)} differences are now what is expected")
        return
    assert before is not None
    if drifts:
        typer.echo(f"error: {len(drifts)} figures differ from {path}", err=True)
        typer.echo("if this is intended, run the same command with --update --note WHY", err=True)
        raise typer.Exit(1)
    say(f"{len(before.figures)} figures as expected by {path.name}")
