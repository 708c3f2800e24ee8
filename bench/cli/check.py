"""``bench check``: a result against frozen expectations."""

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
    update: bool = typer.Option(False, "--update", help="Freeze this result as the expectation."),
    note: str = typer.Option("", help="With --update: why the numbers are expected to be these."),
) -> None:
    """Compare a result with what it is expected to be; exit code 1 and the differences where a number moved."""
    from rich.markup import escape
    from rich.table import Table

    from bench.cli.console import console
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
            table.add_row(*(escape(word) for word in words))
        console.print(table)
    if update:
        regression.write_expectation(path, regression.freeze(found, note, before))
        console.print(f"{path}: {len(drifts)} differences are now what is expected", soft_wrap=True)
        return
    assert before is not None
    if drifts:
        typer.echo(f"error: {len(drifts)} figures differ from {path}", err=True)
        typer.echo("if that is meant, run the same with --update --note WHY", err=True)
        raise typer.Exit(1)
    console.print(f"{len(before.figures)} figures as expected by {path.name}", soft_wrap=True)
