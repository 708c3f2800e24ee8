"""``bench derive``: derived columns, which a method computes once per clip."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("derive")(derive)


def derive(
    method: str = typer.Argument(..., help="Name of the method; see `bench ls methods`."),
    data: list[Path] = typer.Option(..., "--data", help="Prepared data set; may be repeated."),
    run: Path | None = typer.Option(None, help="Run whose configuration is used instead of a preset."),
    preset: str | None = typer.Option(None, help="paper, tiny, or a TOML file of your own."),
    overrides: list[str] | None = typer.Option(
        None, "--set", help="KEY=VALUE over the preset; may be repeated."
    ),
    root: Path | None = typer.Option(None, help="Where the data set's source videos lie now."),
    workers: int = typer.Option(1, min=1, help="Local processes, each with the networks in memory."),
    scheduler: str | None = typer.Option(None, help="Address of a running Dask scheduler to use instead."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Exit 0 although clips are missing."),
) -> None:
    """Compute what a method needs for every clip before training; stored beside the shards, can be resumed.

    Exit code 3 if some clips could not be derived.
    """
    from collections import Counter

    from bench.cli.console import say
    from bench.cli.progress import steps_progress
    from bench.generate import derive as run_derive

    try:
        with steps_progress() as notify:
            found = run_derive(
                method,
                data,
                run=run,
                preset=preset,
                overrides=overrides or (),
                root=root,
                device=device,
                workers=workers,
                scheduler=scheduler,
                weights_dir=weights_dir,
                on_progress=notify,
            )
    except KeyboardInterrupt:
        typer.echo("stopped: complete shards stay, the same command continues from there", err=True)
        raise typer.Exit(130) from None
    for one in found:
        say(f"{one.folder}: {one.name} of {one.clips} clips")
        for reason, count in Counter(one.failures.values()).most_common():
            example = next(clip for clip, why in one.failures.items() if why == reason)
            typer.echo(f"missing: {count} ({example}, for one): {reason}", err=True)
    if not all(one.clips for one in found):
        raise typer.Exit(1)
    if any(one.failures for one in found) and not allow_partial:
        raise typer.Exit(3)
