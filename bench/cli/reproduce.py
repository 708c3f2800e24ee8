"""``bench reproduce``: a table from trained methods, in one command."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("reproduce")(reproduce)


def reproduce(
    table: str = typer.Argument(..., help="Name of the table in `bench report --list`."),
    data: Path = typer.Option(..., help="Prepared data set."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    run: list[str] = typer.Option(
        [], help="Trained method: RUN or NAME=RUN, also a run set; may be repeated."
    ),
    videos: list[str] = typer.Option([], help="Existing videos: FOLDER or NAME=FOLDER; may be repeated."),
    split: str | None = typer.Option(None, help="Split of the data set; default: test."),
    root: Path | None = typer.Option(None, help="Folder of the data set's source videos, if it was moved."),
    limit: int | None = typer.Option(None, min=1, help="Only the first N clips, for a first try."),
    sync_expert: Path | None = typer.Option(None, help="Run of `bench train sync-expert`: adds lse.expert."),
    sync_cca: Path | None = typer.Option(None, help="Run of `bench train sync-cca`: adds sync.cca."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    site: Path | None = typer.Option(None, help="Folder for a leaderboard page."),
    allow_partial: bool = typer.Option(
        False, "--allow-partial", help="Continue although videos are missing."
    ),
) -> None:
    """Generate with every run, score all rows and the trivial ones with the table's metrics, and print the
    table."""
    from bench.cli.steps import ConsoleWatcher, ending
    from bench.clips.inputs import find_methods
    from bench.report import reproduce as run_reproduction

    with ending():
        run_reproduction(
            table,
            data,
            out,
            runs=find_methods(run),
            videos=find_methods(videos),
            split=split,
            root=root,
            limit=limit,
            sync_expert=sync_expert,
            sync_cca=sync_cca,
            weights_dir=weights_dir,
            device=device,
            workers=None,
            site=site,
            allow_partial=allow_partial,
            watcher=ConsoleWatcher(),
        )
