"""The facts about the training data that a method gets when it is built, and their copy in the run."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.common.errors import BenchError
from bench.train.inputs import check_view
from models.base import DataInfo
from prep import images
from prep.dataset import split_shards
from prep.shards import AtomicFile, open_shard, read_clip, write_json
from prep.speakers import speaker_of

DATA = "data.json"
BACKGROUND = "background.png"
#: Largest number of frames for the median that gives the background.
FRAMES = 64

_COLUMNS = ("clip_id", "n_frames", "dataset", "speaker")


def gather(
    data: Sequence[Path],
    splits: Sequence[str],
    clips: Collection[str] | None = None,
    background: str | None = None,
) -> DataInfo:
    """Collect the facts about the training data that a method gets.

    Args:
        data: prepared data sets.
        splits: the splits to train on.
        clips: ids of the clips to train on; None: all of the splits.
        background: the view for the background: the median over up to :data:`FRAMES` frames with a face, evenly spaced
            over all training clips in the order of the shards. None: no background.

    Returns:
        Counts over the clips to train on, the size of their frames if it is the same for all, and the background.
        Identities are counted as :func:`prep.index.identities` numbers them.

    Raises:
        BenchError: the data lacks that view, or an image is damaged.
        PrepError: a folder is not a data set, or none has such a split.
    """
    paths = split_shards(data, splits)
    rows = clip_rows(paths, clips, ["width", "height", *(["detected"] if background is not None else [])])
    identities = {(row["dataset"], row["person"]) for row in rows}
    sizes = {(row["width"], row["height"]) for row in rows}
    width, height = sizes.pop() if len(sizes) == 1 else (None, None)
    picture = None
    if background is not None:
        for folder in sorted({path.parent.parent for path in paths}):
            check_view(folder, background, "which the method needs for the median of its training frames")
        picture = _median(
            [(row["path"], row["row"], t) for row in rows for t, seen in enumerate(row["detected"]) if seen],
            background,
        )
    return DataInfo(
        clips=len(rows),
        frames=sum(row["n_frames"] for row in rows),
        width=width,
        height=height,
        identities=len(identities),
        background=picture,
    )


def clip_rows(
    paths: Sequence[Path], clips: Collection[str] | None = None, columns: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The small columns of clips, in the order of the shards.

    Args:
        paths: shards.
        clips: ids of the clips; None: all.
        columns: further columns.

    Returns:
        For each clip ``clip_id``, ``n_frames``, ``dataset``, ``speaker``, ``person`` (who speaks within the corpus, see
        :func:`prep.speakers.speaker_of`), ``path`` and ``row`` of the shard, and the columns asked for.

    Raises:
        PrepError: a file is not a shard.
    """
    rows = []
    for path in paths:
        table = open_shard(path).read(columns=[*_COLUMNS, *columns], use_threads=False)
        for number, row in enumerate(table.to_pylist()):
            if clips is None or row["clip_id"] in clips:
                person = speaker_of(row["clip_id"], row["speaker"])
                rows.append({**row, "person": person, "path": path, "row": number})
    return rows


def save_info(run: Path, info: DataInfo) -> None:
    """Write ``data.json`` and, if there is a background, ``background.png`` into a run, atomically."""
    if info.background is not None:
        with AtomicFile(run / BACKGROUND) as sink:
            sink.write(images.encode(info.background, "png"))
            sink.commit()
    write_json(
        run / DATA,
        {
            "clips": info.clips,
            "frames": info.frames,
            "width": info.width,
            "height": info.height,
            "identities": info.identities,
            "background": BACKGROUND if info.background is not None else None,
        },
    )


def load_info(run: Path) -> DataInfo:
    """What :func:`save_info` wrote. It is empty for imported weights and for runs of earlier versions.

    Raises:
        BenchError: a file is damaged.
    """
    path = run / DATA
    try:
        stored = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return DataInfo()
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path} cannot be read ({error}): it belongs to the run, restore it or train again"
        ) from None
    try:
        name = stored.pop("background")
        return DataInfo(**stored, background=None if name is None else _read_picture(run / name))
    except (AttributeError, KeyError, TypeError) as error:
        raise BenchError(
            f"{path} does not describe the training data ({error}): it belongs to the run, restore it or train again"
        ) from None


def _read_picture(path: Path) -> np.ndarray:
    try:
        return images.decode(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read ({error}): it belongs to the run, restore it") from None


def _median(places: Sequence[tuple[Path, int, int]], view: str) -> np.ndarray | None:
    """The median, (H, W, 3) uint8 RGB, of frames (shard, row, frame of the clip) in order; None without frames."""
    if not places:
        return None
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), FRAMES)).round().astype(int))
    pictures = []
    for path, row, frame in (places[i] for i in chosen.tolist()):
        encoded = read_clip(open_shard(path), row, [view]).images[view][frame]
        try:
            pictures.append(images.decode(encoded or b""))
        except ValueError as error:
            folder = path.parent.parent
            raise BenchError(
                f"{path}, row {row}, frame {frame}: {error}; check it: bench inspect {folder} --verify"
            ) from None
    return np.median(np.stack(pictures), axis=0).round().astype(np.uint8)
