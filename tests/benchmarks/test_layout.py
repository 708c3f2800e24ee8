"""The measurement behind the layout of the shards (run with ``--benchmark-only``; see ``prep/schema.py``).

The landmarks of one random clip of 100 frames are read from memory-mapped files that differ in one thing only: the
column's type, the compression, the number of clips in a row group. And opening a shard is compared with taking
frames straight from its pages, as :mod:`prep.pages` does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep.index import build_index
from prep.pages import MappedShards, fixed_values
from prep.schema import unpack
from prep.shards import open_shard, shard_paths
from tests.prep.fakes import fake_clip, write_fake_dataset

CLIPS, FRAMES, POINTS = 64, 100, 478

Array = np.ndarray


def as_binary(clip: Array) -> list[bytes]:
    return [frame.tobytes() for frame in clip]


def as_flat(clip: Array) -> list[float]:
    return clip.ravel().tolist()


def as_nested(clip: Array) -> list[Any]:
    return clip.tolist()


TYPES: dict[str, tuple[pa.DataType, Callable[[Array], Any]]] = {
    "binary": (pa.list_(pa.binary()), as_binary),
    "flat": (pa.list_(pa.float32()), as_flat),
    "nested": (pa.list_(pa.list_(pa.list_(pa.float32(), 3), POINTS)), as_nested),
}


def write(
    path: Path, clips: list[Array], kind: str, compression: str = "NONE", in_group: int = 1
) -> pq.ParquetFile:
    column, convert = TYPES[kind]
    schema = pa.schema([("landmarks", column)])
    with pq.ParquetWriter(path, schema, compression=compression, use_dictionary=False) as writer:
        for begin in range(0, len(clips), in_group):
            values = [convert(clip) for clip in clips[begin : begin + in_group]]
            writer.write_table(pa.table({"landmarks": pa.array(values, column)}, schema=schema))
    return pq.ParquetFile(path, memory_map=True, pre_buffer=False)


def reader(file: pq.ParquetFile, kind: str, in_group: int = 1) -> Callable[[int], Array]:
    """A function that reads the (FRAMES, 478, 3) landmarks of clip i."""

    def read(i: int) -> Array:
        column = file.read_row_group(i // in_group, use_threads=False).column("landmarks").chunk(0)
        values = column[i % in_group].values
        if kind == "binary":
            return unpack(values, "landmarks")
        while not pa.types.is_floating(values.type):
            values = values.flatten()
        return values.to_numpy().reshape(FRAMES, POINTS, 3)

    return read


def in_turn(functions: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """Median microseconds of each function over random clips, measured in turn."""
    order = np.random.default_rng(0).integers(0, CLIPS, 60).tolist()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _, (name, function) in itertools.product(range(3), functions.items()):
        for i in order:
            start = perf_counter()
            function(i)
            seconds[name].append(perf_counter() - start)
    return {name: round(1e6 * median(measured), 1) for name, measured in seconds.items()}


@pytest.fixture(scope="module")
def clips() -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 160, (FRAMES, POINTS, 3)).astype(np.float32) for _ in range(CLIPS)]


def test_type_of_the_column(benchmark: Any, tmp_path: Path, clips: list[Array]) -> None:
    few = clips[:8]
    readers = {}
    for kind in TYPES:
        read = reader(write(tmp_path / f"{kind}.parquet", few, kind), kind)
        np.testing.assert_array_equal(read(5), few[5])
        readers[kind] = lambda i, read=read: read(i % 8)
    zstd = reader(write(tmp_path / "zstd.parquet", few, "binary", "zstd"), "binary")
    readers["binary, zstd"] = lambda i: zstd(i % 8)

    micros = in_turn(readers)
    benchmark.extra_info.update(micros)
    benchmark.pedantic(lambda: readers["binary"](3), rounds=100)
    assert micros["flat"] > 4 * micros["binary"]
    assert micros["nested"] > 4 * micros["binary"]
    assert micros["binary, zstd"] > 2 * micros["binary"]


def test_clips_in_a_row_group(benchmark: Any, tmp_path: Path, clips: list[Array]) -> None:
    one = reader(write(tmp_path / "1.parquet", clips, "binary"), "binary")
    many = reader(write(tmp_path / "16.parquet", clips, "binary", in_group=16), "binary", in_group=16)
    np.testing.assert_array_equal(one(37), clips[37])
    np.testing.assert_array_equal(many(37), clips[37])

    micros = in_turn({"1 clip": one, "16 clips": many})
    benchmark.extra_info.update(micros)
    benchmark.pedantic(lambda: one(37), rounds=100)
    assert micros["16 clips"] > 4 * micros["1 clip"]


def test_frames_without_the_footer(benchmark: Any, tmp_path: Path) -> None:
    """One shard of 64 clips: to open it and read a clip, to read from the open file, to read from its pages."""
    write_fake_dataset(
        tmp_path, [fake_clip(f"a/{i:05d}", FRAMES) for i in range(CLIPS)], clips_per_shard=CLIPS
    )
    (path,) = shard_paths(tmp_path)
    file = open_shard(path)
    index = build_index([path], ["landmarks"])
    shards = MappedShards([path])
    frames = np.array([3, 4, 5, 6, 7, 40, 60, 90])

    def opening(i: int) -> Array:
        return from_file(i, open_shard(path))

    def from_file(i: int, file: pq.ParquetFile = file) -> Array:
        table = file.read_row_group(i, columns=["landmarks"], use_threads=False)
        return unpack(table.column("landmarks").chunk(0)[0].values, "landmarks", frames)

    def from_pages(i: int) -> Array:
        return fixed_values(shards.read(0, *index.chunks["landmarks"][i].tolist()), FRAMES, (POINTS, 3))[
            frames
        ]

    np.testing.assert_array_equal(from_file(9), from_pages(9))
    micros = in_turn({"opening": opening, "open file": from_file, "pages": from_pages})
    benchmark.extra_info.update(micros)
    benchmark.pedantic(lambda: from_pages(9), rounds=100)
    assert micros["opening"] > 10 * micros["pages"]
