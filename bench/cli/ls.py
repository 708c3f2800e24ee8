"""``bench ls``: what the registries know."""

from __future__ import annotations

from typing import Optional

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("ls")(ls)


def ls(kind: Optional[str] = typer.Argument(None, help="One kind only; all where left out.")) -> None:
    """List what there is to choose from: corpora, views, landmark sets, mel rules."""
    from bench.cli.console import console, listing
    from bench.registry import KINDS, entries

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of: {', '.join(KINDS)}", param_hint="KIND")
    for name in [kind] if kind else KINDS:
        console.print(listing(name, entries(name)))
