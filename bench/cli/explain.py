"""``bench explain``: one metric under all its variants."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer


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
    limit: int | None = typer.Option(None, min=1, help="The first N clips only."),
    workers: int | None = typer.Option(None, min=1, help="Local processes."),
    device: str | None = typer.Option(None, help="cpu, cuda …"),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
) -> None:
    """Show one metric under all its variants and regions, and which choice moves it most."""
    import tempfile

    from bench import explain as why
    from bench.cli.console import console
    from bench.cli.console_explain import choice_table, variant_table
    from bench.cli.eval import default_device, default_workers, find_inputs, find_methods
    from bench.cli.progress import eval_progress
    from bench.evaluate import Options, evaluate, short_coverage
    from bench.metrics import family
    from bench.regions import REGIONS
    from bench.weights import WeightStore
    from prep.names import known

    known("audio", [audio], ("prediction", "truth"))
    heard: Literal["prediction", "truth"] = "truth" if audio == "truth" else "prediction"
    folders = find_methods([*(predictions or []), *(pred or [])], None)
    options = Options(
        metrics=tuple(family(metric)),
        regions=known("region", region.split(","), REGIONS),
        audio=heard,
        device=device or default_device(),
    )
    inputs = find_inputs(folders, data, split, root, truth, None, heard, limit, with_trivial, options.seed)
    with tempfile.TemporaryDirectory() as scratch, eval_progress(len(inputs.jobs)) as notify:
        result = evaluate(
            inputs,
            out or Path(scratch),
            options,
            WeightStore.default(weights_dir),
            workers=workers or default_workers(options.device, len(inputs.jobs)),
            on_progress=notify,
        )
    console.print(variant_table(result, why.entries(result), why.spread(why.entries(result))))
    found = why.largest(why.choices(result))
    if found:
        console.print(choice_table(found))
    for missing in result.missing:
        console.print(f"n/a {missing.metric}: {missing.reason}; {missing.remedy}", soft_wrap=True)
    for line in short_coverage(result):
        typer.echo(f"incomplete: {line}", err=True)
