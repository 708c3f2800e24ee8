"""``bench report``: results as a table together with the paper's, as plots, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.report.tables import Table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("report")(report)


def report(
    folders: list[Path] = typer.Argument(
        None, help="Result folders of `bench eval`; none: only published figures."
    ),
    table: str = typer.Option("default", "--table", "-t", help="Name of the table; see --list."),
    form: str | None = typer.Option(
        None, "--format", "-f", help="md, latex, csv, html or json; default: by the suffix of --out."
    ),
    region: str | None = typer.Option(
        None, help="Region of the measured figures: full, face or mouth; default: that of the table."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="File to write instead of the terminal."),
    plots: Path | None = typer.Option(None, help="Folder for plots of the results."),
    site: Path | None = typer.Option(None, help="Folder for a leaderboard page of the results."),
    show_list: bool = typer.Option(False, "--list", help="List the tables."),
) -> None:
    """Print a table: what the paper reports and what was measured here, in separate blocks."""
    from bench.cli.console import console, listing, say
    from bench.common.errors import BenchError
    from bench.report.tables import build_table, table_titles
    from bench.results import read_result

    if show_list:
        console.print(listing("tables", table_titles()))
        return
    if (plots or site) and not folders:
        raise BenchError("plots and pages show measured figures: name a result folder of `bench eval`")
    results = [(folder, read_result(folder)) for folder in folders or []]
    built = build_table(table, [result for _, result in results], region)
    show_table(built, form, out)
    if plots:
        from bench.report.plots import write_plots

        write_plots(results, plots)
        say(f"plots: {plots}")
    if site:
        from bench.report.site import write_site

        say(f"page: {write_site(results, site)}")


def show_table(built: Table, form: str | None = None, out: Path | None = None) -> None:
    """Print a table, or write it to a file."""
    from bench.cli.console import console, say
    from bench.cli.console_tables import print_table
    from bench.report.formats import format_of, write

    if out:
        text = write(built, form or format_of(out))
        _save(out, text)
        say(f"table: {out}")
    elif form or not console.is_terminal:
        typer.echo(write(built, form or "md"), nl=False)
    else:
        print_table(built, console)


def _save(out: Path, text: str) -> None:
    from bench.common.errors import writing
    from prep.shards import AtomicFile

    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with AtomicFile(out) as sink:
            sink.write(text.encode())
            sink.commit()
