"""``bench eval``: videos become a result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from bench.clips.inputs import Inputs


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("eval")(evaluate)


def evaluate(
    predictions: list[str] | None = typer.Argument(
        None, help="Folders of videos to score, each FOLDER or NAME=FOLDER; none: only the trivial rows."
    ),
    data: Path | None = typer.Option(None, help="Prepared data set that holds the truth."),
    split: str | None = typer.Option(None, help="Of the data set; default: test."),
    root: Path | None = typer.Option(None, help="Where the data set's source videos lie now."),
    pred: list[str] | None = typer.Option(None, help="The same as an argument: FOLDER or NAME=FOLDER."),
    truth: Path | None = typer.Option(None, help="Folder of true videos, paired with predictions by stem."),
    pairs: Path | None = typer.Option(
        None, help="List of 'audio video' lines as Wav2Lip publishes them: dubbing."
    ),
    method_name: str | None = typer.Option(None, help="Name of the row, where there is one FOLDER."),
    training_data: str = typer.Option("", help="What the methods were trained on, for the foot of tables."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    metrics: str | None = typer.Option(
        None, "--metrics", "--metric", help="Comma-separated; see `bench ls metrics`."
    ),
    region: str = typer.Option("full,face,mouth", "--region", "--regions", help="Comma-separated."),
    audio: str = typer.Option("prediction", help="Whose sound lip-sync metrics hear: prediction or truth."),
    with_trivial: bool = typer.Option(
        False, "--with-trivial", help="Add ground truth, re-encoded, still frame, wrong audio."
    ),
    limit: int | None = typer.Option(None, min=1, help="The first N clips only, for a first try."),
    workers: int | None = typer.Option(None, min=1, help="Local processes; default: one a core on a CPU."),
    scheduler: str | None = typer.Option(None, help="Address of a running Dask scheduler to use instead."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1 …; default: cuda where there is one."),
    batch_size: int = typer.Option(16, min=1, help="Frames scored together; it moves no figure."),
    seed: int = typer.Option(0, help="Of the bootstrap and of the wrong audio."),
    sync_expert: Path | None = typer.Option(
        None, help="Run of `bench train sync-expert`: adds lse.expert to the default metrics."
    ),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Exit 0 although clips are missing."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Throw away another evaluation in --out."),
    json_: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Score videos against the truth; exit code 3 where some clips could not be scored."""
    from bench.cli.console import console
    from bench.cli.progress import eval_progress
    from bench.eval.evaluation import Options, short_coverage
    from bench.eval.evaluation import evaluate as run
    from bench.metrics import ALIASES, DEFAULT, METRICS
    from bench.metrics.regions import REGIONS
    from bench.weights.store import WeightStore
    from prep.names import known

    folders = find_methods([*(predictions or []), *(pred or [])], method_name)
    known("audio", [audio], ("prediction", "truth"))
    heard: Literal["prediction", "truth"] = "truth" if audio == "truth" else "prediction"
    default = (*DEFAULT, "lse.expert") if sync_expert else DEFAULT
    names = [ALIASES.get(name.strip(), name) for name in metrics.split(",")] if metrics else default
    options = Options(
        metrics=known("metric", names, METRICS),
        regions=known("region", region.split(","), REGIONS),
        audio=heard,
        seed=seed,
        device=device or default_device(),
        batch=batch_size,
        training_data=tuple((name, training_data) for name in folders) if training_data else (),
        sync_expert=sync_expert,
    )
    inputs = find_inputs(folders, data, split, root, truth, pairs, heard, limit, with_trivial, seed)
    for line in inputs.unmatched:
        typer.echo(f"not scored: {line}", err=True)
    try:
        with eval_progress(len(inputs.jobs)) as notify:
            result = run(
                inputs,
                out,
                options,
                WeightStore.default(weights_dir),
                workers=workers or default_workers(options.device, len(inputs.jobs)),
                scheduler=scheduler,
                overwrite=overwrite,
                on_progress=notify,
                command=" ".join(["bench", *sys.argv[1:]]),
            )
    except KeyboardInterrupt:
        typer.echo("stopped: finished clips stay, the same command goes on from there", err=True)
        raise typer.Exit(130) from None
    if json_:
        typer.echo(result.model_dump_json(indent=1))
    else:
        from bench.cli.console_tables import print_table
        from bench.report.tables import build_table

        print_table(build_table("default", [result], options.regions[0]), console)
        console.print(f"{out}: {result.data.clips} clips in {result.provenance.seconds:.1f} s")
    short = short_coverage(result)
    for line in short:
        typer.echo(f"incomplete: {line}", err=True)
    if short and not allow_partial:
        raise typer.Exit(3)


def find_methods(words: list[str], name: str | None) -> dict[str, Path]:
    """Method → folder, from words FOLDER or NAME=FOLDER; ``name`` is that of a single FOLDER. Raises ``BenchError``."""
    from bench.clips.job import TRIVIAL
    from bench.common.errors import BenchError

    if name is not None and (len(words) != 1 or ("=" in words[0] and not Path(words[0]).is_dir())):
        raise BenchError("--method-name names a single folder: write NAME=FOLDER for each instead")
    found: dict[str, Path] = {}
    for word in words:
        label, equals, folder = ("", "", "") if name is not None else word.partition("=")
        path = Path(folder if equals else word)
        if not equals:
            label = path.resolve().name if name is None else name
        if label in found or label in TRIVIAL or not label:
            raise BenchError(f"{word}: the name {label!r} is taken; give another as NAME=FOLDER")
        if not path.is_dir():
            raise BenchError(f"{path} is not a folder of videos")
        found[label] = path
    return found


def default_device() -> str:
    """``cuda`` where there is one, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def default_workers(device: str, clips: int) -> int:
    """One process on a GPU, which it fills; on a CPU one a core, where there are clips enough to pay for the start."""
    import os

    return 1 if device.startswith("cuda") or clips < 8 else os.cpu_count() or 1


def find_inputs(
    folders: dict[str, Path],
    data: Path | None,
    split: str | None,
    root: Path | None,
    truth: Path | None,
    pairs: Path | None,
    audio: Literal["prediction", "truth"],
    limit: int | None,
    with_trivial: bool,
    seed: int,
) -> Inputs:
    """What is scored against what, from the options of the command line. Raises ``BenchError``."""
    from dataclasses import replace

    from bench.clips import inputs as source
    from bench.clips.job import TRIVIAL
    from bench.common.errors import BenchError

    if data is not None and truth is not None:
        raise BenchError("give either --data or --truth, not both")
    if not folders and not with_trivial:
        raise BenchError("nothing to score: name a folder of predictions, or take --with-trivial")
    if pairs is not None:
        found = source.from_pairs(folders, pairs, truth, audio=audio)
    elif data is not None:
        found = source.from_dataset(folders, data, split, root, audio=audio)
    elif truth is not None or folders:
        found = source.from_folders(folders, truth, audio=audio)
    else:
        raise BenchError("nothing to compare with: give --data or --truth")
    if limit is not None:
        found = replace(found, jobs=found.jobs[:limit])
    return source.with_trivial(found, TRIVIAL, seed) if with_trivial else found
