"""``bench train``: a method learns from prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.train.config import RunConfig

#: What starters of several processes call their numbers; that of torch's first.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
#: Exit code of a run that SIGTERM ended, as the shell has it.
_STOPPED = 143


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("train")(train)


def train(
    method: str = typer.Argument(..., help="What to train; see `bench ls methods`."),
    data: list[Path] | None = typer.Option(None, "--data", help="Prepared data set; may be repeated."),
    preset: str | None = typer.Option(None, help="paper (default), tiny, or a TOML file of your own."),
    clips: Path | None = typer.Option(
        None, "--clips", help="Train only on these: CSV of `bench offsets`, or one clip id a line."
    ),
    stage: list[str] | None = typer.Option(None, "--stage", help="Only this stage; may be repeated."),
    overrides: list[str] | None = typer.Option(
        None, "--set", help="KEY=VALUE over the preset, such as runner.seed=1; may be repeated."
    ),
    run: Path | None = typer.Option(None, "--run", help="Folder to write; default: runs/METHOD."),
    resume: bool = typer.Option(False, "--resume", help="Go on in a folder that is there already."),
    precision: str | None = typer.Option(None, help="no (float32), bf16 or fp16."),
    device: str | None = typer.Option(None, help="auto, cpu or cuda."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
) -> None:
    """Train the stages of a method, one after the other; exit code 143 where SIGTERM ended it with a checkpoint."""
    from bench.common.errors import BenchError
    from bench.common.methods import get_method
    from prep.names import known

    get_method(method)
    folder = run or Path("runs") / method
    words = [
        f"runner.{key}={value}" for key, value in (("precision", precision), ("device", device)) if value
    ]
    main = _is_main_process()
    if main and not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchError(f"{folder} is there already: go on with it by --resume, or name another with --run")
    config = _config(method, preset, [*words, *(overrides or [])], data or [], clips, folder, resume)

    from bench.cli.console import console
    from bench.cli.train_progress import Console
    from bench.train.assets import load_assets
    from bench.train.inputs import build_method, check_data
    from bench.train.log import RunLog, Several
    from bench.train.runner import train as run_stages
    from bench.weights.store import WeightStore

    built = build_method(config)
    wanted = known("stage", stage, built.stages) if stage else tuple(built.stages)
    names = [name for name in built.stages if name in wanted]
    stages = [built.stages[name] for name in names]
    if main:
        check_data(config.data, stages, config.clips)
    digests = load_assets(built, {"train"}, WeightStore.default(weights_dir), stages=stages)
    if main:
        _save(config, digests, resume)
    with Console(console) as shown, RunLog(folder, tensorboard=config.runner.tensorboard) as log:
        reporter = Several([log, shown] if main else [])
        try:
            result = run_stages(config, built, names, folder, resume, reporter)
        except KeyboardInterrupt:
            if main:
                typer.echo(
                    "stopped: the same command with --resume goes on from the last checkpoint", err=True
                )
            raise typer.Exit(130) from None
    if main:
        for name, figures in result.best.items():
            best = ", ".join(f"{figure} {value:.5g}" for figure, value in figures.items())
            console.print(f"{name}, best validation: {best}", soft_wrap=True)
        console.print(
            f"{folder}: {'stopped; --resume goes on' if result.stopped else 'trained'}", soft_wrap=True
        )
    if result.stopped:
        raise typer.Exit(_STOPPED)


def _is_main_process() -> bool:
    """Whether this process is the one that writes; `accelerate launch` starts several."""
    import os

    found = [os.environ[name] for name in _RANKS if name in os.environ]
    return not found or int(found[0]) == 0


def _config(
    method: str,
    preset: str | None,
    words: list[str],
    data: list[Path],
    clips: Path | None,
    folder: Path,
    resume: bool,
) -> RunConfig:
    """The configuration as the command line has it; of a run that goes on, as it was and as it may be."""
    from bench.common.errors import BenchError
    from bench.train.config import RunConfig, change_config, check_resume, load_config

    if not resume:
        if not data:
            raise BenchError("nothing to train on: name a prepared data set with --data")
        return load_config(method, preset or "paper", words, data, folder, clips)
    saved = RunConfig.load(folder)
    if saved.method != method:
        raise BenchError(f"{folder} is a run of {saved.method}, not of {method}: name another with --run")
    if preset is None:
        config = change_config(saved, words, data, clips)
    else:
        config = load_config(method, preset, words, data or saved.data, folder, clips or saved.clips)
    check_resume(saved, config)
    return config


def _save(config: RunConfig, digests: dict[str, str], resume: bool) -> None:
    """Make the folder of the run, with what it is made from."""
    from bench.common.errors import BenchError
    from bench.train.config import RunConfig, differences
    from bench.train.inputs import record

    try:
        config.out.mkdir(parents=True, exist_ok=True)
        changed = differences(RunConfig.load(config.out), config) if resume else None
        record(config.out, config, digests, changed)
        config.save(config.out)
    except OSError as error:
        raise BenchError(f"{config.out} cannot be written: {error.strerror}") from error
