"""``bench eval``: scores videos and writes a result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

if TYPE_CHECKING:
    from bench.clips.inputs import Audio, Inputs
    from bench.eval.decoding import MatrixRule
    from bench.results import Result
    from prep.pixels import Pixels


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("eval")(evaluate)


def evaluate(
    predictions: list[str] | None = typer.Argument(
        None,
        help="Folders of videos (or single videos) to score, each PATH or NAME=PATH; none: only the trivial rows.",
    ),
    data: Path | None = typer.Option(None, help="Prepared data set that holds the truth."),
    split: str | None = typer.Option(None, help="Split of the data set; default: test."),
    clips: Path | None = typer.Option(
        None, help="List of the data set's clips to score, of any split: one id per line, or CSV."
    ),
    root: Path | None = typer.Option(None, help="Folder of the data set's source videos, if it was moved."),
    pred: list[str] | None = typer.Option(None, help="The same as an argument: PATH or NAME=PATH."),
    truth: Path | None = typer.Option(None, help="Folder of true videos, paired by name; or one video."),
    pairs: Path | None = typer.Option(None, help="List of 'audio video' lines in Wav2Lip's format: dubbing."),
    method_name: str | None = typer.Option(None, help="Name of the row, if there is one PATH."),
    training_data: str = typer.Option("", help="What the methods were trained on, for notes below tables."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    metrics: str | None = typer.Option(
        None, "--metrics", "--metric", help="Comma-separated; see `bench ls metrics`."
    ),
    region: str = typer.Option("full,face,mouth", "--region", "--regions", help="Comma-separated."),
    audio: str = typer.Option("prediction", help="Sound for lip-sync metrics: prediction or truth."),
    pixels: str | None = typer.Option(
        None, help="How colours are decoded: exact, or opencv; default: as the data set's, else exact."
    ),
    matrix: str = typer.Option(
        "auto", help="Matrix of predictions: auto, tagged, or bt601 (for the truth too); see docs/metrics.md."
    ),
    detector: str = typer.Option("facemesh", help="What finds landmarks; see `bench ls detectors`."),
    with_trivial: bool = typer.Option(
        False, "--with-trivial", help="Add ground truth, re-encoded, shifted, still frame, wrong audio."
    ),
    limit: int | None = typer.Option(None, min=1, help="Only the first N clips, for a first try."),
    workers: int | None = typer.Option(None, min=1, help="Local processes; default: one per core on a CPU."),
    scheduler: str | None = typer.Option(None, help="Address of a running Dask scheduler to use instead."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1 …; default: cuda if available."),
    batch_size: int = typer.Option(16, min=1, help="Frames scored together; it changes no figure."),
    seed: int = typer.Option(0, help="Seed of the bootstrap and of the choice of wrong audio."),
    sync_expert: Path | None = typer.Option(
        None, help="Run of `bench train sync-expert`: adds lse.expert to the default metrics."
    ),
    sync_cca: Path | None = typer.Option(None, help="Run of `bench train sync-cca`, for sync.cca."),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Exit 0 although clips are missing."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Delete another evaluation in --out."),
    json_: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Score videos against the truth; exit code 3 if some clips could not be scored."""
    from bench.cli.hints import after_eval
    from bench.cli.progress import eval_progress
    from bench.clips.inputs import find_methods
    from bench.eval import evaluate as run
    from bench.eval import short_coverage

    try:
        with eval_progress() as notify:
            result = run(
                find_methods([*(predictions or []), *(pred or [])], method_name),
                out=out,
                data=data,
                truth=truth,
                pairs=pairs,
                split=split,
                clips=clips,
                root=root,
                metrics=None if metrics is None else comma_separated(metrics),
                regions=comma_separated(region),
                audio=cast("Audio", audio),
                pixels=cast("Pixels | None", pixels),
                matrix=cast("MatrixRule", matrix),
                detector=detector,
                with_trivial=with_trivial,
                limit=limit,
                training_data=training_data,
                sync_expert=sync_expert,
                sync_cca=sync_cca,
                weights_dir=weights_dir,
                device=device or "auto",
                batch_size=batch_size,
                seed=seed,
                workers=workers,
                scheduler=scheduler,
                overwrite=overwrite,
                command=" ".join(["bench", *sys.argv[1:]]),
                on_inputs=_say_unmatched,
                on_note=lambda text: typer.echo(f"warning: {text}", err=True),
                on_progress=notify,
            )
    except KeyboardInterrupt:
        typer.echo("stopped: finished clips stay, the same command continues from there", err=True)
        raise typer.Exit(130) from None
    if json_:
        typer.echo(result.model_dump_json(indent=1))
    else:
        show_result(result, out)
        after_eval(out)
    short = short_coverage(result)
    for line in short:
        typer.echo(f"incomplete: {line}", err=True)
    if short and not allow_partial:
        raise typer.Exit(3)


def show_result(result: Result, out: Path) -> None:
    """Print an evaluation's table and its folder."""
    from bench.cli.console import console
    from bench.cli.console_tables import print_table
    from bench.report.tables import build_table

    print_table(build_table("default", [result], result.regions[0]), console)
    show_scored(result, out)


def show_scored(result: Result, out: Path) -> None:
    """Print an evaluation's folder, clips and time."""
    from bench.cli.console import say

    clips = f"{result.data.clips} clips in {result.provenance.seconds:.1f} s"
    say(f"{out}: {clips}")


def comma_separated(text: str) -> list[str]:
    """The values of an option, separated by commas or spaces."""
    return text.replace(",", " ").split()


def _say_unmatched(inputs: Inputs) -> None:
    for line in inputs.passed_over:
        typer.echo(f"not scored: {line}", err=True)
