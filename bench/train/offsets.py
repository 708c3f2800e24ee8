"""Finds the clips of a data set whose sound is in sync, off by a constant offset, or that of another clip.

``bench offsets`` writes one CSV line per clip. ``bench train --clips`` reads this list (:mod:`bench.clips.clip_lists`),
and ``bench offsets --correct`` makes a data set without the constant offsets of it (:mod:`prep.correcting`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.common.errors import BenchError
from bench.train.cross_fitting import CrossFit, cross_fit
from bench.train.fitting import WORTH_WORKERS
from bench.train.inputs import check_view
from bench.train.loading import cores
from bench.train.offset_judging import Judge, Judged, judge_all, places
from bench.train.offset_rule import IN_SYNC, OFF, UNDECIDABLE, Rule, Summary, verdicts
from bench.weights.digests import file_sha256
from prep.cluster import open_cluster
from prep.correcting import correct
from prep.shard_tasks import PrepProgress
from prep.shards import AtomicFile, read_failures, read_manifest

#: Columns of the list. ``video_late``: by how many frames the video is late. ``reason``: why the clip is undecidable.
COLUMNS = (
    "clip",
    "split",
    "video_late",
    "score",
    "confidence",
    "significance",
    "in_sync",
    "verdict",
    "reason",
    "judge",
)
#: The list of a corrected data set, in its folder.
LIST = "offsets.csv"
#: Verdict of a clip whose offset was corrected.
CORRECTED = "corrected"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Found:
    """What :func:`find_offsets` found.

    Attributes:
        summary: counts.
        fitted: how judges were fitted on the clips; None: there was a judge.
    """

    summary: Summary
    fitted: CrossFit | None


def find_offsets(
    data: Sequence[Path],
    out: Path,
    judge: Judge | None = None,
    *,
    splits: Sequence[str] = (),
    rule: Rule | None = None,
    rounds: int = 3,
    keep_undecidable: bool = False,
    workers: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Found:
    """Judge every clip of prepared data sets and write the list, atomically.

    Args:
        data: prepared data sets.
        out: the list, CSV with :data:`COLUMNS`; an existing file is replaced.
        judge: None: linear judges are fitted on these clips (:mod:`bench.train.cross_fitting`).
        splits: to judge; empty: all.
        rule: when a clip is in sync.
        rounds: of fitting.
        keep_undecidable: ``in_sync`` is true of undecidable clips, too.
        workers: local processes, one thread each; None: one per core where there is enough to do.
        progress: called with the step, how much of it is done, and the total.

    Raises:
        BenchError: a data set lacks what the judge sees, two data sets have a clip of the same id, a clip is damaged,
            no judge can be fitted, or ``out`` cannot be written.
        PrepError: a folder is not a data set, or lacks the splits.
    """
    rule = rule or Rule()
    found = places(data, splits)
    fitted = None
    if judge is not None:
        for view in set(judge.columns) - {"detected", "landmarks", "mel"}:
            for folder in sorted({place.path.parent.parent for place in found}):
                check_view(folder, view, "which the expert needs")
    with _processes(workers, sum(place.n_frames for place in found)) as scheduler:
        if judge is None:
            fitted = cross_fit(found, rule, rounds=rounds, scheduler=scheduler, progress=progress)
            judged = fitted.judged
        else:
            judged = judge_all(
                found,
                judge,
                rule.reach,
                scheduler=scheduler,
                progress=partial(progress, "offsets"),
            )
    summary = Summary(rule)
    said = verdicts(judged, rule)
    kept = {IN_SYNC, UNDECIDABLE} if keep_undecidable else {IN_SYNC}
    rows = [COLUMNS]
    for one, verdict in zip(judged, said, strict=True):
        summary.add(one, verdict)
        rows.append(_row(one, verdict, verdict in kept))
    _write(out, rows)
    return Found(summary, fitted)


@contextmanager
def _processes(workers: int | None, frames: int) -> Iterator[str | None]:
    """The address of the scheduler of worker processes for all steps; None: this process does it all."""
    if workers is None:
        workers = cores() if frames >= WORTH_WORKERS else 1
    if workers == 1:
        yield None
        return
    with open_cluster(workers, None) as cluster:
        yield cluster.scheduler_address


def _row(one: Judged, verdict: str, in_sync: bool) -> tuple[Any, ...]:
    figures: tuple[Any, ...] = ("", "", "", "")
    if one.offset is not None:
        late = "" if one.offset.frames is None else one.offset.frames
        figures = (late, *map(_number, (one.offset.score, one.offset.confidence, one.offset.significance)))
    place = one.place
    reason = one.reason if verdict == UNDECIDABLE else ""
    return (place.clip_id, place.split, *figures, _truth(in_sync), verdict, reason, one.judge)


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else ""


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _write(out: Path, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    try:
        with AtomicFile(out) as sink:
            sink.write(text.getvalue().encode())
            sink.commit()
    except OSError as error:
        raise BenchError(f"{out} cannot be written: {error.strerror}") from error


# Correcting ---------------------------------------------------------------------------------------------------------


def correct_offsets(
    data: Path,
    listed: Path,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Callable[[PrepProgress], None] | None = None,
) -> dict[str, Any]:
    """Write a data set in which the constant offsets of a list are corrected; continues if it was interrupted.

    The clips that the list says are ``off`` are shifted. Other clips, those with sound of another clip among them, stay
    as they are. ``offsets.csv`` in ``out`` is the list for the new set: for ``bench train --clips``.

    Args:
        data: the data set that was judged.
        listed: what :func:`find_offsets` wrote; clips of other data sets in it are left alone.
        out: folder to write.
        workers: local worker processes; None: the number of cores.
        scheduler: address of a running Dask scheduler to use instead.
        on_progress: called in this process for every message.

    Returns:
        The manifest of the new data set.

    Raises:
        BenchError: the list is missing, or is no list with offsets; none of its clips is off; or it names none of the
            data.
        PrepError: of :func:`prep.correcting.correct`.
    """
    read_manifest(data)
    mine = {place.clip_id for place in places([data])}
    rows = [row for row in read_offsets(listed) if row["clip"] in mine]
    if not rows:
        raise BenchError(
            f"{listed} names no clip of {data}: make the list again: bench offsets --data {data} …"
        )
    shifts = {row["clip"]: int(row["video_late"]) for row in rows if row["verdict"] == OFF}
    if not shifts:
        raise BenchError(f"{listed} says of no clip of {data} that it is off: there is nothing to correct")
    judges = sorted({row["judge"] for row in rows if row["clip"] in shifts})
    record = {"list_sha256": file_sha256(listed), "judges": judges}
    manifest = correct(
        data, out, shifts, record, workers=workers, scheduler=scheduler, on_progress=on_progress
    )
    lost = {failure.clip_id: failure.reason for failure in read_failures(out)}
    for row in rows:
        if row["clip"] in lost and row["clip"] in shifts:
            row |= {"in_sync": "false", "verdict": UNDECIDABLE, "reason": lost[row["clip"]]}
        elif row["clip"] in shifts:
            row |= {
                "video_late": "0",
                "in_sync": "true",
                "verdict": CORRECTED,
                "reason": f"was {shifts[row['clip']]:+d}",
            }
    _write(out / LIST, [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    return manifest


def read_offsets(path: Path) -> list[dict[str, str]]:
    """The lines of a list with offsets.

    Raises:
        BenchError: it is missing or another list; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise BenchError(
                    f"{path} has no column {lacking[0]}: make the list again: bench offsets --out {path} --overwrite …"
                )
            rows = list(reader)
    except FileNotFoundError:
        raise BenchError(f"{path} is missing: make it: bench offsets --out {path} …") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"{path} cannot be read ({error}): make the list again with bench offsets") from None
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        late = row["video_late"] or ""
        if not row["clip"] or ((late or row["verdict"] == OFF) and not late.lstrip("+-").isdecimal()):
            raise BenchError(
                f"{path}, line {number}: clip {row['clip']!r}, video_late {late!r}: write whole frames"
            )
        if row["clip"] in seen:
            raise BenchError(f"{path}, line {number}: clip {row['clip']} a second time: leave one line of it")
        seen.add(row["clip"])
    return rows
