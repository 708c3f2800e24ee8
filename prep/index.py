"""The index of a training set's clips: built once, from the small columns and footers of the shards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from prep.errors import PrepError
from prep.names import composed
from prep.schema import N_MELS, schema_views
from prep.shards import open_shard
from prep.speakers import speaker_of

_LIGHT = ("clip_id", "dataset", "speaker", "n_frames", "width", "height", "detected")


@dataclass(frozen=True)
class ClipIndex:
    """Clips of some shards, in order: n clips with F frames in total.

    Attributes:
        paths: the shards.
        clip_ids: n names.
        shard: (n,) int32, position in ``paths``.
        first: (n + 1,) int64; the frames of clip i are ``first[i]:first[i + 1]`` among all F.
        detected: (F,) bool, a face was found.
        sizes: (n, 2) int32, width and height of the frame in pixels.
        mel_columns: (n,) int32, 0 without sound.
        has_landmarks68: (n,) bool.
        chunks: column → (n, 2) int64, first byte and number of bytes in the shard.
        speakers: n pairs of corpus and speaker; the speaker is ``""`` if the corpus does not give it.
        texts: n texts, ``""`` if the corpus does not give one; empty if they were not asked for.
    """

    paths: list[Path]
    clip_ids: list[str]
    shard: np.ndarray
    first: np.ndarray
    detected: np.ndarray
    sizes: np.ndarray
    mel_columns: np.ndarray
    has_landmarks68: np.ndarray
    chunks: dict[str, np.ndarray]
    speakers: list[tuple[str, str]]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def span(self, clip: int) -> slice:
        """The slice of the clip's frames among all F."""
        return slice(self.first[clip], self.first[clip + 1])

    def detected_in(self, clip: int) -> np.ndarray:
        """(n_frames,) bool, a NumPy view."""
        return self.detected[self.span(clip)]

    def pictures(self, clips: np.ndarray) -> np.ndarray:
        """(n,) int64: number of pictures that a view has of each of some clips, 0 for the others."""
        counts = np.zeros(len(self), np.int64)
        before = np.concatenate([[0], np.cumsum(self.detected, dtype=np.int64)])
        counts[clips] = np.diff(before[self.first])[clips]
        return counts


def build_index(paths: Sequence[Path], columns: Sequence[str], texts: bool = False) -> ClipIndex:
    """Index the clips of ``paths`` for reading ``columns``; it needs about a second for 20,000 clips.

    Args:
        paths: shards, at least one.
        columns: tensor, transform and view columns that will be read.
        texts: whether the texts are read, too.

    Raises:
        PrepError: a file is not a shard, lacks a column, or was rewritten in another layout.
    """
    parts = [_index_shard(path, tuple(columns), texts) for path in paths]
    n_frames = np.concatenate([part.n_frames for part in parts])
    return ClipIndex(
        paths=list(paths),
        clip_ids=[name for part in parts for name in part.clip_ids],
        shard=np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.clip_ids) for part in parts]),
        first=np.concatenate([[0], np.cumsum(n_frames, dtype=np.int64)]),
        detected=np.concatenate([part.detected for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        mel_columns=np.concatenate([part.mel_columns for part in parts]),
        has_landmarks68=np.concatenate([part.has_landmarks68 for part in parts]),
        chunks={c: np.concatenate([part.chunks[c] for part in parts]) for c in columns},
        speakers=[pair for part in parts for pair in part.speakers],
        texts=[text for part in parts for text in part.texts],
    )


def identities(
    index: ClipIndex, clips: Collection[str] | None = None, known: Sequence[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """The speakers of clips.

    Speakers of different corpora are always different, even with the same name. If a corpus does not give the speaker,
    :func:`prep.speakers.speaker_of` is used.

    Args:
        index: of clips.
        clips: ids of the clips whose speakers are listed; None: all.
        known: the list of speakers, if it comes from other clips; None: those of these clips, sorted.

    Returns:
        The speakers, ``<corpus>/<speaker>``, and the index of each clip's speaker in this list, (n,) int64; -1 if it is
        not in the list.
    """
    pairs = zip(index.speakers, index.clip_ids, strict=True)
    who = [f"{corpus}/{speaker_of(clip, speaker)}" for (corpus, speaker), clip in pairs]
    wanted = None if clips is None else frozenset(map(composed, clips))
    used = {
        name
        for name, clip in zip(who, index.clip_ids, strict=True)
        if wanted is None or composed(clip) in wanted
    }
    names = sorted(used) if known is None else list(known)
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([place.get(name, -1) for name in who], np.int64)


@dataclass(frozen=True)
class _ShardIndex:
    clip_ids: list[str]
    n_frames: np.ndarray
    detected: np.ndarray
    sizes: np.ndarray
    mel_columns: np.ndarray
    has_landmarks68: np.ndarray
    chunks: dict[str, np.ndarray]
    speakers: list[tuple[str, str]]
    texts: list[str]


def _index_shard(path: Path, columns: tuple[str, ...], texts: bool) -> _ShardIndex:
    file = open_shard(path)
    table = file.read(columns=[*_LIGHT, "text"] if texts else list(_LIGHT), use_threads=False)
    n_frames = table.column("n_frames").to_numpy()
    leaves = _leaves(path, file, {*columns, "mel", "landmarks68"})
    chunks = {name: np.empty((table.num_rows, 3), np.int64) for name in leaves}
    for row in range(table.num_rows):
        group = file.metadata.row_group(row)
        for name, leaf in leaves.items():
            chunk = group.column(leaf)
            chunks[name][row] = chunk.data_page_offset, chunk.total_compressed_size, chunk.num_values
    # A null list has one "value" and no bytes.
    mel, points = chunks["mel"], chunks["landmarks68"]
    return _ShardIndex(
        clip_ids=table.column("clip_id").to_pylist(),
        n_frames=n_frames,
        detected=table.column("detected").combine_chunks().flatten().to_numpy(zero_copy_only=False),
        sizes=np.stack([table.column("width"), table.column("height")], axis=1),
        mel_columns=np.where(mel[:, 1] > mel[:, 2] * (4 * N_MELS + 4), mel[:, 2], 0).astype(np.int32),
        has_landmarks68=points[:, 1] > n_frames * (4 * 68 * 2 + 4),
        chunks={name: np.ascontiguousarray(chunks[name][:, :2]) for name in columns},
        speakers=list(
            zip(table.column("dataset").to_pylist(), table.column("speaker").to_pylist(), strict=True)
        ),
        texts=table.column("text").to_pylist() if texts else [],
    )


def _leaves(path: Path, file: pq.ParquetFile, columns: set[str]) -> dict[str, int]:
    """Column → Parquet's number of the leaf that holds its values."""
    metadata = file.metadata
    found = {}
    for number in range(metadata.num_columns):
        # "mel.list.element", or "box128.list.element.bytes" beside "….path".
        parts = metadata.schema.column(number).path.split(".")
        if parts[0] in columns and parts[-1] != "path":
            found[parts[0]] = number
    if missing := sorted(columns - found.keys()):
        views = ", ".join(schema_views(file.schema_arrow)) or "none"
        raise PrepError(f"{path} has no column {missing[0]!r}; views stored there: {views}")
    if metadata.num_row_groups != metadata.num_rows:
        raise PrepError(
            f"{path} was rewritten: it does not have one row group per clip; make it again with `bench prep`"
        )
    if metadata.num_rows:
        group = metadata.row_group(0)
        for name, number in found.items():
            chunk = group.column(number)
            if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
                raise PrepError(
                    f"{path} was rewritten: {name} is compressed; make it again with `bench prep`"
                )
    return found
