"""``bench doctor``: what this installation supports, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.cli.diagnosis import Report


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("doctor")(doctor)


def doctor(
    weights_dir: Path | None = typer.Option(None, "--weights-dir", help="Folder of weights, searched first."),
    json_: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """Show versions, devices, found and missing weights, and what does not work without the missing ones.

    Exit code 1 if a required package is missing.
    """
    import json
    from dataclasses import asdict

    from bench.cli.diagnosis import examine
    from bench.weights.store import WeightStore

    report = examine(WeightStore.default(weights_dir))
    if json_:
        typer.echo(json.dumps({**asdict(report), "missing": report.missing}, indent=1))
    else:
        _print(report)
    if report.missing:
        typer.echo(f"error: not installed: {', '.join(report.missing)}; pip install them", err=True)
        raise typer.Exit(1)


def _print(report: Report) -> None:
    from rich.table import Table

    from bench.cli.console import console, human_bytes
    from bench.cli.diagnosis import EXTRAS

    def rows(title: str, lines: list[tuple[str, str]]) -> None:
        table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for line in lines:
            table.add_row(*line)
        console.print(table)

    rows(
        "machine",
        [
            ("Python", report.python),
            ("system", report.system),
            ("processor", f"{report.cpu}, {report.cores} cores, {human_bytes(report.memory)}"),
            (
                "torch",
                f"{report.torch}: {'; '.join(report.devices)}" if report.torch else "cannot be imported",
            ),
            ("mediapipe", f"no landmarks: {report.mediapipe}" if report.mediapipe else "works"),
        ],
    )
    rows("packages", [_package(p.name, p.version, p.wanted, p.fits) for p in report.packages if not p.extra])
    rows(
        "extras",
        [(extra, f"{EXTRAS[extra]}: {_extra(extra, lacking)}") for extra, lacking in report.extras.items()],
    )
    rows(
        "folders of weights",
        [("writable" if can else "read-only", folder) for folder, can in report.folders.items()],
    )
    rows(
        "weights",
        [
            (
                w.name,
                f"{w.problem if w.path else 'missing'}; disables {', '.join(w.enables)}; {w.remedy}"
                if w.problem
                else w.path,
            )
            for w in report.weights
        ],
    )
    if report.unavailable:
        rows(
            "metrics that are n/a here, and what they lack",
            [(metric, ", ".join(names)) for metric, names in report.unavailable.items()],
        )


def _package(name: str, version: str, wanted: str, fits: bool) -> tuple[str, str]:
    if not version:
        return name, "missing"
    return name, version if fits else f"{version}, not {wanted}"


def _extra(extra: str, lacking: tuple[str, ...]) -> str:
    if not lacking:
        return "installed"
    return f"lacks {', '.join(lacking)}; pip install 'talking-face-bench[{extra}]'"
