"""``bench prep --add-view``: adds views to a prepared data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import typer

#: Options of `bench prep` that do not belong to the data set.
ALLOWED = frozenset({"source", "root", "out", "add_view", "workers", "scheduler", "performance_report"})


def given_options(context: typer.Context, allowed: Collection[str]) -> list[str]:
    """Options that the command line gives and that are not allowed, as a user writes them."""
    found = []
    for parameter in context.command.params:
        # Its name, because typer has a copy of click, or uses click itself, depending on its version.
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in allowed and source is not None and source.name == "COMMANDLINE":
            found.append(max(parameter.opts, key=len))
    return found


def add_view(
    views: Sequence[str],
    data: Path,
    source: str | None,
    root: Path | None,
    *,
    workers: int | None,
    scheduler: str | None,
    report: Path | None,
) -> None:
    """Add views, with a progress bar and a summary.

    Raises:
        PrepError: as :func:`prep.adding.add_views`, or the data set is of another corpus than ``source``.
    """
    from bench.cli.console import summary
    from bench.cli.progress import prep_progress
    from prep.adding import add_views
    from prep.errors import PrepError
    from prep.shards import read_manifest

    manifest = read_manifest(data)
    made_from = manifest.get("options", {}).get("source")
    if source is not None and source != made_from:
        raise PrepError(f"{data} was prepared from {made_from}, not {source}: leave SOURCE and ROOT out")
    shards = manifest.get("shards", [])
    clips = sum(shard["clips"] + shard["failures"] for shard in shards)
    with prep_progress(clips, len(shards)) as notify:
        manifest = add_views(
            data, views, root=root, workers=workers, scheduler=scheduler, report=report, on_progress=notify
        )
    summary(manifest, data)
    typer.echo(f"views: {', '.join(manifest['options']['views'])}")
