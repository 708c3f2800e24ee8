"""Shard files: atomic streaming writes, the manifest, the failures, and reading."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from prep.errors import PrepError
from prep.schema import SCHEMA_VERSION, SINCE_VERSION_2, Clip, from_table, make_array, schema_views, to_table

SHARDS = "shards"
MANIFEST = "manifest.json"
FAILURES = "failures.parquet"

_FAILURE_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "split", "source", "step", "reason")],
)


@dataclass(frozen=True)
class Failure:
    """A clip that could not be used, and why."""

    clip_id: str
    split: str
    source: str
    step: str
    reason: str


@dataclass(frozen=True)
class ShardInfo:
    """The manifest's entry for one shard.

    Attributes:
        earlier: SHA-256 of what the shard was before views were added that changed nothing else. What was computed from
            these bytes is still right.
    """

    name: str
    split: str
    clips: int
    frames: int
    failures: int
    bytes: int
    sha256: str
    earlier: tuple[str, ...] = ()

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> ShardInfo:
        """The inverse of :meth:`entry`."""
        return ShardInfo(
            **{f.name: entry[f.name] for f in fields(ShardInfo) if f.name != "earlier"},
            earlier=tuple(entry.get("earlier", ())),
        )

    def entry(self) -> dict[str, Any]:
        """Its fields, as JSON values; ``earlier`` only if there are any."""
        values = {f.name: getattr(self, f.name) for f in fields(ShardInfo) if f.name != "earlier"}
        return {**values, "earlier": list(self.earlier)} if self.earlier else values


class AtomicFile:
    """A binary file with a temporary name in its folder, hashed while it is written, renamed by :meth:`commit`.

    Leaving the ``with`` block without a commit removes it. An incomplete file is never visible as ``path``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        self._hash = hashlib.sha256()
        self.bytes = 0
        self._file: BinaryIO = self._temporary.open("wb")

    def write(self, data: bytes | memoryview | pa.Buffer) -> int:
        """Append ``data``; returns its length in bytes."""
        view = memoryview(data)
        self._hash.update(view)
        self._file.write(view)
        self.bytes += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Pass buffered data to the operating system."""
        self._file.flush()

    def tell(self) -> int:
        """Bytes written so far."""
        return self.bytes

    @property
    def closed(self) -> bool:
        """Whether the file has been committed or removed."""
        return self._file.closed

    @property
    def sha256(self) -> str:
        """Hex digest of the data written so far."""
        return self._hash.hexdigest()

    def commit(self) -> None:
        """Make the file durable and visible."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if not self._file.closed:
            with suppress(OSError):
                self._file.close()
        self._temporary.unlink(missing_ok=True)


class ShardWriter:
    """Writes one shard, one row group per clip, with one clip in memory at a time.

    Use it as a context manager and call :meth:`finish`; without that call no file is written. The failures of the
    shard's clips are stored in its footer, so one rename completes both.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.clips = 0
        self.frames = 0
        self._failures: list[Failure] = []
        self._sink = AtomicFile(path)
        bulk = {
            name
            for name in schema.names
            if pa.types.is_list(schema.field(name).type) or pa.types.is_binary(schema.field(name).type)
        }
        plain = [name for name in schema.names if name not in bulk]
        self._writer = plain_writer(self._sink, schema, plain)

    def add(self, clip: Clip) -> None:
        """Append a clip."""
        self._writer.write_table(to_table(clip, self.schema), row_group_size=1)
        self.clips += 1
        self.frames += clip.n_frames

    def fail(self, failure: Failure) -> None:
        """Record a clip that could not be used."""
        self._failures.append(failure)

    def finish(self, split: str) -> ShardInfo:
        """Close the shard and make it visible."""
        rows = [list(asdict(f).values()) for f in self._failures]
        self._writer.add_key_value_metadata({"failures": json.dumps(rows)})
        self._writer.close()
        self._sink.commit()
        return ShardInfo(
            name=self.path.name,
            split=split,
            clips=self.clips,
            frames=self.frames,
            failures=len(rows),
            bytes=self._sink.bytes,
            sha256=self._sink.sha256,
        )

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with suppress(OSError, pa.ArrowException, ValueError):
            self._writer.close()
        self._sink.__exit__(kind, error, trace)


def plain_writer(sink: AtomicFile, schema: pa.Schema, statistics: Sequence[str] = ()) -> pq.ParquetWriter:
    """A writer of uncompressed PLAIN values, which can be read directly from the file, see :mod:`prep.pages`.

    Args:
        sink: file to write.
        schema: columns and metadata.
        statistics: columns whose minimum and maximum are stored in the footer.
    """
    return pq.ParquetWriter(
        pa.PythonFile(sink, mode="w"),
        schema,
        compression="NONE",
        use_dictionary=False,
        write_statistics=list(statistics),
        data_page_size=1 << 26,
        store_schema=True,
    )


def describe(path: Path, split: str) -> ShardInfo:
    """The manifest's entry for a shard that is already on disk.

    Raises:
        PrepError: the file is not a complete shard.
    """
    file = open_shard(path)
    frames = file.read(columns=["n_frames"]).column("n_frames").to_pylist()
    return ShardInfo(
        name=path.name,
        split=split,
        clips=len(frames),
        frames=sum(frames),
        failures=len(_failures(file)),
        bytes=path.stat().st_size,
        sha256=sha256(path),
    )


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def shard_failures(path: Path) -> list[Failure]:
    """The failures recorded in a shard's footer."""
    return _failures(open_shard(path))


