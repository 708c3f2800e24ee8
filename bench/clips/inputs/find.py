"""From the arguments of the user (folders, a data set, a list) to the inputs of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.clips.clip_lists import read_clips
from bench.clips.inputs.base import Audio, Inputs
from bench.clips.inputs.dataset import from_dataset
from bench.clips.inputs.folders import from_folders
from bench.clips.inputs.pairs import from_pairs
from bench.clips.inputs.rows import with_trivial as add_trivial
from bench.clips.job import TRIVIAL
from bench.common.errors import BenchError


def find_methods(words: Sequence[str], name: str | None = None) -> dict[str, Path]:
    """Method → folder or video.

    Args:
        words: each PATH or NAME=PATH; a folder alone gives its own name, a video its name without suffix.
        name: of a single PATH.

    Raises:
        BenchError: a name is used twice or is that of a trivial row, there is no such folder or file, or ``name`` is
            given with more than one.
    """
    if name is not None and (len(words) != 1 or ("=" in words[0] and not Path(words[0]).exists())):
        raise BenchError("--method-name works with a single folder only: write NAME=FOLDER for each instead")
    found: dict[str, Path] = {}
    for word in words:
        if not word.strip():
            raise BenchError("an empty name where a folder of videos should be: write PATH or NAME=PATH")
        whole = name is not None or Path(word).exists()
        label, equals, folder = ("", "", "") if whole else word.partition("=")
        path = Path(folder if equals else word)
        if not equals:
            label = (path.stem if path.is_file() else path.resolve().name) if name is None else name
        if label in found or label in TRIVIAL or not label:
            raise BenchError(f"{word}: the name {label!r} is taken; give another as NAME=FOLDER")
        if not path.exists():
            raise BenchError(f"there is no folder or video {path}")
        found[label] = path
    return found


def find_inputs(
    predictions: Mapping[str, Path],
    *,
    data: Path | None = None,
    truth: Path | None = None,
    pairs: Path | None = None,
    split: str | None = None,
    clips: Path | None = None,
    root: Path | None = None,
    audio: Audio = "prediction",
    limit: int | None = None,
    with_trivial: bool = False,
    seed: int = 0,
) -> Inputs:
    """What is scored against what, from a data set, a folder or a list; see :func:`bench.eval.evaluate`.

    Args:
        predictions: method → folder of its videos, or one video.
        data: prepared data set that holds the truth.
        truth: folder of true videos, one true video, or folder of the files of ``pairs``.
        pairs: list of pairs.
        split: of the data set.
        clips: list of clips (:func:`bench.clips.clip_lists.read_clips`) of the data set.
        root: folder of the data set's source videos.
        audio: which sound lip-sync metrics use.
        limit: score only this many clips, the first ones; None: all.
        with_trivial: add the rows that are made from the truth.
        seed: of the choice of wrong audio.

    Raises:
        BenchError: there is nothing to score or to compare with, or the arguments contradict each other.
        PrepError: a folder or data set cannot be read.
    """
    if data is not None and truth is not None:
        raise BenchError("give either --data or --truth, not both")
    if not predictions and not with_trivial:
        raise BenchError("nothing to score: name a folder of predictions, or use --with-trivial")
    if clips is not None and (data is None or pairs is not None):
        raise BenchError("--clips names clips of a data set: give --data, and no --pairs")
    listed = None if clips is None else read_clips(clips)
    if pairs is not None:
        found = from_pairs(predictions, pairs, truth, audio=audio)
    elif data is not None:
        found = from_dataset(predictions, data, split, root, clips=listed, clips_file=clips, audio=audio)
    elif truth is not None or predictions:
        found = from_folders(predictions, truth, audio=audio)
    else:
        raise BenchError("nothing to compare with: give --data or --truth")
    if limit is not None:
        found = replace(found, jobs=found.jobs[:limit])
    return add_trivial(found, TRIVIAL, seed) if with_trivial else found
