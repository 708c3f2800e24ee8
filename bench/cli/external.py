"""``bench external``: runs an external command over the clips of a data set."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("external")(external)


def external(
    name: str = typer.Argument(..., help="Name of the method, for the provenance."),
    command: str = typer.Option(
        ..., "--command", help="Makes one video; contains {video}, {audio} and {out} or {out_dir}."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    data: Path | None = typer.Option(None, help="Prepared data set."),
    pairs: Path | None = typer.Option(
        None, help="List of pairs for dubbing: CSV with video and audio, or in Wav2Lip's format."
    ),
    truth: Path | None = typer.Option(None, help="Folder of the list's files, without --data."),
    split: str | None = typer.Option(None, help="Split of the data set; default: test."),
    root: Path | None = typer.Option(None, help="Folder of the data set's source videos, if it was moved."),
    protocol: str = typer.Option(
        "reconstruction", help="reconstruction: own sound; dubbing: another clip's sound."
    ),
    seed: int = typer.Option(0, help="Seed of the pairs in dubbing."),
    limit: int | None = typer.Option(None, min=1, help="Only the first N videos, for a first try."),
    env_dir: Path | None = typer.Option(
        None, help="The code's virtual or Conda environment: its programs are found first."
    ),
    cwd: str = typer.Option(".", help="Working directory of the command; may contain {worker}."),
    commit: str = typer.Option("", help="Version of the external code, for the provenance."),
    timeout: float | None = typer.Option(
        None, min=0.1, help="Seconds per video, then the command is killed."
    ),
    workers: int = typer.Option(1, min=1, help="Number of commands at the same time."),
    shell: bool = typer.Option(False, "--shell", help="Run the command with /bin/sh."),
    longer_audio: str = typer.Option(
        "bounce", help="Sound longer than the video: bounce (back and forth), loop or cut the sound."
    ),
    shorter_audio: str = typer.Option(
        "cut", help="Sound shorter than the video: cut the video, or pad with silence."
    ),
    crf: int = typer.Option(
        0, min=0, max=51, help="x264's constant rate factor of the input videos; 0 is lossless."
    ),
    silence: int = typer.Option(
        0,
        min=0,
        help="Frames of silence after the sound, for code that makes fewer frames than its sound has.",
    ),
    any_size: bool = typer.Option(False, "--any-size", help="Accept videos of another size than the input."),
    any_length: bool = typer.Option(
        False, "--any-length", help="Accept videos with more or fewer frames than the input."
    ),
    allow_silent: bool = typer.Option(False, "--allow-silent", help="Accept videos without sound."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Delete another generation in --out."),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Exit 0 although videos are missing."),
) -> None:
    """Run an external command for every pair; exit code 3 if some videos could not be made."""
    from baselines.external import CommandTemplate
    from bench.cli.console_videos import show_made
    from bench.cli.progress import simple_progress
    from bench.common.errors import BenchError
    from bench.generate.external import external as run_external
    from bench.generate.external_options import ExternalOptions
    from bench.generate.external_process import LOGS
    from bench.generate.fit import Fit
    from prep.names import known

    known("protocol", [protocol], ("reconstruction", "dubbing"))
    try:
        template = CommandTemplate(command, shell)
    except ValueError as error:
        raise BenchError(f"--command: {error}") from None
    options = ExternalOptions(
        template,
        env_dir=env_dir,
        cwd=cwd,
        timeout=timeout,
        workers=workers,
        commit=commit,
        protocol="dubbing" if protocol == "dubbing" else "reconstruction",
        seed=seed,
        fit=Fit.named(longer_audio, shorter_audio),
        crf=crf,
        split=split,
        limit=limit,
        silence=silence,
        any_size=any_size,
        any_length=any_length,
        allow_silent=allow_silent,
    )
    try:
        with simple_progress("videos") as notify:
            done = run_external(
                name,
                out,
                options,
                data=data,
                pairs=pairs,
                root=root,
                truth=truth,
                overwrite=overwrite,
                on_progress=notify,
                command=" ".join(["bench", *sys.argv[1:]]),
            )
    except KeyboardInterrupt:
        typer.echo("stopped: finished videos stay, the same command continues from there", err=True)
        raise typer.Exit(130) from None
    show_made(out, done)
    if done.failures:
        typer.echo(f"output of the commands: {out / LOGS}", err=True)
        if not allow_partial:
            raise typer.Exit(3)
