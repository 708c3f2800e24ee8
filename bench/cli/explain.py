"""``bench explain``: one metric in all its variants; and sync judges compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

if TYPE_CHECKING:
    from bench.clips.inputs import Audio
    from bench.eval.decoding import MatrixRule
    from prep.pixels import Pixels


#: What is not a family of variants, but of judges.
SYNC = "sync"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("explain")(explain)


def explain(
    metric: str = typer.Argument(
        ...,
        help="A family: psnr, ssim, lpips, fid, csim, lmd, lse; or sync: the judges of lip sync compared.",
    ),
    predictions: list[str] | None = typer.Argument(
        None, help="Folders of videos, or single videos, each PATH or NAME=PATH."
    ),
    data: Path | None = typer.Option(None, help="Prepared data set that holds the truth."),
    split: str | None = typer.Option(None, help="Split of the data set; default: test."),
    root: Path | None = typer.Option(None, help="Folder of the data set's source videos, if it was moved."),
    pred: list[str] | None = typer.Option(None, help="The same as an argument: PATH or NAME=PATH."),
    truth: Path | None = typer.Option(None, help="Folder of true videos, paired by name; or one video."),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Folder for the result; default: it is not stored."
    ),
    region: str = typer.Option("full,face,mouth", help="Comma-separated."),
    audio: str = typer.Option("prediction", help="Sound for lip-sync metrics: prediction or truth."),
    pixels: str | None = typer.Option(
        None, help="How colours are decoded: exact, or opencv; psnr is shown by each."
    ),
    matrix: str = typer.Option("auto", help="Matrix of predictions: auto, tagged, or bt601."),
    detector: str = typer.Option("facemesh", help="What finds landmarks; see `bench ls detectors`."),
    with_trivial: bool = typer.Option(False, "--with-trivial", help="Also for the trivial rows."),
    lengths: str | None = typer.Option(
        None,
        help="Comma-separated numbers of first frames of each clip to score as well; default for lse: 25,50,75; "
        "'': none.",
    ),
    sync_expert: list[Path] | None = typer.Option(
        None, help="Run of `bench train sync-expert`, for lse.expert; for sync it may be repeated."
    ),
    sync_cca: list[Path] | None = typer.Option(
        None, help="Run of `bench train sync-cca`, for sync.cca; for sync it may be repeated."
    ),
    limit: int | None = typer.Option(None, min=1, help="Only the first N clips."),
    workers: int | None = typer.Option(None, min=1, help="Local processes."),
    device: str | None = typer.Option(None, help="cpu, cuda …"),
    weights_dir: Path | None = typer.Option(None, help="Folder of pretrained networks, searched first."),
    json_: bool = typer.Option(False, "--json", help="Of sync: print the figures as JSON."),
) -> None:
    """Show one metric in all its variants and regions, the choices with the largest effect, that of the length, and
    how much of a distance between landmarks the detector makes by itself. With sync: what each judge of lip sync says
    of the same videos, how that depends on the length of windows, and how far the judges agree."""
    if metric == SYNC:
        _sync(
            [*(predictions or []), *(pred or [])],
            json_,
            data=data,
            truth=truth,
            split=split,
            root=root,
            audio=cast("Audio", audio),
            pixels=cast("Pixels | None", pixels),
            matrix=cast("MatrixRule", matrix),
            detector=detector,
            with_trivial=with_trivial,
            sync_cca=sync_cca or (),
            sync_expert=sync_expert or (),
            limit=limit,
            workers=workers,
            device=device or "auto",
            weights_dir=weights_dir,
        )
        return
    from bench.cli.console import console, say
    from bench.cli.console_explain import (
        choice_table,
        decoding_table,
        floor_line,
        length_table,
        variant_table,
    )
    from bench.cli.eval import comma_separated
    from bench.cli.progress import eval_progress
    from bench.clips.inputs import find_methods
    from bench.clips.inputs.base import passed_over
    from bench.common.errors import BenchError
    from bench.eval import explain as why
    from bench.eval.summarise import short_coverage

    if json_:
        raise BenchError(
            f"--json is for `bench explain {SYNC}`: of {metric}, name an --out and read its result.json"
        )
    for option, runs in (("--sync-expert", sync_expert), ("--sync-cca", sync_cca)):
        if len(runs or ()) > 1:
            raise BenchError(f"{option} is given twice: only `bench explain {SYNC}` compares several")
    shown = why.explain(
        metric,
        find_methods([*(predictions or []), *(pred or [])]),
        data=data,
        truth=truth,
        split=split,
        root=root,
        out=out,
        regions=comma_separated(region),
        audio=cast("Audio", audio),
        pixels=cast("Pixels | None", pixels),
        matrix=cast("MatrixRule", matrix),
        detector=detector,
        with_trivial=with_trivial,
        lengths=None if lengths is None else _numbers(lengths),
        sync_expert=sync_expert[0] if sync_expert else None,
        sync_cca=sync_cca[0] if sync_cca else None,
        limit=limit,
        workers=workers,
        device=device or "auto",
        weights_dir=weights_dir,
        progress=eval_progress,
    )
    result = shown.result
    console.print(variant_table(result, why.entries(result), why.spread(why.entries(result))))
    found = why.largest(why.choices(result))
    if found:
        console.print(choice_table(found))
    if shown.shortened:
        methods = [method.method for method in result.methods]
        console.print(length_table(shown.shortened, methods, result.data.clips))
    elif shown.lengths:
        console.print(
            f"length of clips: most have no more than {min(shown.lengths)} frames, name fewer with --lengths"
        )
    if shown.decodings:
        console.print(decoding_table(shown.decodings, [method.method for method in result.methods]))
    for method in result.methods:
        if line := floor_line(shown.floors, method.method):
            say(line)
        if method.untagged is not None:
            say(method.untagged.words(method.method))
        if method.unmatched:
            words = passed_over(result.data.kind, method.method, method.unmatched, method.videos)
            say(f"not scored: {words}")
    for missing in result.missing:
        say(f"n/a {missing.metric}: {missing.reason}; {missing.remedy}")
    for line in short_coverage(result):
        typer.echo(f"incomplete: {line}", err=True)


def _sync(words: list[str], json_: bool, **options: Any) -> None:
    """Compare sync judges; ``options`` are those of :func:`bench.eval.explain_sync.explain_sync`."""
    from bench.cli import console_sync
    from bench.cli.console import console, say
    from bench.cli.progress import eval_progress
    from bench.clips.inputs import find_methods
    from bench.eval.explain_sync import explain_sync

    shown = explain_sync(find_methods(words), progress=eval_progress, **options)
    if json_:
        typer.echo(shown.model_dump_json(indent=1))
        return
    console.print(console_sync.judge_table(shown))
    console.print(console_sync.length_table(shown))
    agreement = console_sync.agreement_table(shown)
    if agreement is not None:
        console.print(agreement)
    for line in console_sync.lines(shown):
        say(line)


def _numbers(text: str) -> list[int]:
    from bench.common.errors import BenchError

    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) for word in words):
        raise BenchError(f"--lengths {text!r} is not a list of frame counts: write for example 25,50,75")
    return [int(word) for word in words]