def _failures(file: pq.ParquetFile) -> list[Failure]:
    stored = (file.metadata.metadata or {}).get(b"failures", b"[]")
    return [Failure(*row) for row in json.loads(stored)]


def write_failures(folder: Path, failures: Sequence[Failure]) -> None:
    """Write ``failures.parquet``, one row per failure, sorted by clip."""
    rows = sorted(failures, key=lambda f: (f.clip_id, f.step))
    columns = [make_array([getattr(row, f.name) for row in rows], f.type) for f in _FAILURE_SCHEMA]
    with AtomicFile(folder / FAILURES) as sink:
        table = pa.Table.from_arrays(columns, schema=_FAILURE_SCHEMA)
        pq.write_table(table, pa.PythonFile(sink, mode="w"))
        sink.commit()


def read_failures(folder: Path) -> list[Failure]:
    """All failures of a data set, from ``failures.parquet``."""
    path = folder / FAILURES
    if not path.is_file():
        return []
    return [Failure(**row) for row in pq.read_table(path).to_pylist()]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file atomically, with stable key order."""
    with AtomicFile(path) as sink:
        sink.write((json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())
        sink.commit()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a data set.

    Raises:
        PrepError: ``folder`` is not a data set.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PrepError(
            f"{folder} is not a prepared data set: {MANIFEST} is missing; make one with `bench prep`"
        ) from None
    except (OSError, ValueError) as error:
        raise PrepError(
            f"{path} cannot be read ({error}); delete it and run the same `bench prep` again"
        ) from None
    if not isinstance(manifest, dict):
        raise PrepError(f"{path} is not a manifest; delete it and run the same `bench prep` again")
    return manifest


def made_by(manifest: Mapping[str, Any]) -> str:
    """The command that wrote, and continues, a data set, for messages."""
    return "`bench offsets --correct`" if "corrected" in manifest else "`bench prep`"


def shard_paths(folder: Path, split: str | None = None) -> list[Path]:
    """Shard files of a data set in order, of one split or of all.

    Raises:
        PrepError: there are none.
    """
    paths = sorted((folder / SHARDS).glob(f"{split}-*.parquet" if split else "[!.]*.parquet"))
    if not paths:
        if split and (there := sorted({path.name.rpartition("-")[0] for path in shard_paths(folder)})):
            raise PrepError(f"{folder} has no split {split!r}: there are {', '.join(there)}")
        raise PrepError(f"{folder} has no shards: make them with `bench prep`")
    return paths


def stored_views(folder: Path) -> list[str]:
    """The views that every shard of a data set has, in column order.

    Raises:
        PrepError: the folder is not a prepared data set.
    """
    manifest = read_manifest(folder)
    views = schema_views(open_shard(shard_paths(folder)[0]).schema_arrow)
    return [view for view in views if view not in manifest.get("adding", ())]


def read(
    folder: Path | str, split: str | None = None, columns: Sequence[str] | None = None
) -> Iterator[Clip]:
    """Iterate over the clips of a prepared data set, in order, one in memory at a time.

    Args:
        folder: what ``bench prep --out`` wrote.
        split: one split, or None for all.
        columns: columns to read (``n_frames`` and the names are always read); None reads everything.

    Raises:
        PrepError: there are no shards, or a file is not a shard.
    """
    for path in shard_paths(Path(folder), split):
        file = open_shard(path)
        for group in range(file.num_row_groups):
            yield read_clip(file, group, columns)


#: Columns without which a :class:`~prep.schema.Clip` cannot be built.
_KEYS = ("clip_id", "dataset", "split", "source", "n_frames", "width", "height")


def read_clip(file: pq.ParquetFile, row_group: int, columns: Sequence[str] | None = None) -> Clip:
    """One clip of an open shard. Raises ``KeyError`` for a column that the shard lacks.

    Columns of a later version of the schema than the shard's have the defaults of :class:`~prep.schema.Clip`.
    """
    wanted = None
    if columns is not None:
        names = file.schema_arrow.names
        columns = [c for c in columns if c in names or c not in SINCE_VERSION_2]
        unknown = [c for c in columns if c not in names]
        if unknown:
            raise KeyError(f"no column {unknown[0]!r}; there are: {', '.join(names)}")
        wanted = [*_KEYS, *(c for c in columns if c not in _KEYS)]
    table = file.read_row_group(row_group, columns=wanted, use_threads=False)
    return from_table(table)


def open_shard(path: Path) -> pq.ParquetFile:
    """Open a shard memory-mapped for random access. Raises :class:`PrepError` if it is not one."""
    try:
        file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise PrepError(
            f"{path} is not a whole shard ({error}); delete it and run the same `bench prep` again"
        ) from None
    version = (file.schema_arrow.metadata or {}).get(b"schema_version")
    if version is None:
        raise PrepError(f"{path} was not written by `bench prep`; move it out of the data set's folder")
    if int(version) > SCHEMA_VERSION:
        raise PrepError(
            f"{path} was written by a later version of `bench prep` (schema {int(version)}, not "
            f"{SCHEMA_VERSION}): update this suite"
        )
    return file


def schema_version(folder: Path) -> int:
    """By which version of :mod:`prep.schema` a data set was written.

    Raises:
        PrepError: there are no shards, or the first one is damaged.
    """
    return int(open_shard(shard_paths(folder)[0]).schema_arrow.metadata[b"schema_version"])
