"""A table from trained methods, in one call: ``bench reproduce`` without the command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.clips.inputs import Inputs
from bench.common.errors import BenchError
from bench.eval import evaluate, short_coverage
from bench.generate import GenerateOptions, generate
from bench.report.common_clips import common_clips, trained_on_clips, write_clips
from bench.report.definitions import Driven, get_table, variant_of
from bench.report.model import Table
from bench.report.tables import build_table
from bench.report.watching import Incomplete, Watcher
from bench.results import Result
from bench.train.run_set import left_out, method_of


@dataclass(frozen=True)
class Reproduction:
    """The results of a reproduction.

    Attributes:
        table: the paper's figures and the measured ones.
        result: the evaluation with the measured figures; its folder is ``<out>/result``.
        videos: row of the table → folder of its videos.
        page: ``index.html`` of the leaderboard page; None if no page was requested.
    """

    table: Table
    result: Result
    videos: dict[str, Path]
    page: Path | None


def reproduce(
    table: str,
    data: Path,
    out: Path,
    *,
    runs: Mapping[str, Path] | None = None,
    videos: Mapping[str, Path] | None = None,
    split: str | None = None,
    root: Path | None = None,
    limit: int | None = None,
    sync_expert: Path | None = None,
    sync_cca: Path | None = None,
    weights_dir: Path | None = None,
    device: str = "auto",
    workers: int | None = 1,
    site: Path | None = None,
    allow_partial: bool = False,
    watcher: Watcher | None = None,
) -> Reproduction:
    """Generate videos with every run, score all rows and the trivial ones with the table's metrics, and fill the table.

    All runs generate the same clips. If one of them is a run set, these are the clips that it held out, and they are
    listed in ``<out>/clips.txt``.

    Finished steps of the same call in ``out`` are kept, so an interrupted call continues.

    Args:
        table: its name in ``bench report --list``.
        data: prepared data set.
        out: folder to write: ``videos/<row>``, ``result``.
        runs: row → folder of a trained method's run, or of its run set.
        videos: row → folder of existing videos.
        split: of the data set; None: as :func:`bench.eval.evaluate` chooses.
        root: folder of the data set's source videos; None: the folder recorded at preparation.
        limit: use only this many clips, the first ones; None: all.
        sync_expert: run of ``sync-expert``; adds ``lse.expert``.
        sync_cca: run of ``sync-cca``; adds ``sync.cca``.
        weights_dir: folder of pretrained networks that is searched first.
        device: ``auto``, or a device of torch.
        workers: local processes that score; None: one per core on a CPU, one on a GPU; see
            :func:`bench.eval.evaluate`.
        site: folder for a leaderboard page; None: no page.
        allow_partial: continue although videos or figures are missing.
        watcher: receives the progress of every step.

    Raises:
        Incomplete: videos or figures are missing, and ``allow_partial`` is False.
        BenchError: no figure of the table can be measured, a row is given twice, a folder is not a run, two run
            sets held out different clips, or
            :func:`bench.generate.generate`, :func:`bench.eval.evaluate` or :func:`bench.report.site.write_site` raises
            it.
        PrepError: a name is unknown, or the data set cannot be read.
    """
    watcher = watcher or Watcher()
    definition = get_table(table)
    metrics = table_metrics(table)
    runs, made = dict(runs or {}), dict(videos or {})
    if twice := sorted(made.keys() & runs):
        raise BenchError(f"--run and --videos both name {twice[0]}: give one another name as NAME=FOLDER")
    methods = {name: method_of(folder) for name, folder in runs.items()}
    made = {**{name: out / "videos" / name for name in runs}, **made}
    options = ["--data", str(data), *_given("--split", split), *_given("--root", root)]
    options += _given("--limit", limit)
    clips = common_clips(runs)
    listed = None
    if clips is not None:
        for line in trained_on_clips(runs, data, clips):
            watcher.note(line)
        listed = write_clips(out, clips)
        options += ["--clips", str(listed)]
    manner = _given("--device", None if device == "auto" else device)
    manner += ["--allow-partial"] if allow_partial else []
    protocol: Driven = "dubbing" if definition.protocol == "dubbing" else "reconstruction"

    for name, folder in runs.items():
        command = ["bench", "generate", methods[name], "--run", str(folder), *options]
        command += ["--protocol", protocol, "--out", str(made[name])]
        command += [*_given("--weights-dir", weights_dir), *manner]
        watcher.begin(command)
        if note := left_out(folder):
            watcher.note(note)
        with watcher.counting("videos") as on_progress:
            done = generate(
                methods[name],
                folder,
                data,
                made[name],
                GenerateOptions(protocol=protocol, split=split, clips=clips, limit=limit, device=device),
                root=root,
                weights_dir=weights_dir,
                on_progress=on_progress,
                command=shlex.join(command),
            )
        watcher.done(done, made[name])
        if done.failures and not allow_partial:
            raise Incomplete(f"{made[name]}: {len(done.failures)} of {done.clips} videos are missing")

    regions = [definition.region] if metrics else ["full", "face", "mouth"]
    judges = [*["lse.expert"] * bool(sync_expert), *["sync.cca"] * bool(sync_cca)]
    chosen = [*metrics, *judges] if metrics else []
    command = ["bench", "eval", *(f"{name}={folder}" for name, folder in made.items()), *options]
    command += ["--with-trivial"]
    command += ["--metrics", ",".join(chosen), "--region", definition.region] if chosen else []
    command += [*_given("--sync-expert", sync_expert), *_given("--sync-cca", sync_cca)]
    command += [*_given("--weights-dir", weights_dir)]
    command += [*manner, "--out", str(out / "result")]
    watcher.begin(command)
    with watcher.scoring() as on_clip:
        result = evaluate(
            made,
            out=out / "result",
            data=data,
            split=split,
            clips=listed,
            root=root,
            metrics=chosen or None,
            regions=regions,
            with_trivial=True,
            limit=limit,
            sync_expert=sync_expert,
            sync_cca=sync_cca,
            weights_dir=weights_dir,
            device=device,
            workers=workers,
            command=shlex.join(command),
            on_inputs=lambda inputs: _say_unmatched(inputs, watcher),
            on_note=watcher.note,
            on_progress=on_clip,
        )
    watcher.done(result, out / "result")
    if not allow_partial and (short := short_coverage(result)):
        raise Incomplete(f"{out / 'result'}: {len(short)} figures do not cover all clips; first: {short[0]}")

    watcher.begin(["bench", "report", str(out / "result"), "--table", table, *_given("--site", site)])
    built = build_table(table, [result])
    watcher.done(built, out / "result")
    page = None
    if site is not None:
        from bench.report.site import write_site

        page = write_site([(out / "result", result)], site)
        watcher.done(page, site)
    return Reproduction(built, result, made, page)


def table_metrics(name: str) -> list[str]:
    """The metrics of a paper's table, without duplicates; empty for the default table, which has the default metrics.

    Columns of another protocol than the table's are left out.

    Raises:
        BenchError: no figure of the table can be measured.
        PrepError: there is no such table.
    """
    table = get_table(name)
    if not table.paper:
        return []
    columns = [column for block in table.blocks for column in table.columns_of(block)]
    outputs = [c.output for c in columns if c.output and c.protocol in (None, table.protocol)]
    if not outputs or table.protocol == "user-study":
        raise BenchError(
            f"{name} asks people, not metrics: nothing of it can be measured; `bench report --table {name}` prints "
            "what was published"
        )
    return list(dict.fromkeys(variant_of(output) for output in outputs))


def _say_unmatched(inputs: Inputs, watcher: Watcher) -> None:
    for line in inputs.passed_over:
        watcher.note(f"not scored: {line}")


def _given(option: str, value: object) -> list[str]:
    """The words of an option; empty if it is not given."""
    return [] if value is None else [option, str(value)]
