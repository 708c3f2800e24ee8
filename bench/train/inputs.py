"""The inputs of a training run: checks that its data sets hold what its stages need, and the record of data sets and
assets in ``provenance.json``.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.clips.clip_lists import read_clips
from bench.common import provenance
from bench.common.errors import BenchError
from bench.common.methods import get_method
from bench.train.loading import PARTS, open_part
from bench.weights.digests import file_sha256
from models.base import DataInfo
from prep.commands import prep_command, split_remedy
from prep.dataset import clip_ids
from prep.errors import NoSamples
from prep.index import build_index
from prep.names import composed
from prep.options import suite_version
from prep.pipeline import add_command
from prep.sample_spec import SampleSpec
from prep.sampling import LANDMARKS68
from prep.shards import MANIFEST, SHARDS, made_by, read_manifest, shard_paths, stored_views, write_json

if TYPE_CHECKING:
    from bench.train.config import RunConfig
    from models.base import Stage, Trainable

PROVENANCE = "provenance.json"


def build_method(config: RunConfig, data: DataInfo | None = None) -> Trainable:
    """Build the method of a configuration. The seed determines the initial weights.

    Args:
        config: of the run.
        data: facts about the training data; None: unknown.

    Raises:
        BenchError: its options contradict each other.
    """
    torch.manual_seed(config.runner.seed)
    try:
        return get_method(config.method)(config.method_config, data or DataInfo())
    except ValueError as error:
        raise BenchError(f"{config.method}: {error}") from error


# Data ---------------------------------------------------------------------------------------------------------


def check_folders(config: RunConfig) -> None:
    """Check that the data sets of a run are complete and contain the clips that it trains on.

    Raises:
        BenchError: a data set is not complete or lacks a split; names the ``bench prep`` that fixes it. Or the list of
            clips is not valid, or names clips that are not in the data sets.
        PrepError: a folder is not a data set.
    """
    for folder in config.data:
        manifest = read_manifest(folder)
        if not manifest.get("complete"):
            command = made_by(manifest) if "corrected" in manifest else prep_command(manifest, folder)
            raise BenchError(f"{folder} is not complete; finish it: {command}")
    if config.person is None:
        _check_splits(config.data)
        if config.clips is not None:
            _check_clips(config.data, config.clips, read_clips(config.clips))


def check_samples(
    config: RunConfig, stages: Sequence[Stage], derived: Mapping[str, str] | None = None
) -> None:
    """Check that data sets hold what all stages need, before the first stage is trained.

    Args:
        config: of the run.
        stages: the stages to train.
        derived: derivation → the key of the columns to use.

    Raises:
        BenchError: a data set lacks something; names the ``bench prep`` that fixes it.
        NoSamples: of prep; the clips have no sample for a stage.
        PrepError: a data set is damaged.
    """
    for folder in config.data:
        for stage in stages:
            _check_columns(folder, read_manifest(folder), stage)
    for stage in stages:
        for part in PARTS:
            try:
                open_part(config, part, stage, derived)
            except NoSamples as error:
                if not stage.length or "consecutive" not in str(error):
                    raise
                raise NoSamples(f"{error}; samples are shorter with a smaller {stage.length}") from error
            except ValueError as error:
                raise BenchError(f"stage {stage.name} asks for impossible samples: {error}") from error


def check_view(folder: Path, view: str, whose: str) -> None:
    """Check that a prepared data set holds a view.

    Raises:
        BenchError: it does not; the message contains ``whose`` and the ``bench prep`` that fixes it.
    """
    if view not in stored_views(folder):
        raise BenchError(f"{folder} lacks the view {view}, {whose}; add it: {add_command(folder, [view])}")


def _check_columns(folder: Path, manifest: Mapping[str, Any], stage: Stage) -> None:
    paths = shard_paths(folder)
    if stage.sample.view is not None:
        check_view(folder, stage.sample.view, f"which stage {stage.name} needs")
    texts = isinstance(stage.sample, SampleSpec) and stage.sample.text
    if texts and not any(build_index(paths, [], texts=True).texts):
        raise BenchError(
            f"{folder} has no text of any clip, which stage {stage.name} needs: give data of a corpus with texts "
            "beside its clips (LRS2, LRS3, bench toy); others, such as HDTF, have none"
        )
    if stage.sample.landmarks == LANDMARKS68 and not build_index(paths, []).has_landmarks68.any():
        command = prep_command(manifest, Path(f"{folder}-fan"), fan=True)
        raise BenchError(
            f"{folder} lacks the 68 landmarks that stage {stage.name} needs; prepare them: {command}"
        )


def _check_splits(folders: Sequence[Path]) -> None:
    for split in PARTS:
        if not any(path for folder in folders for path in (folder / SHARDS).glob(f"{split}-*.parquet")):
            first = folders[0]
            there = {path.name.rpartition("-")[0] for path in shard_paths(first)}
            remedy = split_remedy(read_manifest(first), first, there)
            raise BenchError(
                f"{', '.join(map(str, folders))}: no split {split}, which training needs; {remedy}"
            )


def _check_clips(folders: Sequence[Path], clips: Path, listed: Set[str]) -> None:
    """Check that every clip of a list is in exactly one data set."""
    found: dict[str, Path] = {}
    for folder in folders:
        for clip in sorted(set(map(composed, clip_ids(folder))) & listed):
            if clip in found:
                raise BenchError(
                    f"{clips} names {clip}, which is in {found[clip]} and in {folder}: train on one of the two"
                )
            found[clip] = folder
    if unknown := sorted(listed - found.keys()):
        data = " ".join(f"--data {folder}" for folder in folders)
        raise BenchError(
            f"{clips} names clips that are not in {', '.join(map(str, folders))} ({len(unknown):,}, such as "
            f"{unknown[0]}): remove them, or make the list again: bench offsets {data} …"
        )


# The record ---------------------------------------------------------------------------------------------------


def record(
    run: Path, config: RunConfig, digests: Mapping[str, str], changed: Mapping[str, Any] | None = None
) -> None:
    """Write ``provenance.json`` into a run: data sets, weights, and an entry for every start.

    Args:
        run: its folder.
        config: its configuration, whose list of clips is recorded with the number of those to train on.
        digests: what :func:`bench.train.assets.load_assets` returned.
        changed: None: the run begins. Else it is resumed and must use the same data, clips and weights as before; these
            keys of its configuration changed (key → before and now).

    Raises:
        BenchError: a resumed run has other data, clips or weights, or the earlier record is damaged.
    """
    data = [_describe(folder) for folder in config.data]
    clips = None if config.clips is None else _describe_clips(config.clips)
    earlier: dict[str, Any] = {"data": data, "clips": clips, "weights": {}, "starts": []}
    if changed is not None:
        earlier = _read(run)
    for before, now in zip(earlier["data"], data, strict=False):
        if before["manifest_sha256"] not in _manifests(Path(now["path"])):
            raise BenchError(
                f"{now['path']} is not the data set that {run} was begun with ({before['path']}): "
                "give that one with --data, or start a new training with another --run"
            )
    if len(earlier["data"]) != len(data):
        raise BenchError(f"{run} was begun with {len(earlier['data'])} data sets, not {len(data)}")
    _check_same_clips(run, earlier["clips"], clips)
    for name, digest in digests.items():
        if earlier["weights"].get(name, digest) != digest:
            raise BenchError(
                f"{run} was begun with other weights {name} (sha256 {earlier['weights'][name][:12]}, "
                f"now {digest[:12]}): restore those, or start a new training with another --run"
            )
    commit, dirty = provenance.git_state()
    device = "cuda" if config.runner.device != "cpu" and torch.cuda.is_available() else "cpu"
    start = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["bench", *sys.argv[1:]]),
        "suite_version": suite_version(),
        "git_commit": commit,
        "git_dirty": dirty,
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": provenance.packages(),
        "machine": provenance.machine(device),
        "device": device,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "changed": dict(changed or {}),
    }
    weights = {**earlier["weights"], **digests}
    starts = [*earlier["starts"], start]
    write_json(run / PROVENANCE, {"data": data, "clips": clips, "weights": weights, "starts": starts})


def _describe(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    return {
        "path": str(folder),
        "name": manifest.get("options", {}).get("name", folder.name),
        "manifest_sha256": file_sha256(folder / MANIFEST),
    }


def _manifests(data: Path) -> set[str]:
    """SHA-256 of the manifest of a data set, now and before views were added to it that changed nothing else."""
    return {file_sha256(data / MANIFEST), *read_manifest(data).get("earlier", ())}


def _describe_clips(path: Path) -> dict[str, Any]:
    return {"path": str(path), "sha256": file_sha256(path), "clips": len(read_clips(path))}


def _check_same_clips(run: Path, before: dict[str, Any] | None, now: dict[str, Any] | None) -> None:
    def named(clips: dict[str, Any] | None) -> str:
        return "all clips" if clips is None else f"those of {clips['path']} (sha256 {clips['sha256'][:12]})"

    if (before or {}).get("sha256") != (now or {}).get("sha256"):
        raise BenchError(
            f"{run} was begun with {named(before)}, not with {named(now)}: "
            "continue with the list that it had, or start a new training with another --run"
        )


def _read(run: Path) -> dict[str, Any]:
    path = run / PROVENANCE
    try:
        # Records of earlier versions contain no list of clips.
        found = {"clips": None, **json.loads(path.read_text("utf-8"))}
        return {key: found[key] for key in ("data", "clips", "weights", "starts")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} cannot be read ({error}): this run cannot be resumed") from error


def trained_on(run: Path) -> list[str]:
    """Names of the data sets in a run's record; empty without a record (imported weights)."""
    return [data["name"] for data in recorded_data(run)]


def trained_with(run: Path, data: Path) -> bool:
    """Whether a run's record has a data set with the manifest of ``data``; False without a record."""
    manifests = _manifests(data)
    return any(recorded["manifest_sha256"] in manifests for recorded in recorded_data(run))


def recorded_data(run: Path) -> list[dict[str, str]]:
    """The data sets in a run's record, each with ``path``, ``name`` and ``manifest_sha256``; empty without a record.

    Raises:
        BenchError: the record is damaged.
    """
    try:
        record = json.loads((run / PROVENANCE).read_text("utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BenchError(f"{run / PROVENANCE} cannot be read: {error}") from None
    return record["data"]
