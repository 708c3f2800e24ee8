"""Tells weights that were trained on the toy corpus alone, and that corpus' own videos."""

from __future__ import annotations

from pathlib import Path

from bench.train.inputs import recorded_data
from prep.errors import PrepError
from prep.shards import read_manifest

#: The file that ``bench toy`` writes into its corpus, and the name that ``bench demo`` gives the data set.
_MARK, _NAME = "toy.json", "toy"


def is_toy(run: Path) -> bool:
    """Whether all data sets of a run, by its record, are of the toy corpus; False without a record."""
    data = recorded_data(run)
    return bool(data) and all(one["name"] == _NAME or _of_toy(Path(one["path"])) for one in data)


def from_toy(video: Path) -> bool:
    """Whether a video lies in a folder that ``bench toy`` wrote."""
    return any((folder / _MARK).is_file() for folder in video.resolve().parents)


def _of_toy(data: Path) -> bool:
    try:
        return (Path(read_manifest(data).get("root") or "nowhere") / _MARK).is_file()
    except PrepError:  # the data set is not here
        return False
