"""``bench doctor``: what this installation supports, and what is missing."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("doctor")(doctor)


def doctor(
    weights_dir: Path | None = typer.Option(None, "--weights-dir", help="Folder of weights, searched first."),
    json_: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Show versions, devices, found and missing weights, and what does not work without the missing ones.

    Exit code 1 if a required package is missing or cannot be loaded.
    """
    import json
    from dataclasses import asdict

    from bench.cli.diagnosis import examine, find_weights
    from bench.cli.doctor_text import show, show_problems

    report = examine(find_weights(weights_dir))
    if json_:
        typer.echo(json.dumps({**asdict(report), "missing": report.missing}, indent=1))
        raise typer.Exit(show_problems(report))
    raise typer.Exit(show(report))
