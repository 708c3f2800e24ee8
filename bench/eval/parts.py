"""Parts: the results of one clip, one Parquet file per clip, so that an interrupted evaluation can be continued.

A part holds rows of four kinds in one table: ``figure`` (a value or the reason why there is none, with its values per
frame), ``features`` (for ``set`` metrics: which blob belongs to the prediction, which to the truth), ``blob`` (a
float32 array, stored once even if several rows refer to it) and ``preview`` (a JPEG).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prep.schema import make_array
from prep.shards import AtomicFile

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("clip_id", pa.string()),
        ("method", pa.string()),
        ("region", pa.string()),
        ("metric", pa.string()),
        ("output", pa.string()),
        ("value", pa.float64()),
        ("reason", pa.string()),
        ("frames", pa.int32()),
        ("pred_frames", pa.int32()),
        ("truth_frames", pa.int32()),
        ("values", pa.list_(pa.float32())),
        ("frame", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("data", pa.binary()),
    ]
)
#: Columns of clips.parquet, of frames.parquet and of previews.parquet.
CLIP_COLUMNS = (
    "method",
    "clip_id",
    "region",
    "metric",
    "output",
    "value",
    "reason",
    "frames",
    "pred_frames",
    "truth_frames",
)
FRAME_COLUMNS = ("method", "clip_id", "region", "output", "values")
PREVIEW_COLUMNS = ("method", "clip_id", "frame", "width", "height", "data")


@dataclass(frozen=True)
class PartRow:
    """One row of a part; see :data:`SCHEMA`. Fields that a kind does not use are empty."""

    kind: str
    clip_id: str
    method: str = ""
    region: str = ""
    metric: str = ""
    output: str = ""
    value: float | None = None
    reason: str = ""
    frames: int = 0
    pred_frames: int = 0
    truth_frames: int = 0
    values: list[float] | None = None
    frame: int = 0
    width: int = 0
    height: int = 0
    data: bytes | None = field(default=None, repr=False)


def part_path(folder: Path, clip_id: str) -> Path:
    """Path of the part of a clip; any clip id gives a valid file name."""
    return folder / f"{hashlib.sha256(clip_id.encode()).hexdigest()[:20]}.parquet"


def write_part(path: Path, rows: Sequence[PartRow]) -> None:
    """Write a part atomically."""
    table = _table(rows)
    with AtomicFile(path) as sink:
        with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), SCHEMA, use_dictionary=False) as writer:
            writer.write_table(table)
        sink.commit()


def _table(rows: Sequence[PartRow]) -> pa.Table:
    columns = [
        make_array([getattr(row, name) for row in rows], SCHEMA.field(name).type) for name in SCHEMA.names
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


class FeatureBlobs:
    """Collects the features of a clip's ``set`` metrics; equal arrays are stored once."""

    def __init__(self, clip_id: str) -> None:
        self.clip_id = clip_id
        self.rows: list[PartRow] = []
        self._known: set[str] = set()

    def add(self, method: str, region: str, metric: str, features: tuple[np.ndarray, np.ndarray]) -> None:
        """Add the features of prediction and truth, float32 (n, d), for one figure."""
        for side, array in zip(("pred", "truth"), features, strict=True):
            data = np.ascontiguousarray(array, "<f4").tobytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest not in self._known:
                self._known.add(digest)
                rows, columns = array.shape
                blob = PartRow("blob", self.clip_id, reason=digest, frames=rows, width=columns, data=data)
                self.rows.append(blob)
            self.rows.append(
                PartRow("features", self.clip_id, method, region, metric, output=side, reason=digest)
            )


class Features(Sequence[tuple[np.ndarray, np.ndarray]]):
    """The features of one figure for all clips, read from the parts one clip at a time. Slices are not
    supported."""

    def __init__(self, paths: Sequence[Path], method: str, region: str, metric: str) -> None:
        self._paths = paths
        self._wanted = {"method": method, "region": region, "metric": metric}

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        table = pq.read_table(self._paths[index], memory_map=True)
        rows = table.filter(pc.equal(table["kind"], "features"))
        for name, value in self._wanted.items():
            rows = rows.filter(pc.equal(rows[name], value))
        digests = dict(zip(rows["output"].to_pylist(), rows["reason"].to_pylist(), strict=True))
        return _blob(table, digests["pred"]), _blob(table, digests["truth"])


def _blob(table: pa.Table, digest: str) -> np.ndarray:
    row = table.filter(pc.and_(pc.equal(table["kind"], "blob"), pc.equal(table["reason"], digest)))
    shape = row["frames"][0].as_py(), row["width"][0].as_py()
    return np.frombuffer(row["data"][0].as_py(), "<f4").reshape(shape)


def merge(paths: Sequence[Path], out: Path, kind: str, columns: Sequence[str], name: str) -> None:
    """Write the rows of one kind from all parts, in the order of ``paths``, with one part in memory at a time."""
    renamed = {"data": "jpeg"}
    schema = pa.schema([SCHEMA.field(c).with_name(renamed.get(c, c)) for c in columns])
    with AtomicFile(out / name) as sink:
        with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema) as writer:
            for table in _of_kind(paths, kind, columns):
                writer.write_table(table.rename_columns(schema.names).cast(schema))
        sink.commit()


def figures(paths: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of all figures, in the order of ``paths``, with some of :data:`CLIP_COLUMNS`."""
    tables = list(_of_kind(paths, "figure", columns))
    empty = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
    return pa.concat_tables([empty, *tables]).to_pandas()


def _of_kind(paths: Sequence[Path], kind: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    for path in paths:
        filters = [("kind", "=", kind)]
        table = pq.read_table(path, columns=list(columns), filters=filters)
        if "values" in columns:
            table = table.filter(pc.is_valid(table["values"]))
        if table.num_rows:
            yield table
