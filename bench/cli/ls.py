"""``bench ls``: the content of the registries."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("ls")(ls)


def ls(kind: str | None = typer.Argument(None, help="Only this kind; default: all.")) -> None:
    """List everything that can be chosen: corpora, views, landmark sets, metrics, tables, weights …"""
    from bench.cli.console import console, listing
    from bench.cli.listing import KINDS, entries
    from prep.names import known

    for name in known("kind", [kind], KINDS) if kind else KINDS:
        console.print(listing(name, entries(name)))
