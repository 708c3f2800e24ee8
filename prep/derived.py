"""Derived columns, which a method computes once per clip, in separate files (sidecars) beside the shards.

``<data>/derived/<name>-<key>/<shard's name>`` holds one row group for each clip of a shard, in the shard's order, and
the failures in its footer. ``manifest.json`` is written last, when all shards are done. ``<key>`` identifies the
specification (and its weights), so the columns of two versions are in separate folders and are never mixed.

There are four steps; the third can run anywhere, in any order, and be repeated::

    derivation = DerivedSpec("gaze", columns, specification, weights)
    tasks = open_derivation(data, derivation)                     # with a lock; the tasks that are not done yet
    info = write_sidecar(task, derivation, derive)                # one task per shard: atomic, deterministic
    manifest = finish_derivation(data, derivation) # with the same lock

A ``derived`` column is stored as one binary value per clip: the little-endian, C-ordered bytes of its array. Its
dtype and shape are in the field's metadata. :mod:`prep.derived_reading` reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prep.errors import ClipError, PrepError
from prep.sample_spec import Column
from prep.schema import Clip, make_array
from prep.shards import (
    MANIFEST,
    AtomicFile,
    Failure,
    ShardInfo,
    made_by,
    open_shard,
    plain_writer,
    read_clip,
    read_manifest,
    sha256,
    shard_paths,
    write_json,
)

#: Folder beside the shards, and the step in failures of derivations.
DERIVED = "derived"
STEP = "derive"

_VERSION = 1


@dataclass(frozen=True)
class DerivedSpec:
    """The definition of derived columns.

    Attributes:
        name: without a dot or a slash.
        columns: at least one.
        specification: everything that determines the values, as JSON values.
        weights: network → SHA-256 of its weights.
    """

    name: str
    columns: tuple[Column, ...]
    specification: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not self.name or set(self.name) & set("./") or not names or len(set(names)) < len(names):
            raise ValueError(f"not a derivation: {self.name!r} of columns {names}")

    @property
    def key(self) -> str:
        """12 hex digits that identify columns, specification and weights."""
        said = json.dumps(self.described(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def described(self) -> dict[str, Any]:
        """Columns, specification and weights, as JSON values."""
        columns = [{**asdict(column), "shape": list(column.shape)} for column in self.columns]
        return {
            "version": _VERSION,
            "columns": columns,
            "specification": dict(self.specification),
            "weights": dict(self.weights),
        }

    def folder(self, data: Path) -> Path:
        """Its folder in a data set."""
        return data / DERIVED / f"{self.name}-{self.key}"


@dataclass(frozen=True)
class SidecarTask:
    """One shard, the sidecar to write, and the shard's SHA-256, which is stored in the sidecar.

    ``earlier`` are digests of the same shard before views were added: sidecars of them are right too.
    """

    shard: Path
    sidecar: Path
    shard_sha256: str
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class SidecarInfo:
    """The manifest's entry for one sidecar."""

    name: str
    clips: int
    failures: int
    bytes: int
    sha256: str


def open_derivation(data: Path, derivation: DerivedSpec) -> list[SidecarTask]:
    """Create the folder, and list the sidecars to write: missing ones, and those of shards that were rewritten.

    Only one process may do this at a time: hold :func:`prep.locks.exclusive` of the folder from here until
    :func:`finish_derivation` (the folder exists after this call).

    Raises:
        PrepError: the data set is missing, or not complete.
    """
    folder = derivation.folder(data)
    tasks = _tasks(data, folder)
    folder.mkdir(parents=True, exist_ok=True)
    pending = [task for task in tasks if not _is_done(task)]
    if pending:
        (folder / MANIFEST).unlink(missing_ok=True)
    return pending


def write_sidecar(
    task: SidecarTask,
    derivation: DerivedSpec,
    derive: Callable[[Clip], Mapping[str, np.ndarray]],
    columns: Sequence[str] | None = None,
) -> SidecarInfo:
    """Write the sidecar of one shard; this is the task of the workers.

    Args:
        task: from :func:`open_derivation`.
        derivation: the same one.
        derive: clip → (column → array); a :class:`~prep.errors.ClipError` makes the clip a failure.
        columns: columns of the shard that ``derive`` needs; None: all.

    Raises:
        PrepError: the file is not a shard.
        ValueError: an array of ``derive`` differs from the definition of its column.
    """
    file = open_shard(task.shard)
    with SidecarWriter(task, derivation) as writer:
        for group in range(file.num_row_groups):
            clip = read_clip(file, group, columns)
            try:
                writer.add(clip, derive(clip))
            except ClipError as error:
                writer.fail(Failure(clip.clip_id, clip.split, clip.source, STEP, str(error)))
        return writer.finish()


