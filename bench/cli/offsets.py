"""``bench offsets``: finds the clips of a data set whose sound is in sync, off, or another clip's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.train.offset_judging import Judge
    from bench.train.offset_rule import Summary
    from bench.train.offsets import Found

#: Number of offsets in the summary.
_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("offsets")(offsets)


def offsets(
    data: list[Path] = typer.Option(..., "--data", help="Prepared data set; may be repeated."),
    sync_cca: Path | None = typer.Option(
        None, help="Judge by this run of `bench train sync-cca`; default: judges fitted on these clips."
    ),
    sync_expert: Path | None = typer.Option(None, help="Judge by this run of `bench train sync-expert`."),
    out: Path | None = typer.Option(None, "--out", "-o", help="CSV to write, for `bench train --clips`."),
    split: list[str] | None = typer.Option(
        None, "--split", help="Only this split; may be repeated; default: all."
    ),
    reach: int = typer.Option(15, min=1, help="Largest shift of the sound that is tried, in frames."),
    most: int = typer.Option(1, min=0, help="Largest offset of a clip in sync, in frames."),
    rounds: int = typer.Option(3, min=1, help="Rounds of fitting judges on these clips."),
    keep_undecidable: bool = typer.Option(
        False, "--keep-undecidable", help="in_sync is true of undecidable clips, too."
    ),
    correct: Path | None = typer.Option(
        None, help="Write a data set to this folder in which constant offsets are corrected."
    ),
    listed: Path | None = typer.Option(
        None, "--list", help="With --correct: by this list, which was written before; nothing is judged."
    ),
    workers: int | None = typer.Option(
        None, min=1, help="Local processes; default: one per core, if that pays."
    ),
    device: str | None = typer.Option(None, help="Of the expert: cpu, cuda …"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing list."),
) -> None:
    """Write by how many frames each clip's video is late (negative: early), and whether the clip is in sync."""
    from bench.common.errors import BenchError
    from bench.common.places import check_folder
    from prep.correcting import check_apart

    if sync_cca is not None and sync_expert is not None:
        raise BenchError("--sync-cca and --sync-expert are two judges: name one")
    if correct is not None and len(data) > 1:
        raise BenchError("--correct takes one data set at a time: give one --data")
    if listed is not None:
        if correct is None or out is not None or sync_cca is not None or sync_expert is not None:
            raise BenchError(
                "--list is a list that was written before, for --correct: leave --out and judges out"
            )
        check_apart(data[0], correct)
        check_folder(correct)
        _correct(data[0], listed, correct, workers)
        return
    if out is None:
        raise BenchError("name the CSV to write with --out")
    if out.exists() and not overwrite:
        raise BenchError(
            f"{out} exists already: replace it with --overwrite, name another with --out"
            + (f", or correct by it: --list {out}" if correct is not None else "")
        )

    from bench.cli.console import console, say
    from bench.cli.progress import steps_progress
    from bench.train.offset_rule import Rule
    from bench.train.offsets import find_offsets

    check_folder(out.absolute().parent, out)
    if correct is not None:
        check_apart(data[0], correct)
        check_folder(correct)
    judge, told = _judge(sync_cca, sync_expert, device, data)
    with steps_progress() as advance:
        found = find_offsets(
            data,
            out,
            judge,
            splits=split or (),
            rule=Rule(reach, most),
            rounds=rounds,
            keep_undecidable=keep_undecidable,
            workers=workers if sync_expert is None else 1,
            progress=advance,
        )
    console.print(_table(found.summary))
    for line in [*_lines(found), f"{out}: {told}"]:
        say(line)
    if correct is not None:
        if found.summary.off():
            _correct(data[0], out, correct, workers)
        else:
            say(f"no clip is off: {correct} is not written")


