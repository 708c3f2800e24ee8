"""``bench reproduce``: a table from trained methods, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.report.definitions import TableDef


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("reproduce")(reproduce)


def reproduce(
    table: str = typer.Argument(..., help="As `bench report --list` names it."),
    data: Path = typer.Option(..., help="Prepared data set."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    run: list[str] = typer.Option([], help="Trained method: RUN or NAME=RUN; may be repeated."),
    videos: list[str] = typer.Option(
        [], help="Videos that somebody made: FOLDER or NAME=FOLDER; may be repeated."
    ),
    split: str = typer.Option("test", help="Of the data set."),
    root: Path | None = typer.Option(None, help="Where the data set's source videos lie now."),
    limit: int | None = typer.Option(None, min=1, help="The first N clips only, for a first try."),
    sync_expert: Path | None = typer.Option(None, help="Run of `bench train sync-expert`: adds lse.expert."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    device: str | None = typer.Option(None, help="cpu or cuda."),
    site: Path | None = typer.Option(None, help="Folder for a leaderboard page."),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Go on although videos are missing."),
) -> None:
    """Generate with every run, score all rows and the trivial ones under the table's metrics, and print the table."""
    from bench.cli.steps import step
    from bench.clips.inputs import find_methods
    from bench.common.errors import BenchError
    from bench.report.definitions import get_table
    from bench.train.config import RunConfig

    definition = get_table(table)
    metrics = _metrics(table, definition)
    protocol = definition.protocol or "reconstruction"
    options = ["--data", str(data), "--split", split]
    options += ["--root", str(root)] if root else []
    options += ["--limit", str(limit)] if limit else []
    where = ["--device", device] if device else []
    partial = ["--allow-partial"] if allow_partial else []

    runs = {name: (folder, RunConfig.load(folder).method) for name, folder in find_methods(run).items()}
    made = find_methods(videos)
    if twice := sorted(made.keys() & runs):
        raise BenchError(f"--run and --videos both name {twice[0]}: give one another name as NAME=FOLDER")
    made = {**{name: out / "videos" / name for name in runs}, **made}
    for name, (folder, method) in runs.items():
        words = ["--run", str(folder), *options, "--protocol", protocol, "--out", str(made[name])]
        step("generate", method, *words, *where, *partial)
    words = [f"{name}={folder}" for name, folder in made.items()] + options + ["--with-trivial"]
    if metrics:
        chosen = [*metrics, "lse.expert"] if sync_expert else metrics
        words += ["--metrics", ",".join(chosen), "--region", definition.region]
    words += ["--sync-expert", str(sync_expert)] if sync_expert else []
    words += ["--weights-dir", str(weights_dir)] if weights_dir else []
    result = str(out / "result")
    step("eval", *words, *where, *partial, "--out", result)
    step("report", result, "--table", table, *(["--site", str(site)] if site else []))


def _metrics(name: str, table: TableDef) -> list[str]:
    """The metrics of a paper's table, each once; none for the default table, whose metrics are the default ones.

    Columns that the paper took under another protocol than the table's are left out.

    Raises:
        BenchError: the table holds nothing that can be measured.
    """
    from bench.common.errors import BenchError
    from bench.report.definitions import variant_of

    if not table.paper:
        return []
    columns = [column for block in table.blocks for column in table.columns_of(block)]
    outputs = [c.output for c in columns if c.output and c.protocol in (None, table.protocol)]
    if not outputs or table.protocol == "user-study":
        raise BenchError(
            f"{name} asks people, not metrics: nothing of it can be measured; see bench report --list"
        )
    return list(dict.fromkeys(variant_of(output) for output in outputs))
