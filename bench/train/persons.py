"""Groups clips by speaker, and divides each person's clips into training and held-out clips."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.common.errors import BenchError
from bench.train.run_options import Person
from prep.shards import open_shard, shard_paths
from prep.speakers import speaker_of

#: Number of clips that a person needs: one each for training, validation and test.
FEWEST = 3


@dataclass(frozen=True)
class Persons:
    """The persons in some data sets.

    Attributes:
        found: persons with enough clips, by name.
        skipped: name → why a person cannot be trained.
    """

    found: tuple[Person, ...]
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, order=True)
class _Clip:
    source: str
    start: float
    clip_id: str
    split: str = field(compare=False)


def find_persons(data: Sequence[Path], listed: Collection[str] | None = None) -> Persons:
    """Group the clips of prepared data sets by person, and hold out some clips of each person.

    A person's clips keep the splits of the data set (``pretrain`` counts as ``train``). If a person has no clip in
    ``test``, the last fifth of the training clips is used; if none in ``val``, the tenth before that. Both numbers are
    rounded down, but at least one. Clips are ordered by source and start, so held-out clips are the last in time. If a
    person has no training clips, all clips are divided as if they were training clips.

    Args:
        data: prepared data sets.
        listed: clips that may be trained on; None: all.

    Raises:
        BenchError: a person is in two data sets.
        PrepError: a folder is not a data set.
    """
    clips = _by_speaker(data)
    found, skipped, folders = [], {}, set[str]()
    for speaker in sorted(clips):
        train, val, test = _divide(clips[speaker])
        if not (train and val and test):
            skipped[speaker] = _too_few(clips[speaker])
            continue
        if listed is not None:
            train = [clip for clip in train if clip.clip_id in listed]
        if not train:
            skipped[speaker] = "no training clip is in the list of clips"
            continue
        folder = _folder(speaker, folders)
        folders.add(folder)
        parts = {"train": _ids(train), "val": _ids(val), "test": _ids(test)}
        found.append(Person(speaker=speaker, folder=folder, **parts))
    return Persons(tuple(found), skipped)


def _by_speaker(data: Sequence[Path]) -> dict[str, list[_Clip]]:
    clips: dict[str, list[_Clip]] = defaultdict(list)
    home: dict[str, Path] = {}
    columns = ["clip_id", "speaker", "source", "start", "split"]
    for folder in data:
        for path in shard_paths(folder):
            for row in open_shard(path).read(columns=columns, use_threads=False).to_pylist():
                speaker = speaker_of(row["clip_id"], row.pop("speaker"))
                if home.setdefault(speaker, folder) != folder:
                    raise BenchError(
                        f"{speaker} speaks in {home[speaker]} and in {folder}, which may be two persons: train on "
                        "one of the two data sets"
                    )
                clips[speaker].append(_Clip(**row))
    return clips


def _divide(clips: Iterable[_Clip]) -> tuple[list[_Clip], list[_Clip], list[_Clip]]:
    """Clips for training, validation and test; lists are empty if there are too few clips."""
    ordered = sorted(clips)
    test = [clip for clip in ordered if clip.split == "test"]
    val = [clip for clip in ordered if clip.split == "val"]
    train = [clip for clip in ordered if clip.split not in ("val", "test")]
    if not train:
        train, val, test = ordered, [], []
    n = len(train)
    if not test:
        train, test = _cut(train, n // 5)
    if not val:
        train, val = _cut(train, n // 10)
    return train, val, test


def _too_few(clips: Sequence[_Clip]) -> str:
    if len(clips) < FEWEST:
        return f"clips: {len(clips)}, and {FEWEST} are needed"
    counts = Counter(clip.split for clip in clips)
    splits = ", ".join(f"{split} {count}" for split, count in sorted(counts.items()))
    return f"the clips of its splits ({splits}) leave none to train on"


def _cut(clips: list[_Clip], count: int) -> tuple[list[_Clip], list[_Clip]]:
    """Split off the last ``count`` clips, but at least one."""
    first = max(len(clips) - max(count, 1), 0)
    return clips[:first], clips[first:]


def _ids(clips: Iterable[_Clip]) -> tuple[str, ...]:
    return tuple(clip.clip_id for clip in clips)


def _folder(speaker: str, taken: Collection[str]) -> str:
    """A valid, unique folder name for a speaker."""
    name = re.sub(r"[^\w.-]+", "-", speaker).strip(".-") or "speaker"
    number = 1
    folder = name
    while folder in taken:
        number += 1
        folder = f"{name}-{number}"
    return folder