class SidecarWriter:
    """Writes the sidecar of one shard. Use it as a context manager, and call :meth:`finish`.

    Without :meth:`finish` no file is written. Clips must come in the order of the shard; each is added or fails.
    """

    def __init__(self, task: SidecarTask, derivation: DerivedSpec) -> None:
        self._columns = derivation.columns
        self._failures: list[Failure] = []
        self._clips = 0
        self._sink = AtomicFile(task.sidecar)
        fields = [pa.field("clip_id", pa.string(), nullable=False)]
        for column in derivation.columns:
            said = {"dtype": column.dtype, "shape": json.dumps(column.shape), "per": column.per}
            fields.append(pa.field(column.name, pa.binary(), nullable=False, metadata=said))
            if column.per == "sound":
                fields.append(pa.field(count_name(column.name), pa.int32(), nullable=False))
        metadata = {
            "derivation": json.dumps({"name": derivation.name, "key": derivation.key}),
            "shard_sha256": task.shard_sha256,
        }
        self._schema = pa.schema(fields, metadata=metadata)
        self._writer = plain_writer(self._sink, self._schema)

    def add(self, clip: Clip, values: Mapping[str, np.ndarray]) -> None:
        """Append a clip.

        Args:
            clip: only its ``clip_id`` and ``n_frames`` are used.
            values: column → array, for exactly the defined columns.

        Raises:
            ValueError: an array has another type or shape than its column; values are not converted.
        """
        if values.keys() != {column.name for column in self._columns}:
            raise ValueError(f"{clip.clip_id}: derived {sorted(values)}")
        row: list[Any] = [clip.clip_id]
        for column in self._columns:
            array = values[column.name]
            shape = wanted_shape(column, clip.n_frames, array)
            if array.dtype != column.dtype or array.shape != shape:
                wanted = f"{column.dtype} {shape}"
                raise ValueError(
                    f"{clip.clip_id}: {column.name} is {array.dtype} {array.shape}, not {wanted}"
                )
            row.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            if column.per == "sound":
                row.append(len(array))
        arrays = [make_array([value], f.type) for value, f in zip(row, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=1)
        self._clips += 1

    def fail(self, failure: Failure) -> None:
        """Record a clip whose columns could not be derived."""
        self._failures.append(failure)

    def finish(self) -> SidecarInfo:
        """Close the file and make it visible."""
        rows = [list(asdict(failure).values()) for failure in self._failures]
        self._writer.add_key_value_metadata({"failures": json.dumps(rows)})
        self._writer.close()
        self._sink.commit()
        return SidecarInfo(self._sink.path.name, self._clips, len(rows), self._sink.bytes, self._sink.sha256)

    def __enter__(self) -> SidecarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with suppress(OSError, pa.ArrowException, ValueError):
            self._writer.close()
        self._sink.__exit__(kind, error, trace)


def finish_derivation(data: Path, derivation: DerivedSpec) -> dict[str, Any]:
    """Write the manifest, once every shard is done.

    Returns:
        The manifest: name, key, the output of :meth:`DerivedSpec.described`, ``shards`` (shard → its SHA-256),
        ``sidecars`` (the fields of :class:`SidecarInfo`), ``clips``, and ``failures`` (rows of
        :class:`~prep.shards.Failure`).

    Raises:
        PrepError: a shard is not done, or a sidecar does not hold its shard's clips.
    """
    folder = derivation.folder(data)
    tasks = _tasks(data, folder)
    infos, failures = [], []
    for task in tasks:
        if not _is_done(task):
            raise PrepError(f"{task.sidecar} is missing or of another shard: run the same command again")
        file = pq.ParquetFile(task.sidecar)
        failed = sidecar_failures(file)
        failures += failed
        wanted = open_shard(task.shard).read(columns=["clip_id"]).column("clip_id").to_pylist()
        there = file.read(columns=["clip_id"]).column("clip_id").to_pylist()
        lost = {failure.clip_id for failure in failed}
        if there != [name for name in wanted if name not in lost]:
            raise PrepError(
                f"{task.sidecar} does not hold the clips of its shard: delete it and derive again"
            )
        path = task.sidecar
        infos.append(SidecarInfo(path.name, len(there), len(failed), path.stat().st_size, sha256(path)))
    manifest = {
        "name": derivation.name,
        "key": derivation.key,
        **derivation.described(),
        "shards": {task.shard.name: task.shard_sha256 for task in tasks},
        "sidecars": [asdict(info) for info in infos],
        "clips": sum(info.clips for info in infos),
        "failures": [asdict(failure) for failure in failures],
    }
    for stale in folder.glob(".*.tmp"):
        stale.unlink(missing_ok=True)
    write_json(folder / MANIFEST, manifest)
    return manifest


def sidecar_failures(file: pq.ParquetFile) -> list[Failure]:
    """The failures in a sidecar's footer."""
    stored = (file.metadata.metadata or {}).get(b"failures", b"[]")
    return [Failure(*row) for row in json.loads(stored)]


def wanted_shape(column: Column, n_frames: int, array: np.ndarray) -> tuple[int, ...]:
    """The shape that the array of a column must have for a clip of ``n_frames``; of sound it may have any length."""
    rows = {"frame": (n_frames,), "clip": (), "sound": array.shape[:1]}[column.per]
    return (*rows, *column.shape)


def row_bytes(column: Column) -> int:
    """Bytes of one row of a column."""
    return int(np.dtype(column.dtype).itemsize * np.prod(column.shape, dtype=np.int64))


def count_name(column: str) -> str:
    """The small column with the number of steps that a clip has in a ``sound`` column."""
    return f"{column}_columns"


def columns_from(described: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Columns from the output of :meth:`DerivedSpec.described`."""
    return tuple(Column(**{**column, "shape": tuple(column["shape"])}) for column in described)


def _tasks(data: Path, folder: Path) -> list[SidecarTask]:
    """All sidecars of a derivation in ``folder``. Raises :class:`PrepError` if the data set is not complete."""
    manifest = read_manifest(data)
    if not manifest.get("complete"):
        raise PrepError(
            f"{data} is not complete: run the same {made_by(manifest)} again, it continues where it stopped"
        )
    infos = {entry["name"]: ShardInfo.from_entry(entry) for entry in manifest["shards"]}
    return [
        SidecarTask(path, folder / path.name, infos[path.name].sha256, infos[path.name].earlier)
        for path in shard_paths(data)
    ]


def _is_done(task: SidecarTask) -> bool:
    if not task.sidecar.is_file():
        return False
    try:
        stored = pq.read_schema(task.sidecar).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return stored.get(b"shard_sha256", b"").decode() in (task.shard_sha256, *task.earlier)