def _judge(
    sync_cca: Path | None, sync_expert: Path | None, device: str | None, data: Sequence[Path]
) -> tuple[Judge | None, str]:
    """The judge that is named, and what it is called; None: judges are fitted."""
    from bench.train.offset_judging import ByCca, ByExpert

    if sync_expert is not None:
        from bench.common.device import pick_device
        from bench.metrics.expert_file import find_expert, load_expert

        expert = find_expert(sync_expert, "bench offsets")
        names = (f"sync-expert:{expert.sha256[:12]}",)
        network = load_expert(expert, pick_device(device or "auto"))
        return ByExpert(network, names), f"by {expert.file}, sha256 {expert.sha256[:12]}"
    if sync_cca is None:
        return None, "by linear judges that were fitted on these clips"
    from bench.metrics.cca_file import find_cca, load_cca
    from bench.weights.digests import file_sha256
    from prep.shards import MANIFEST

    fit = find_cca(sync_cca)
    told = f"by {fit.file}, sha256 {fit.sha256[:12]}"
    manifests = {digest for _, digest in fit.data}
    if any((folder / MANIFEST).is_file() and file_sha256(folder / MANIFEST) in manifests for folder in data):
        told += "; it was fitted on some of these clips, which draws their offsets towards 0: leave --sync-cca out"
    return ByCca((load_cca(fit),), (f"sync-cca:{fit.sha256[:12]}",)), told


def _correct(data: Path, listed: Path, out: Path, workers: int | None) -> None:
    """Write the corrected data set, with a progress bar and a summary."""
    from bench.cli.console import human_bytes, say, summary
    from bench.cli.progress import prep_progress
    from bench.train.offsets import LIST, correct_offsets
    from prep.shards import read_manifest

    shards = read_manifest(data).get("shards", [])
    say(f"{out}: needs up to {human_bytes(sum(shard['bytes'] for shard in shards))}; {data} stays as it is")
    clips = sum(shard["clips"] + shard["failures"] for shard in shards)
    with prep_progress(clips, len(shards)) as notify:
        manifest = correct_offsets(data, listed, out, workers=workers, on_progress=notify)
    summary(manifest, out)
    # Only a clip that is shifted can become a failure.
    lost = sum(shard["failures"] for shard in manifest["shards"]) - sum(shard["failures"] for shard in shards)
    moved = f"sound shifted in {manifest['corrected']['clips'] - lost:,} clips"
    if lost:
        moved += f", {lost:,} more are left out, since too little of them remained"
    say(f"{moved}; train with --data {out} --clips {out / LIST}")


def _table(summary: Summary) -> object:
    from bench.cli.console import figures_table
    from bench.train.offset_rule import IN_SYNC, VERDICTS

    table = figures_table("split", "clips", *VERDICTS, "share in sync", right=len(VERDICTS) + 2)
    for split, counts in sorted(summary.counts.items()):
        share = f"{counts[IN_SYNC] / counts['clips']:.0%}"
        table.add_row(split, *(f"{counts[column]:,}" for column in ("clips", *VERDICTS)), share)
    return table


def _lines(found: Found) -> Iterator[str]:
    """Lines below the table: common offsets, an offset of the data set, why clips are undecidable, rounds."""
    summary, fitted = found.summary, found.fitted
    common = ", ".join(f"{offset:+d} ({count:,})" for offset, count in summary.offsets.most_common(_SHOWN))
    yield f"offsets in frames (positive: the video is late): {common or 'none'}"
    offset = summary.constant()
    if offset is not None:
        share = summary.offsets[offset] / summary.offsets.total()
        whose = "" if fitted else ", or the data that the judge learnt from"
        yield (
            f"{share:.0%} of the clips with an offset have {offset:+d}: so the whole data set has it{whose}; "
            f"--most {abs(offset)} keeps these clips, --correct OUT shifts them"
        )
    for reason, count in summary.reasons.most_common():
        yield f"undecidable: {count:,} × {reason}"
    if fitted is None:
        return
    for number, one in enumerate(fitted.rounds, 1):
        yield (
            f"round {number}: fitted on {one.fitted:,} clips ({one.shifted:,} shifted, {one.left_out:,} left out), "
            f"canonical correlation {one.canonical:.3f}, offset found in {one.decided:,} clips"
        )
    yield (
        f"each clip was judged by a fit on other {fitted.by} ({fitted.groups} groups); an offset that all clips share "
        "cannot be seen so: for that, give a judge of other data with --sync-cca"
    )
