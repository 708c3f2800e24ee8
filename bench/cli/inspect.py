"""``bench inspect``: the content of a prepared data set, in numbers and as a contact sheet."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("inspect")(inspect)


def inspect(
    folder: Path = typer.Argument(..., help="Folder that `bench prep --out` wrote."),
    sheet: Path | None = typer.Option(
        None, help="Contact sheet to write; default: FOLDER/contact-sheet.png."
    ),
    clips: int = typer.Option(6, min=1, max=40, help="Rows of the contact sheet."),
    verify: bool = typer.Option(False, "--verify", help="Check every shard's sha256 against the manifest."),
) -> None:
    """Show counts, durations, failures by reason and disk space by column, and write a contact sheet."""
    from bench.cli.console import console, inspection, say
    from prep.inspect import contact_sheet, inspect_folder, verify_folder
    from prep.shards import stored_views

    if verify:
        checked = verify_folder(folder)
        say(f"{checked} shards match the manifest")
    console.print(inspection(inspect_folder(folder)))
    if not stored_views(folder):
        say("no pictures, so no contact sheet")
        return
    path = contact_sheet(folder, sheet or folder / "contact-sheet.png", clips=clips)
    say(f"contact sheet: {path}")
