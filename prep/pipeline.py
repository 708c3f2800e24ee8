"""Preparing a data set: one task per shard, planned before the start, resumable at any time."""

from __future__ import annotations

import errno
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prep.alone import try_alone
from prep.detectors import recorded, require
from prep.errors import PrepError
from prep.locks import exclusive
from prep.options import PrepOptions, difference, fingerprint, suite_version
from prep.schema import Clip, make_schema
from prep.shard_tasks import PrepProgress, ShardTask, compute, send_progress
from prep.shards import (
    MANIFEST,
    SHARDS,
    Failure,
    ShardInfo,
    ShardWriter,
    describe,
    made_by,
    read_manifest,
    shard_failures,
    write_failures,
    write_json,
)
from prep.sources.base import ClipRef


@dataclass(frozen=True)
class ShardPlan:
    """The clips of a shard; they depend on the sorted ids only."""

    name: str
    split: str
    refs: tuple[ClipRef, ...]


def select(refs: Sequence[ClipRef], limit: int | None) -> list[ClipRef]:
    """Sort by id, and keep at most ``limit`` clips of each split.

    Raises:
        PrepError: an id occurs twice, or there are no clips.
    """
    chosen: list[ClipRef] = []
    taken: dict[str, int] = {}
    previous = ""
    for ref in sorted(refs, key=lambda ref: ref.clip_id):
        if ref.clip_id == previous:
            raise PrepError(f"two clips are called {ref.clip_id!r} ({ref.source}): rename one of the files")
        previous = ref.clip_id
        if limit is None or taken.setdefault(ref.split, 0) < limit:
            taken[ref.split] = taken.get(ref.split, 0) + 1
            chosen.append(ref)
    if not chosen:
        raise PrepError("no clips found: check the root folder and --split")
    return chosen


