"""``bench explain``: one metric under all its variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from bench.clips.inputs import Inputs
    from bench.results import Result

#: Frames of the shortened clips on which LSE is shown beside whole ones.
_LENGTHS = "25,50,75"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("explain")(explain)


def explain(
    metric: str = typer.Argument(..., help="A family: psnr, ssim, lpips, fid, csim, lmd, lse."),
    predictions: list[str] | None = typer.Argument(
        None, help="Folders of videos, each FOLDER or NAME=FOLDER."
    ),
    data: Path | None = typer.Option(None, help="Prepared data set that holds the truth."),
    split: str | None = typer.Option(None, help="Of the data set; default: test."),
    root: Path | None = typer.Option(None, help="Where the data set's source videos lie now."),
    pred: list[str] | None = typer.Option(None, help="The same as an argument: FOLDER or NAME=FOLDER."),
    truth: Path | None = typer.Option(None, help="Folder of true videos, paired with predictions by stem."),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Keep the result here; default: it is not kept."
    ),
    region: str = typer.Option("full,face,mouth", help="Comma-separated."),
    audio: str = typer.Option("prediction", help="Whose sound lip-sync metrics hear: prediction or truth."),
    with_trivial: bool = typer.Option(False, "--with-trivial", help="Also for the trivial rows."),
    lengths: str | None = typer.Option(
        None,
        help="Comma-separated: also score so many first frames of each clip; lse: 25,50,75, '' for none.",
    ),
    sync_expert: Path | None = typer.Option(None, help="Run of `bench train sync-expert`, for lse.expert."),
    limit: int | None = typer.Option(None, min=1, help="The first N clips only."),
    workers: int | None = typer.Option(None, min=1, help="Local processes."),
    device: str | None = typer.Option(None, help="cpu, cuda …"),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
) -> None:
    """Show one metric under all its variants and regions, which choice moves it most, and what clips' length does."""
    import tempfile

    import pandas as pd

    from bench.cli.console import console
    from bench.cli.console_explain import choice_table, length_table, variant_table
    from bench.cli.eval import default_device, default_workers, find_inputs, find_methods
    from bench.cli.progress import eval_progress
    from bench.eval import explain as why
    from bench.eval.evaluation import Options, evaluate, short_coverage
    from bench.metrics import family
    from bench.metrics.regions import REGIONS
    from bench.results import CLIPS
    from bench.weights.store import WeightStore
    from prep.names import known

    known("audio", [audio], ("prediction", "truth"))
    heard: Literal["prediction", "truth"] = "truth" if audio == "truth" else "prediction"
    folders = find_methods([*(predictions or []), *(pred or [])], None)
    names = family(metric)
    if lengths is None:
        lengths = _LENGTHS if "lse.lrs" in names else ""
    wanted = _numbers(lengths)
    options = Options(
        metrics=tuple(names),
        regions=known("region", region.split(","), REGIONS),
        audio=heard,
        device=device or default_device(),
        sync_expert=sync_expert,
    )
    inputs = find_inputs(folders, data, split, root, truth, None, heard, limit, with_trivial, options.seed)
    clips = why.clip_lengths(inputs) if wanted else {}
    shorter = why.worth_trying(wanted, clips)
    long_enough = {clip for clip, n in clips.items() if shorter and n >= shorter[-1]}
    with tempfile.TemporaryDirectory() as scratch:

        def scored(inputs: Inputs, folder: Path) -> Result:
            with eval_progress(len(inputs.jobs)) as notify:
                return evaluate(
                    inputs,
                    folder,
                    options,
                    WeightStore.default(weights_dir),
                    workers=workers or default_workers(options.device, len(inputs.jobs)),
                    on_progress=notify,
                )

        folder = out or Path(scratch, "all")
        result = scored(inputs, folder)
        rows: dict[int | None, pd.DataFrame] = {}
        for frames in shorter:
            part = Path(scratch, str(frames))
            scored(why.shortened(inputs, frames, long_enough), part)
            rows[frames] = pd.read_parquet(part / CLIPS)
        rows[None] = pd.read_parquet(folder / CLIPS)
    console.print(variant_table(result, why.entries(result), why.spread(why.entries(result))))
    found = why.largest(why.choices(result))
    if found:
        console.print(choice_table(found))
    if shorter:
        methods = [method.method for method in result.methods]
        console.print(length_table(why.by_length(result, rows, long_enough), methods, len(inputs.jobs)))
    elif wanted:
        console.print(
            f"length of clips: most have no more than {min(wanted)} frames, name fewer with --lengths"
        )
    for missing in result.missing:
        console.print(f"n/a {missing.metric}: {missing.reason}; {missing.remedy}", soft_wrap=True)
    for line in short_coverage(result):
        typer.echo(f"incomplete: {line}", err=True)


def _numbers(text: str) -> list[int]:
    from bench.common.errors import BenchError

    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) for word in words):
        raise BenchError(f"--lengths {text!r} is not a list of frame counts: write for example 25,50,75")
    return [int(word) for word in words]
