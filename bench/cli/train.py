"""``bench train``: trains a method on prepared data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import typer

if TYPE_CHECKING:
    from bench.train import TrainResult

#: Exit code of a run that SIGTERM ended, as in shells.
STOPPED = 143


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train")(train)


def train(
    method: str = typer.Argument(..., help="Name of the method; see `bench ls methods`."),
    data: list[Path] | None = typer.Option(
        None, "--data", help="Prepared data set, needed unless --resume; may be repeated."
    ),
    preset: str | None = typer.Option(None, help="paper (default), tiny, or a TOML file of your own."),
    clips: Path | None = typer.Option(
        None, "--clips", help="Train only on these clips: CSV of `bench offsets`, or one clip id per line."
    ),
    stage: list[str] | None = typer.Option(None, "--stage", help="Only this stage; may be repeated."),
    overrides: list[str] | None = typer.Option(
        None, "--set", help="KEY=VALUE over the preset, such as runner.seed=1; may be repeated."
    ),
    run: Path | None = typer.Option(None, "--run", help="Folder to write; default: runs/METHOD."),
    resume: bool = typer.Option(False, "--resume", help="Continue in an existing folder."),
    from_run: Path | None = typer.Option(
        None, "--from", help="Fine-tune: begin with the weights of this run, or of imported ones."
    ),
    per: str | None = typer.Option(
        None, help="speaker: one run for each person, all in one folder (a run set)."
    ),
    speaker: list[str] | None = typer.Option(
        None, "--speaker", help="With --per speaker: only this person; may be repeated."
    ),
    precision: str | None = typer.Option(None, help="auto (default), no (float32), bf16 or fp16."),
    device: str | None = typer.Option(None, help="auto, cpu or cuda."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    profile: bool = typer.Option(
        False, "--profile", help="Train a few steps, write no run, and show where their time goes."
    ),
    traces: Path | None = typer.Option(
        None, "--traces", help="With --profile: folder for profile-METHOD-STAGE.json.gz; default: this one."
    ),
    throughput: bool = typer.Option(
        False, "--throughput", help="Train a few steps, write no run, and tell how long all would take."
    ),
    json_: bool = typer.Option(False, "--json", help="With --profile or --throughput: print JSON."),
) -> None:
    """Train the stages of a method, one after the other; exit code 143 if SIGTERM ended it with a checkpoint."""
    from bench.common.methods import get_method
    from prep.names import known

    get_method(method)
    if per is not None:
        known("--per", [per], ["speaker"])
    words = [
        f"runner.{key}={value}" for key, value in (("precision", precision), ("device", device)) if value
    ]
    words += overrides or []
    if profile or throughput or traces or json_:
        from bench.cli.measuring import measure

        only_of_runs = {
            "--run": run,
            "--resume": resume,
            "--from": from_run,
            "--per": per,
            "--speaker": speaker,
        }
        measured = measure(
            profile=profile,
            throughput=throughput,
            traces=traces,
            as_json=json_,
            only_of_runs=only_of_runs,
            method=method,
            data=data or (),
            preset=preset,
            overrides=words,
            clips=clips,
            stages=stage or (),
            weights_dir=weights_dir,
        )
        raise typer.Exit(0 if measured else 1)

    from bench.cli.console import console
    from bench.cli.hints import after_train
    from bench.cli.train_progress import Console
    from bench.train import train as run_training
    from bench.train.parallel import is_main_process

    try:
        with Console(console) as shown:
            result = run_training(
                method,
                data or (),
                preset=preset,
                overrides=words,
                clips=clips,
                stages=stage or (),
                run=run,
                resume=resume,
                from_run=from_run,
                per=cast("Literal['speaker'] | None", per),
                speakers=speaker or (),
                weights_dir=weights_dir,
                reporter=shown,
            )
    except KeyboardInterrupt:
        if is_main_process():
            typer.echo("stopped: the same command with --resume continues from the last checkpoint", err=True)
        raise typer.Exit(130) from None
    if is_main_process():
        show_trained(result)
        if per is None and not result.stopped:
            after_train(method, result.run, data or ())
    if result.stopped:
        raise typer.Exit(STOPPED)


def show_trained(result: TrainResult) -> None:
    """Print how training ended."""
    from bench.cli.console import say

    for line in _lines(result):
        say(line)


def _lines(result: TrainResult) -> list[str]:
    """Lines about the end of training."""
    lines = []
    for name, figures in result.best.items():
        best = ", ".join(f"{figure} {value:.5g}" for figure, value in figures.items())
        lines.append(f"{name}, best validation: {best}")
    for speaker, part in result.speakers.items():
        lines += [f"{speaker}: {line}" for line in _lines(part)]
    lines += [f"{speaker} was skipped: {reason}" for speaker, reason in result.skipped.items()]
    return [*lines, f"{result.run}: {'stopped; continue with --resume' if result.stopped else 'trained'}"]
