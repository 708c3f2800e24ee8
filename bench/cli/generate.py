"""``bench generate``: generates videos of a data set's clips with a trained method."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast, get_args

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("generate")(generate)


def generate(
    method: str = typer.Argument(..., help="Name of the method; see `bench ls methods`."),
    run: Path = typer.Option(..., help="Folder of its training run, or of imported weights."),
    data: Path = typer.Option(..., help="Prepared data set."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    split: str | None = typer.Option(None, help="Split of the data set; default: test."),
    root: Path | None = typer.Option(None, help="Folder of the data set's source videos, if it was moved."),
    protocol: str = typer.Option(
        "reconstruction",
        help="reconstruction: own sound; dubbing: another clip's sound; transfer: one clip's sound for several "
        "speakers, with a contact sheet.",
    ),
    pairs: Path | None = typer.Option(
        None, help="List of pairs for dubbing: CSV with video and audio, or in Wav2Lip's format."
    ),
    seed: int = typer.Option(0, help="Seed of the pairs in dubbing and transfer."),
    driver: str | None = typer.Option(
        None, help="Transfer: the clip whose sound drives; default: chosen by the seed."
    ),
    targets: int | None = typer.Option(
        None,
        min=1,
        help="Transfer: number of speakers that the seed chooses; default: 5, or fewer if there are fewer.",
    ),
    target: list[str] = typer.Option(
        [], help="Transfer: a clip that is driven, instead of the seed's choice; may be repeated."
    ),
    pose: str = typer.Option(
        "footage",
        help="Source of the head pose: footage, driver (the clip that gives the sound), or still.",
    ),
    clips: Path | None = typer.Option(
        None, help="List of the data set's clips to generate, of any split: one id per line, or CSV."
    ),
    limit: int | None = typer.Option(None, min=1, help="Only the first N videos, for a first try."),
    longer_audio: str = typer.Option(
        "bounce", help="Sound longer than the video: bounce (back and forth), loop or cut the sound."
    ),
    shorter_audio: str = typer.Option(
        "cut", help="Sound shorter than the video: cut the video, or pad with silence."
    ),
    crf: int = typer.Option(18, min=0, max=51, help="x264's constant rate factor; smaller is better."),
    workers: int = typer.Option(1, min=1, help="Local processes, each with the method in memory."),
    overrides: list[str] = typer.Option(
        [],
        "--set",
        help="KEY=VALUE instead of an option of the run, such as generate.margin=25; may be repeated.",
    ),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Delete another generation in --out."),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Exit 0 although videos are missing."),
) -> None:
    """Generate videos that `bench eval` can score; exit code 3 if some could not be made."""
    from bench.cli.console_videos import show_made, speed, with_options
    from bench.cli.hints import after_generate
    from bench.cli.progress import simple_progress
    from bench.clips.clip_lists import read_clips
    from bench.clips.protocols import Cast, Name
    from bench.generate import GenerateOptions
    from bench.generate import generate as run_generate
    from bench.generate.contact_sheet import SHEET
    from bench.generate.fit import Fit
    from bench.generate.record import PoseFrom
    from bench.train.run_set import left_out
    from prep.names import known

    (protocol,) = known("protocol", [protocol], get_args(Name))
    (pose,) = known("pose", [pose], ("footage", "driver", "still"))
    named = driver is not None or targets is not None or bool(target)
    options = GenerateOptions(
        protocol=cast("Name", protocol),
        seed=seed,
        cast=Cast(driver, tuple(target), targets) if named else None,
        pose=cast("PoseFrom", pose),
        fit=Fit.named(longer_audio, shorter_audio),
        crf=crf,
        device=device,
        split=split,
        clips=None if clips is None else tuple(sorted(read_clips(clips))),
        limit=limit,
        overrides=tuple(overrides),
    )
    if note := left_out(run):
        typer.echo(note, err=True)
    try:
        with simple_progress("videos") as notify:
            done = run_generate(
                method,
                run,
                data,
                out,
                options,
                root=root,
                pairs=pairs,
                workers=workers,
                overwrite=overwrite,
                weights_dir=weights_dir,
                on_progress=notify,
                command=" ".join(["bench", *sys.argv[1:]]),
            )
    except KeyboardInterrupt:
        typer.echo("stopped: finished videos stay, the same command continues from there", err=True)
        raise typer.Exit(130) from None
    show_made(out, done, speed(done))
    if done.changed:
        typer.echo(with_options(done.changed))
    if done.driver and done.made:
        typer.echo(f"{out / SHEET}: driven by {done.driver}")
    if done.made and pairs is None:
        after_generate(method, data, root, out)
    if done.failures and not allow_partial:
        raise typer.Exit(3)
