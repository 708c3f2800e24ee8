"""Finds and reads derived columns: of one clip, or of all clips for training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prep.derived import DERIVED, columns_from, count_name, row_bytes
from prep.errors import PrepError
from prep.index import ClipIndex
from prep.pages import MappedShards, last_value
from prep.sample_spec import Column
from prep.shards import MANIFEST, ShardInfo, read_manifest


@dataclass(frozen=True)
class DerivedSet:
    """A complete set of derived columns of a data set.

    Attributes:
        folder: its folder.
        name: of the derivation.
        key: identifies its specification and weights.
        columns: by name.
        manifest: as written by :func:`prep.derived.finish_derivation`.
    """

    folder: Path
    name: str
    key: str
    columns: dict[str, Column]
    manifest: dict[str, Any]

    def read(self, shard: str, clip_id: str) -> dict[str, np.ndarray]:
        """All columns of one clip, by name: shapes and types as their :class:`~prep.sample_spec.Column` says.

        Args:
            shard: the name of the shard that holds the clip.
            clip_id: the clip.

        Raises:
            KeyError: this clip has no derived columns.
            PrepError: the file is missing or damaged.
        """
        file = _open(self.folder / shard)
        names = file.read(columns=["clip_id"]).column("clip_id").to_pylist()
        if clip_id not in names:
            raise KeyError(clip_id)
        row = file.read_row_group(names.index(clip_id), use_threads=False)
        return {
            name: _as_array(row.column(name)[0].as_buffer(), column) for name, column in self.columns.items()
        }


def find(data: Path, name: str, key: str | None = None, method: str = "METHOD") -> DerivedSet:
    """Find what ``bench derive`` has written beside a data set.

    Args:
        data: the data set.
        name: of the derivation.
        key: the required :attr:`prep.derived.DerivedSpec.key`; None: any, if there is only one.
        method: name of the method that needs it, for error messages.

    Raises:
        PrepError: it is missing, not complete, of another specification, weights or shards, or there are several.
    """
    remedy = f"run `bench derive {method} --data {data}` with the options of its training"
    folders = sorted(path for path in (data / DERIVED).glob(f"{name}-*") if path.name[:-13] == name)
    if not folders:
        raise PrepError(f"{data} has no derived columns {name!r}: {remedy}")
    wanted = [folder for folder in folders if key is None or folder.name == f"{name}-{key}"]
    if not wanted:
        raise PrepError(f"{folders[-1]} is of another specification or other weights: {remedy}")
    complete = [folder for folder in wanted if (folder / MANIFEST).is_file()]
    if not complete:
        raise PrepError(f"{wanted[-1]} is not complete: {remedy}, it continues where it stopped")
    if len(complete) > 1:
        several = ", ".join(folder.name for folder in complete)
        raise PrepError(f"{data / DERIVED} has {several}: delete all except the one to use")
    (folder,) = complete
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        columns = {column.name: column for column in columns_from(manifest["columns"])}
        shards = manifest["shards"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PrepError(f"{folder / MANIFEST} cannot be read ({error}): delete it, and {remedy}") from None
    now = {entry["name"]: ShardInfo.from_entry(entry) for entry in read_manifest(data)["shards"]}
    if shards.keys() != now.keys() or any(
        digest not in (now[name].sha256, *now[name].earlier) for name, digest in shards.items()
    ):
        raise PrepError(f"{folder} was derived from other shards than {data} has now: {remedy}")
    return DerivedSet(folder, name, manifest["key"], columns, manifest)


class DerivedColumns:
    """Derived columns of all clips of an index, for training: any rows of any clip, read directly from the files.

    Args:
        index: the clips; its shards are in the folders of data sets.
        names: requested columns, ``<derivation>.<column>``.
        keys: derivation → the required key; other derivations may have any key.

    Attributes:
        columns: the columns by their requested names.
        keys: derivation → key; the same in all data sets.
        there: derivation → (n,) bool, whether it has the clip.
        counts: name → (n,) int64, number of steps of each clip in ``sound`` columns; 0 without sound.

    Raises:
        PrepError: as :func:`find`; a derivation lacks a column; or data sets have different columns.
    """

    def __init__(self, index: ClipIndex, names: Sequence[str], keys: Mapping[str, str] | None = None) -> None:
        self._index = index
        self.columns: dict[str, Column] = {}
        self.keys: dict[str, str] = {}
        self.there: dict[str, np.ndarray] = {}
        self.counts: dict[str, np.ndarray] = {}
        self._files: dict[str, MappedShards] = {}
        self._places: dict[str, np.ndarray] = {}
        for derivation in sorted({name.partition(".")[0] for name in names}):
            wanted = sorted({n.partition(".")[2] for n in names if n.partition(".")[0] == derivation})
            self._open(derivation, wanted, (keys or {}).get(derivation))

    def rows(self, name: str, clip: int, rows: np.ndarray | slice) -> np.ndarray:
        """Some rows of a column of a clip, as stored: (n, *shape); for a ``clip`` column its whole value, ``shape``.

        Raises:
            ValueError: the file was changed in the meantime.
        """
        column = self.columns[name]
        count = {"frame": len(self._index.detected_in(clip)), "clip": 1, "sound": 0}[column.per]
        if column.per == "sound":
            count = int(self.counts[name][clip])
        start, size = self._places[name][clip].tolist()
        chunk = self._files[name.partition(".")[0]].read(int(self._index.shard[clip]), start, size)
        values = _as_array(last_value(chunk, count * row_bytes(column)), column)
        return values if column.per == "clip" else values[rows]

    def _open(self, derivation: str, wanted: list[str], key: str | None) -> None:
        index = self._index
        found: dict[Path, DerivedSet] = {}
        for path in index.paths:
            data = path.parent.parent
            if data not in found:
                found[data] = find(data, derivation, key)
        first = next(iter(found.values()))
        other = next((s for s in found.values() if s.key != first.key), None)
        if other is not None:
            raise PrepError(f"{first.folder} and {other.folder} are not of one specification and weights")
        for name in wanted:
            if name not in first.columns:
                raise PrepError(
                    f"{first.folder} has no column {name!r}; there are: {', '.join(first.columns)}"
                )
            self.columns[f"{derivation}.{name}"] = first.columns[name]
        self.keys[derivation] = first.key
        sidecars = [found[path.parent.parent].folder / path.name for path in index.paths]
        self._files[derivation] = MappedShards(sidecars)
        self.there[derivation] = np.zeros(len(index), bool)
        for name in wanted:
            self._places[f"{derivation}.{name}"] = np.zeros((len(index), 2), np.int64)
            if first.columns[name].per == "sound":
                self.counts[f"{derivation}.{name}"] = np.zeros(len(index), np.int64)
        bounds = np.searchsorted(index.shard, np.arange(len(sidecars) + 1))
        for path, begin, end in zip(sidecars, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            self._index_sidecar(path, derivation, wanted, range(begin, end))

    def _index_sidecar(self, path: Path, derivation: str, wanted: list[str], clips: range) -> None:
        file = _open(path)
        counted = [name for name in wanted if f"{derivation}.{name}" in self.counts]
        table = file.read(columns=["clip_id", *map(count_name, counted)], use_threads=False)
        place = {self._index.clip_ids[clip]: clip for clip in clips}
        names = table.column("clip_id").to_pylist()
        if not place.keys() >= set(names):
            raise PrepError(f"{path} holds clips that its shard does not: delete it and derive again")
        of = [place[name] for name in names]
        self.there[derivation][of] = True
        for name in counted:
            self.counts[f"{derivation}.{name}"][of] = table.column(count_name(name)).to_numpy()
        leaves = {file.metadata.schema.column(i).path: i for i in range(file.metadata.num_columns)}
        for name in wanted:
            chunks = [file.metadata.row_group(row).column(leaves[name]) for row in range(table.num_rows)]
            places = [(chunk.data_page_offset, chunk.total_compressed_size) for chunk in chunks]
            self._places[f"{derivation}.{name}"][of] = np.array(places, np.int64).reshape(-1, 2)


def _as_array(data: Any, column: Column) -> np.ndarray:
    values = np.frombuffer(data, np.dtype(column.dtype).newbyteorder("<"))
    return values.reshape(column.shape if column.per == "clip" else (-1, *column.shape))


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise PrepError(f"{path} is not whole ({error}): delete it and derive again") from None
