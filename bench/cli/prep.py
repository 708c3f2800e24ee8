"""``bench prep``: converts a corpus to Parquet shards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("prep")(prep)


def prep(
    context: typer.Context,
    source: str | None = typer.Argument(None, help="Layout of the corpus; see `bench ls sources`."),
    root: Path | None = typer.Argument(None, help="Folder of the corpus."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write; an interrupted one is continued."),
    views: str | None = typer.Option(None, help="Views to store, comma-separated; see `bench ls views`."),
    add_view: str | None = typer.Option(
        None, help="Add these views to the finished data set --out; SOURCE and ROOT may be left out."
    ),
    split: str | None = typer.Option(None, help="Only this split."),
    limit: int | None = typer.Option(None, min=1, help="At most N clips of each split, for a first try."),
    encoding: str = typer.Option("jpeg", help="jpeg, png or webp."),
    quality: int = typer.Option(95, min=1, max=100, help="Quality of jpeg and webp."),
    holdout: str | None = typer.Option(
        None, help="Hold this share of the speakers out for val, and as much for test: 10% or 0.1."
    ),
    seed: int | None = typer.Option(None, help="Which speakers --holdout takes; default: 0."),
    sound_root: Path | None = typer.Option(
        None, help="Folder of sound files with the videos' paths, where the videos' own sound is not meant."
    ),
    audio_track: int | None = typer.Option(
        None, min=0, help="Sound track of every file, from 0; default: the one marked default."
    ),
    pixels: str = typer.Option(
        "exact", help="How videos are decoded: exact, or opencv as IP-LAP's own preprocessing."
    ),
    detector: str = typer.Option("facemesh", help="What finds the landmarks; see `bench ls detectors`."),
    tracking: bool = typer.Option(
        False, help="Let the detector track the face: faster, but different from IP-LAP."
    ),
    device: str = typer.Option("cpu", help="Device of torch for the detector: cpu, cuda, cuda:1 …"),
    fan: bool = typer.Option(False, help="Store face-alignment's 68 landmarks as well."),
    mel_padding: str = typer.Option(
        "constant", help="Padding of the mel spectrogram: constant (IP-LAP) or reflect (Wav2Lip)."
    ),
    min_detected: float = typer.Option(0.5, min=0, max=1, help="Smallest share of frames with a face."),
    clip_seconds: float = typer.Option(10.0, min=0.2, max=10.0, help="Longest clip; longer ones are cut."),
    clips_per_shard: int | None = typer.Option(
        None, min=1, help="Clips per shard; default: depends on the number of clips."
    ),
    name: str | None = typer.Option(None, help="Name of the data set in its rows; default: the layout's."),
    workers: int | None = typer.Option(None, min=1, help="Local processes; default: one per core."),
    scheduler: str | None = typer.Option(None, help="Address of a running Dask scheduler to use instead."),
    performance_report: Path | None = typer.Option(None, help="Write Dask's performance report, HTML."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only print what would be done."),
) -> None:
    """Convert a corpus, such as LRS2 or any folder of videos, to Parquet shards."""
    from bench.cli import add_view as adding
    from prep.errors import PrepError

    if add_view is not None:
        if other := adding.given_options(context, adding.ALLOWED):
            raise PrepError(f"{other[0]} is the data set's own with --add-view: leave it out")
        with _interruptible():
            adding.add_view(
                add_view.split(","),
                out,
                source,
                root,
                workers=workers,
                scheduler=scheduler,
                report=performance_report,
            )
        return
    if source is None or root is None:
        raise PrepError(
            "name the layout of a corpus and its folder, such as `bench prep folder ~/Videos --out data`"
        )

    from bench.cli.console import console, plan_table, summary
    from bench.cli.hints import after_prep, print_notes
    from bench.cli.progress import prep_progress
    from prep.detectors import DETECTORS
    from prep.errors import PrepError
    from prep.images import ENCODINGS
    from prep.names import known
    from prep.options import PrepOptions
    from prep.pipeline import plan_shards, prepare, select
    from prep.pixels import Pixels
    from prep.sound.mel import PADDINGS
    from prep.sources import get_source
    from prep.sources.gather import gather
    from prep.sources.holdout import Holdout, read_share
    from prep.views import VIEWS

    corpus = get_source(source)
    known("encoding", [encoding], ENCODINGS)
    known("mel padding", [mel_padding], PADDINGS)
    known("pixels", [pixels], get_args(Pixels))
    known("detector", [detector], DETECTORS)
    held = Holdout(read_share(holdout), seed or 0) if holdout is not None else None
    if seed is not None and held is None:
        raise PrepError("--seed says which speakers to hold out: give --holdout too, such as --holdout 10%")
    chosen = known("view", views.split(","), VIEWS) if views else corpus.default_views
    options = PrepOptions(
        source=source,
        name=name or source,
        views=tuple(chosen),
        encoding=encoding,
        quality=quality,
        detector=detector,
        tracking=tracking,
        device=device,
        fan=fan,
        mel_padding=mel_padding,
        min_detected=min_detected,
        clip_seconds=clip_seconds,
        clips_per_shard=clips_per_shard,
        pixels=pixels,
        audio_track=audio_track,
    )
    with console.status(f"listing {root}"):
        listed = gather(source, root, split, holdout=held, sound_root=sound_root)
        refs = select(listed.clips, limit)
    print_notes(listed.notes)
    plans = plan_shards(refs, clips_per_shard)
    if dry_run:
        console.print(plan_table(plans, options, out))
        return
    with _interruptible(), prep_progress(len(refs), len(plans)) as notify:
        manifest = prepare(
            refs,
            root,
            out,
            options,
            workers=workers,
            scheduler=scheduler,
            report=performance_report,
            listing=listed.record if limit is None else {**listed.record, "limit": limit},
            on_progress=notify,
        )
    summary(manifest, out)
    after_prep(manifest, out)
    if not any(counts["clips"] for counts in manifest["splits"].values()):
        raise typer.Exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Exit code 130 after Ctrl-C, and a line on how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("stopped: complete shards stay, the same command continues from there", err=True)
        raise typer.Exit(130) from None
