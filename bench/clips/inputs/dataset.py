"""Predictions for a prepared data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.clips.inputs.base import Audio, Inputs, Protocol, candidate, check_audio, in_order, scan_all
from bench.clips.inputs.files import some
from bench.clips.job import Job, Take, Voice
from bench.common.errors import BenchError
from prep.errors import PrepError
from prep.names import known
from prep.shards import SHARDS, open_shard, read_manifest

#: The evaluation split of every corpus that has one.
DEFAULT_SPLIT = "test"
#: Why a clip has no true video; one wording for all clips, since reasons are counted.
NO_SOURCE = "the source video is missing: give the folder of the corpus with --root"

#: What `bench generate` writes beside its videos; it says what drove the faces.
GENERATION = "generation.json"

_FPS = 25
_COLUMNS = ("clip_id", "dataset", "source", "start", "stop", "fps", "n_frames", "width", "crop")


def from_dataset(
    predictions: Mapping[str, Path],
    data: Path,
    split: str | None = None,
    root: Path | None = None,
    *,
    protocol: Protocol | None = None,
    audio: Audio = "prediction",
) -> Inputs:
    """Take a split of a prepared data set for the truth.

    The true frames come from the source videos, cut as preparation cut them; landmarks and sound come from the
    shards. Predictions are called ``<clip_id>.mp4`` below their folder, or as the last part of the id where that is
    enough to tell them apart.

    Args:
        predictions: method → folder.
        data: what ``bench prep --out`` wrote.
        split: one of its splits; where None, ``test``, or the only one there is.
        root: where the source videos lie now; where None, where they lay at preparation.
        protocol: what drove the faces; where None, what the ``generation.json`` of the predictions says, and
            reconstruction where there is none.
        audio: whose sound is heard with the predictions.

    Raises:
        BenchError: predictions of different protocols, or the data set is not complete, holds stills, has no source
            video at its place, several splits and none of them ``test``, or no clip that a method has predicted.
        PrepError: it is no data set, has no such split, or a folder cannot be read.
    """
    protocol = protocol or _declared(predictions)
    check_audio(audio, protocol)
    manifest = read_manifest(data)
    if manifest.get("complete") is not True:
        raise BenchError(
            f"{data} is not complete: run the same `bench prep` again, it goes on where it stopped"
        )
    shards = [entry for entry in manifest.get("shards") or () if entry["clips"]]
    split = _split(data, split, sorted({entry["split"] for entry in shards}))
    paths = [data.absolute() / SHARDS / entry["name"] for entry in shards if entry["split"] == split]
    rows = list(_rows(paths))
    if any(row["fps"] == 0 for _, _, row in rows):
        raise BenchError(f"{data} holds still pictures in split {split!r}: only videos can be scored")
    folder = Path(root or manifest.get("root") or "").absolute()
    missing = _missing_sources(folder, sorted({row["source"] for _, _, row in rows}))
    videos = scan_all(predictions)
    clips = [row["clip_id"] for _, _, row in rows]
    found = {method: there.match(clips) for method, there in videos.items()}
    for method, there in videos.items():
        if not found[method]:
            raise BenchError(
                f"no video in {there.path} ({there.examples()}) is called as a clip in split {split!r} of {data} "
                f"({some(clips)})"
            )
    jobs, voices, problems = [], {}, {}
    for path, row_group, row in rows:
        clip = row["clip_id"]
        voice = voices[clip] = Voice(path, row_group=row_group)
        problem = NO_SOURCE if row["source"] in missing else ""
        if problem:
            problems[clip] = problem
        candidates = tuple(
            candidate(
                method,
                there.file(found[method][clip]) if clip in found[method] else None,
                audio,
                voice,
                problem,
            )
            for method, there in videos.items()
        )
        truth = None if problem else _take(folder, row)
        jobs.append(Job(clip, truth, row["n_frames"], (path, row_group), candidates))
    return Inputs(
        name=rows[0][2]["dataset"],
        kind="dataset",
        split=split,
        protocol=protocol,
        jobs=in_order(jobs),
        manifest_sha256=_digest(manifest),
        unmatched=[line for m, there in videos.items() for line in there.unmatched(m, found[m].values())],
        sources={method: str(path) for method, path in predictions.items()},
        voices=voices if protocol == "reconstruction" else {},
        problems=problems,
    )


def _declared(predictions: Mapping[str, Path]) -> Protocol:
    """What drove the faces, as the folders themselves say."""
    said: dict[Protocol, str] = {}
    for method, folder in predictions.items():
        path = folder / GENERATION
        if not path.is_file():
            continue
        try:
            protocol = json.loads(path.read_text("utf-8"))["protocol"]
        except (OSError, ValueError, KeyError, TypeError):
            protocol = None
        if protocol not in ("reconstruction", "dubbing"):
            raise BenchError(f"{path} does not say the protocol: make the videos anew with `bench generate`")
        said[protocol] = method
    if len(said) > 1:
        raise BenchError(
            f"{said['dubbing']} was dubbed and {said['reconstruction']} reconstructed: score them apart"
        )
    return next(iter(said), "reconstruction")


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


def _rows(paths: Sequence[Path]) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Shard, row group and scalars of every clip; a hundred times as fast as reading whole clips."""
    for path in paths:
        file = open_shard(path)
        if file.num_row_groups != file.metadata.num_rows:
            raise PrepError(
                f"{path} was rewritten: it has not one row group a clip; make it again with `bench prep`"
            )
        for number, row in enumerate(file.read(columns=list(_COLUMNS), use_threads=False).to_pylist()):
            yield path, number, row


def _take(root: Path, row: Mapping[str, Any]) -> Take:
    """The frames that preparation saw."""
    crop = tuple(row["crop"]) if row["crop"] else None
    # Only a crop is ever resized, and to a square.
    size = row["width"] if crop and crop[2] != row["width"] else None
    return Take(
        root / row["source"], round(row["start"] * _FPS), round(row["stop"] * _FPS), crop=crop, size=size
    )


def _missing_sources(root: Path, sources: Sequence[str]) -> set[str]:
    missing = {source for source in sources if not (root / source).is_file()}
    if len(missing) == len(sources):
        raise BenchError(
            f"{root} holds none of the source videos ({some(sources)}): give the folder of the corpus with --root"
        )
    return missing


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without the place of the media, which is another one in every laboratory."""
    rest = {name: value for name, value in manifest.items() if name != "root"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
