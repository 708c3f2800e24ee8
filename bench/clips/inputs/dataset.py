"""Predictions for a prepared data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.clips.inputs.base import (
    Audio,
    Inputs,
    Protocol,
    candidate,
    check_audio,
    counted,
    in_order,
    left_over,
    scan_all,
)
from bench.clips.inputs.declared import GENERATION, declared_clips, declared_protocol, in_view, read_declared
from bench.clips.inputs.files import some
from bench.clips.job import Job, Take, Voice
from bench.common.errors import BenchError
from prep.detectors import recorded
from prep.errors import PrepError
from prep.names import composed, known
from prep.pixels import Pixels
from prep.shards import SHARDS, made_by, open_shard, read_manifest
from prep.sources.listing import RealNames

#: The evaluation split of every corpus that has one.
DEFAULT_SPLIT = "test"
#: Why a clip has no true video. The same text for all clips, since reasons are counted.
NO_SOURCE = "the source video is missing: give the folder of the corpus with --root"

_FPS = 25
#: Columns that sets of schema 1 do not have.
_TAGS = ("matrix", "matrix_tagged")
_COLUMNS = ("clip_id", "dataset", "split", "source", "start", "stop", "fps", "n_frames", "width", "crop")


def from_dataset(
    predictions: Mapping[str, Path],
    data: Path,
    split: str | None = None,
    root: Path | None = None,
    *,
    clips: Collection[str] | None = None,
    clips_file: Path | None = None,
    protocol: Protocol | None = None,
    audio: Audio = "prediction",
) -> Inputs:
    """Use a split of a prepared data set as the truth.

    The true frames come from the source videos, cropped as in preparation; landmarks and sound come from the shards.
    The path of a prediction below its folder is ``<clip_id>.mp4``, or just the last part of the id if that is unique.

    Args:
        predictions: method → folder, or one video.
        data: what ``bench prep --out`` wrote.
        split: one of its splits. None: the splits that contain ``clips``; without ``clips``, ``test`` or the only
            split.
        root: folder of the source videos. None: the folder recorded at preparation.
        clips: ids of the clips to score. None: those that the ``generation.json`` of the predictions lists, if no split
            is named; without such a list, all clips of the split.
        clips_file: the file that ``clips`` were read from, for messages.
        protocol: what drove the faces. None: as in the ``generation.json`` of the predictions, or reconstruction if
            there is none.
        audio: which sound belongs to the predicted frames.

    Raises:
        BenchError: the predictions have different protocols, views or lists of clips; or the data set is not complete,
            lacks a listed clip, holds stills, has no source videos in its folder, has several splits and none is
            ``test``, or has no clip that a method has predicted.
        PrepError: ``data`` is not a data set, has no such split, or a folder cannot be read.
    """
    declared = read_declared(predictions)
    protocol = protocol or declared_protocol(declared)
    check_audio(audio, protocol)
    manifest = read_manifest(data)
    if manifest.get("complete") is not True:
        raise BenchError(
            f"{data} is not complete: run the same {made_by(manifest)} again, it continues where it stopped"
        )
    shards = [entry for entry in manifest.get("shards") or () if entry["clips"]]
    if clips is None and split is None:
        clips = declared_clips(declared)
        clips_file = next((record.path for record in declared.values() if record.clips is not None), None)
    there = sorted({entry["split"] for entry in shards})
    splits = there if clips is not None and split is None and there else [_split(data, split, there)]
    paths = [data.absolute() / SHARDS / entry["name"] for entry in shards if entry["split"] in splits]
    rows = list(_rows(paths))
    if clips is not None:
        rows = _listed(rows, clips, data, split, clips_file)
    split = ", ".join(sorted({row["split"] for _, _, row in rows}))
    if any(row["fps"] == 0 for _, _, row in rows):
        raise BenchError(f"{data} holds still pictures in split {split!r}: only videos can be scored")
    pixels = pixels_of(manifest)
    media = Path(root or manifest.get("root") or "").absolute()
    names = {row["source"] for _, _, row in rows}
    sources = _find_sources(media, names)
    if not sources:
        raise BenchError(
            f"{media} holds none of the source videos ({some(names)}): give the folder of the corpus with --root"
        )
    videos = scan_all(predictions)
    ids = [row["clip_id"] for _, _, row in rows]
    found = {method: folder.match(ids) for method, folder in videos.items()}
    for method, folder in videos.items():
        if not found[method]:
            raise BenchError(
                f"no video in {folder.given} ({folder.examples()}) has the name of a clip in split {split!r} of {data} "
                f"({some(ids)})"
            )
    jobs, voices, problems = [], {}, {}
    for path, row_group, row in rows:
        clip = row["clip_id"]
        voice = voices[clip] = Voice(path, row_group=row_group)
        problem = "" if row["source"] in sources else NO_SOURCE
        if problem:
            problems[clip] = problem
        candidates = tuple(
            candidate(
                method,
                folder.file(found[method][clip]) if clip in found[method] else None,
                audio,
                voice,
                problem,
            )
            for method, folder in videos.items()
        )
        truth = None if problem else _take(sources[row["source"]], row, pixels)
        tag = None if "matrix" not in row else row["matrix"] if row["matrix_tagged"] else ""
        jobs.append(Job(clip, truth, row["n_frames"], (path, row_group), candidates, matrix=tag))
    inputs = Inputs(
        name=rows[0][2]["dataset"],
        kind="dataset",
        split=split,
        protocol=protocol,
        jobs=in_order(jobs),
        manifest_sha256=_digest(manifest),
        unmatched=left_over(videos, {method: names.values() for method, names in found.items()}),
        videos=counted(videos),
        sources={method: str(path) for method, path in predictions.items()},
        voices=voices if protocol == "reconstruction" else {},
        problems=problems,
        pixels=pixels,
        detector=recorded(manifest.get("options", {})),
    )
    return in_view(inputs, declared)


def clip_jobs(data: Path, root: Path | None = None) -> list[Job]:
    """Every clip and still of a prepared data set, of all splits, with its true video and without candidates.

    Args:
        data: what ``bench prep --out`` wrote.
        root: folder of the source videos. None: the folder recorded at preparation.

    Returns:
        Jobs in the order of the shards; ``truth`` is None if the source file is missing.

    Raises:
        PrepError: ``data`` is not a data set.
    """
    manifest = read_manifest(data)
    media = Path(root or manifest.get("root") or "").absolute()
    paths = [data.absolute() / SHARDS / entry["name"] for entry in manifest["shards"] if entry["clips"]]
    rows = list(_rows(paths))
    sources, pixels = _find_sources(media, {row["source"] for _, _, row in rows}), pixels_of(manifest)
    return [
        Job(
            row["clip_id"],
            _take(sources[row["source"]], row, pixels) if row["source"] in sources else None,
            row["n_frames"],
            (path, row_group),
        )
        for path, row_group, row in rows
    ]


def _split(data: Path, wanted: str | None, there: Sequence[str]) -> str:
    if not there:
        raise BenchError(f"{data} has no clips: see its failures with `bench inspect`")
    if wanted is not None:
        return known("split", [wanted], there)[0]
    if DEFAULT_SPLIT in there:
        return DEFAULT_SPLIT
    if len(there) > 1:
        raise BenchError(f"{data} has the splits {', '.join(there)}: choose one with --split")
    return there[0]


def _listed(
    rows: Sequence[tuple[Path, int, dict[str, Any]]],
    clips: Collection[str],
    data: Path,
    split: str | None,
    file: Path | None,
) -> list[tuple[Path, int, dict[str, Any]]]:
    """The rows of the named clips. All of them must exist."""
    wanted = {composed(clip) for clip in clips}
    if not wanted:
        raise BenchError("the list of clips to score is empty: name some")
    found = [row for row in rows if composed(row[2]["clip_id"]) in wanted]
    absent = wanted - {composed(row["clip_id"]) for _, _, row in found}
    if absent:
        where = data if split is None else f"split {split!r} of {data}"
        remedy = "take them out" if split is None else "take them out, or name another --split"
        if file is not None and file.name == GENERATION:
            remedy = "give the --data that the videos were made from, or name the clips to score with --clips"
        raise BenchError(
            f"{file or 'the list of clips'} names clips that are not in {where} ({some(absent)}): {remedy}"
        )
    return found


def _rows(paths: Sequence[Path]) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Shard, row group and scalar columns of every clip: a hundred times faster than reading whole clips."""
    for path in paths:
        file = open_shard(path)
        if file.num_row_groups != file.metadata.num_rows:
            raise PrepError(
                f"{path} was rewritten: it does not have one row group per clip; make it again with `bench prep`"
            )
        there = set(file.schema_arrow.names)
        columns = [*_COLUMNS, *(name for name in _TAGS if name in there)]
        for number, row in enumerate(file.read(columns=columns, use_threads=False).to_pylist()):
            yield path, number, row


def pixels_of(manifest: Mapping[str, Any]) -> Pixels:
    """How the colours of a data set were decoded; ``exact`` comes nearest to sets that do not say it."""
    pixels: Pixels = manifest.get("options", {}).get("pixels", "exact")
    return pixels


def _take(source: Path, row: Mapping[str, Any], pixels: Pixels) -> Take:
    """The frames that preparation saw."""
    crop = tuple(row["crop"]) if row["crop"] else None
    # Only a crop is ever resized, and to a square.
    size = row["width"] if crop and crop[2] != row["width"] else None
    return Take(
        source,
        round(row["start"] * _FPS),
        round(row["stop"] * _FPS),
        crop=crop,
        size=size,
        pixels=pixels,
    )


def _find_sources(root: Path, names: Collection[str]) -> dict[str, Path]:
    """Where the source videos are; those that are missing are left out."""
    real = RealNames(root)
    found = {}
    for name in sorted(names):
        # A copy of the corpus may compose the letters of its names in another way.
        path = root / name if (root / name).is_file() else root / (real.find(name) or name)
        if path.is_file():
            found[name] = path
    return found


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without the path of the media, which differs between machines."""
    rest = {name: value for name, value in manifest.items() if name != "root"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