def plan_shards(refs: Sequence[ClipRef], clips_per_shard: int | None = None) -> list[ShardPlan]:
    """Distribute sorted clips to shards, split by split.

    The default size depends on the number of clips, never on the number of workers: about 64 shards per split, of 2 to
    256 clips each.
    """
    by_split: dict[str, list[ClipRef]] = {}
    for ref in refs:
        by_split.setdefault(ref.split, []).append(ref)
    plans = []
    for split, members in sorted(by_split.items()):
        size = clips_per_shard or min(max(-(-len(members) // 64), 2), 256)
        for i in range(0, len(members), size):
            plans.append(ShardPlan(f"{split}-{i // size:05d}.parquet", split, tuple(members[i : i + size])))
    return plans


def prepare(
    refs: Sequence[ClipRef],
    root: Path,
    out: Path,
    options: PrepOptions,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    report: Path | None = None,
    listing: Mapping[str, Any] | None = None,
    on_progress: Callable[[PrepProgress], None] | None = None,
) -> dict[str, Any]:
    """Write the data set ``out`` from clips that :func:`select` returned; continues an interrupted run.

    Args:
        refs: selected clips.
        root: the corpus; every worker must have it at this path.
        out: folder to write; every worker must have it at this path.
        options: what to store.
        workers: local worker processes, one thread each; None: the number of cores.
        scheduler: address of a running Dask scheduler to use instead of a local cluster.
        report: path of Dask's performance report, HTML.
        listing: how the clips were found (:class:`prep.sources.gather.Gathered`), for the manifest.
        on_progress: called in this process for every message.

    Returns:
        The manifest, as written.

    Raises:
        PrepError: the folder holds another preparation, is in use, cannot be written, or a shard cannot be finished.
    """
    plans = plan_shards(refs, options.clips_per_shard)
    stamp = fingerprint(options, refs)
    notify = on_progress or (lambda progress: None)
    try:
        if not (out / SHARDS).is_dir():
            require(options.detector, options.device)  # No folder is left where it is missing.
        (out / SHARDS).mkdir(parents=True, exist_ok=True)
        with exclusive(out, "bench prep"):
            _refuse_other(out, stamp, plans)
            sweep(out)
            manifest = {
                "root": str(root.resolve()),
                "suite": suite_version(),
                "options": stamp,
                "complete": False,
                "listing": dict(listing or {}),
            }
            done = {plan.name: plan for plan in plans if (out / SHARDS / plan.name).is_file()}
            pending = [plan for plan in plans if plan.name not in done]
            infos = {name: describe(out / SHARDS / name, plan.split) for name, plan in done.items()}
            infos, history = _history(out, infos)
            for info in infos.values():
                notify(PrepProgress(info.clips, info.frames, info.failures, 1))
            if pending:
                require(options.detector, options.device)
                write_json(out / MANIFEST, manifest)
                tasks = []
                for plan in pending:
                    run = partial(make_shard, plan, root, out, options, provenance(options))
                    tasks.append(ShardTask(plan.name, len(plan.refs), run, partial(run, isolate=True)))
                for info in compute(tasks, workers, scheduler, report, notify):
                    infos[info.name] = info
            else:
                # The folder stays as it is, although other files may have come to the corpus.
                manifest |= history
            return finish(out, manifest, [infos[plan.name] for plan in plans])
    except OSError as error:
        raise PrepError(os_error(error, out)) from error


def make_shard(
    plan: ShardPlan,
    root: Path,
    out: Path,
    options: PrepOptions,
    metadata: dict[str, str],
    isolate: bool = False,
) -> ShardInfo:
    """Write one shard: the Dask task.

    With ``isolate``, every clip is first tried in a separate process. A clip that crashes this process (such as a
    damaged file that crashes the decoder) becomes a failure row and does not affect the others.
    """
    processor = _processor(root, options)
    schema = make_schema(options.views, metadata)
    with ShardWriter(out / SHARDS / plan.name, schema) as writer:
        for ref in plan.refs:
            crash = try_alone(ref, root, options) if isolate else None
            results: Iterator[Clip | Failure] = iter([crash]) if crash else processor.process(ref)
            clips = frames = failures = 0
            for result in results:
                if isinstance(result, Failure):
                    writer.fail(result)
                    failures += 1
                else:
                    writer.add(result)
                    clips += 1
                    frames += result.n_frames
            send_progress(plan.name, PrepProgress(clips, frames, failures))
        return writer.finish(plan.split)


_processors: dict[tuple[Path, PrepOptions], Any] = {}


def _processor(root: Path, options: PrepOptions) -> Any:
    """The clip processor of this process, created once: creating its detectors takes longer than processing a
    clip."""
    from prep.clip import ClipProcessor

    key = (root, options)
    if key not in _processors:
        import cv2

        cv2.setNumThreads(1)
        _processors.clear()
        _processors[key] = ClipProcessor(root, options)
    return _processors[key]


def provenance(options: PrepOptions) -> dict[str, str]:
    """The metadata of a shard that say how it was made."""
    from prep.views import VIEWS

    return {
        "suite_version": suite_version(),
        "options": json.dumps({**asdict(options), "views": list(options.views)}, sort_keys=True),
        "view_geometry": json.dumps({name: VIEWS[name].summary for name in options.views}, sort_keys=True),
    }


def _refuse_other(out: Path, stamp: dict[str, Any], plans: list[ShardPlan]) -> None:
    there = sorted(path.name for path in (out / SHARDS).glob("[!.]*.parquet"))
    if not there:
        return
    if not (out / MANIFEST).is_file():
        raise PrepError(
            f"{out / SHARDS / there[0]} exists without a {MANIFEST}: use another --out, or delete it"
        )
    manifest = read_manifest(out)
    if "corrected" in manifest:
        raise PrepError(f"{out} was written by {made_by(manifest)}, which shifted sound: use another --out")
    if adding := manifest.get("adding"):
        raise PrepError(
            f"the views {', '.join(adding)} are being added to {out}: finish that first: {add_command(out, adding)}"
        )
    before = manifest["options"]
    changed = difference(before, stamp)
    if changed:
        remedy = "use another --out, or delete the folder"
        mine = recorded(before)["name"]
        if not difference(before, {**stamp, "views": before["views"]}):
            more = [view for view in stamp["views"] if view not in before["views"]]
            remedy = (
                f"add those: {add_command(out, more)}"
                if more
                else f"it has these and more: {_views_option(before)}"
            )
        elif changed == f"detector was {mine}, is now {stamp['detector']}":
            remedy = f"go on with --detector {mine}, or use another --out"
        raise PrepError(f"{out} was prepared differently ({changed}): {remedy}")
    extra = set(there) - {plan.name for plan in plans}
    if extra:
        raise PrepError(
            f"{out / SHARDS / min(extra)} is not a shard of this data set: move it out of the folder"
        )


def add_command(data: Path, views: Sequence[str]) -> str:
    """The command that adds views to a data set."""
    return shlex.join(["bench", "prep", "--out", str(data), "--add-view", ",".join(views)])


def _views_option(options: dict[str, Any]) -> str:
    return f"--views {','.join(options['views'])}"


def _history(out: Path, infos: dict[str, ShardInfo]) -> tuple[dict[str, ShardInfo], dict[str, Any]]:
    """Shards as the manifest knows them, and what it says about views that were added (:mod:`prep.adding`)."""
    if not infos:
        return infos, {}
    manifest = read_manifest(out)
    known = {entry["sha256"]: ShardInfo.from_entry(entry) for entry in manifest.get("shards", ())}
    found = {name: known.get(info.sha256, info) for name, info in infos.items()}
    return found, {key: manifest[key] for key in ("added", "earlier", "listing") if key in manifest}


def sweep(out: Path) -> None:
    """Remove incomplete files of a killed run, or of a killed worker of this run."""
    for folder in (out, out / SHARDS):
        for stale in folder.glob(".*.tmp"):
            stale.unlink(missing_ok=True)


def finish(out: Path, manifest: dict[str, Any], infos: list[ShardInfo]) -> dict[str, Any]:
    """Write the failures and the manifest of a complete data set; returns the manifest."""
    sweep(out)
    failures = [f for info in infos for f in shard_failures(out / SHARDS / info.name)]
    write_failures(out, failures)
    splits: dict[str, dict[str, int]] = {}
    for info in infos:
        counts = splits.setdefault(info.split, {"clips": 0, "frames": 0, "failures": 0})
        counts["clips"] += info.clips
        counts["frames"] += info.frames
        counts["failures"] += info.failures
    manifest = {**manifest, "complete": True, "splits": splits, "shards": [info.entry() for info in infos]}
    write_json(out / MANIFEST, manifest)
    return manifest


def os_error(error: OSError, out: Path) -> str:
    """One line about an error of the file system while ``out`` was written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {out} is full: free some space and run the same command again, it continues from there"
    return f"{error.filename or out}: {error.strerror or error}"
