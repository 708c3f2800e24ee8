"""Frames taken straight from Parquet pages, against what pyarrow reads."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prep import images, pages
from prep.errors import PrepError
from prep.index import build_index
from prep.planes import decode_planes
from prep.schema import make_schema, to_table
from prep.shards import SHARDS
from tests.prep.fakes import fake_clip, write_fake_dataset

COLUMNS = ("box128", "box128_transform", "landmarks", "landmarks68", "mel")


def write(folder: Path, **options: object) -> Path:
    """One shard, written in another way than ``ShardWriter`` does it."""
    path = folder / "train-00000.parquet"
    table = to_table(fake_clip("a/1", 30, undetected=(0, 7)), make_schema(["box128"]))
    pq.write_table(table, path, **{"compression": "NONE", "use_dictionary": False, **options})
    return path


def chunks_of(path: Path) -> dict[str, memoryview]:
    index = build_index([path], COLUMNS)
    shards = pages.MappedShards([path])
    return {name: shards.read(0, *places[0].tolist()) for name, places in index.chunks.items()}


def test_values_are_those_that_were_written(tmp_path: Path) -> None:
    clips = [
        fake_clip("a/1", 30, undetected=(0, 7, 8, 29), landmarks68=True),
        fake_clip("a/2", 23, landmarks68=True),
        fake_clip("a/3", 1, still=True),
    ]
    write_fake_dataset(tmp_path, clips)
    (path,) = (tmp_path / SHARDS).iterdir()
    index = build_index([path], COLUMNS)
    shards = pickle.loads(pickle.dumps(pages.MappedShards([path])))

    assert index.clip_ids == ["a/1", "a/2", "a/3"]
    assert index.mel_columns.tolist() == [len(clips[0].mel), len(clips[1].mel), 0]
    assert index.has_landmarks68.tolist() == [True, True, False]
    for i, clip in enumerate(clips):
        chunk = {name: shards.read(0, *index.chunks[name][i].tolist()) for name in COLUMNS}
        seen = clip.detected
        np.testing.assert_array_equal(index.detected_in(i), seen)
        np.testing.assert_array_equal(index.sizes[i], [clip.width, clip.height])
        mesh = pages.fixed_values(chunk["landmarks"], int(seen.sum()), (478, 3))
        np.testing.assert_array_equal(mesh, clip.landmarks[seen])
        matrices = pages.float_values(chunk["box128_transform"], 6 * clip.n_frames).reshape(-1, 2, 3)
        np.testing.assert_array_equal(matrices, clip.transforms["box128"].astype(np.float32))
        places = pages.binary_places(chunk["box128"], int(seen.sum()))
        pictures = [pages.binary_value(chunk["box128"], place) for place in places.tolist()]
        assert pictures == [data for data in clip.images["box128"] if data is not None]
        if not clip.fps:
            continue
        mel = pages.fixed_values(chunk["mel"], len(clip.mel), (80,))
        np.testing.assert_array_equal(mel, clip.mel)
        points = pages.fixed_values(chunk["landmarks68"], clip.n_frames, (68, 2))
        np.testing.assert_array_equal(points, clip.landmarks68)


def test_pictures_of_many_pages(tmp_path: Path) -> None:
    # A chunk is its pages, one after the other.
    chunk = memoryview(bytes(chunks_of(write(tmp_path))["box128"]) * 3)
    clip = fake_clip("a/1", 30, undetected=(0, 7))
    places = pages.binary_places(chunk, 3 * 28).tolist()
    pictures = [pages.binary_value(chunk, place) for place in places]
    assert pictures == [data for data in clip.images["box128"] if data is not None] * 3


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"use_dictionary": True}])
def test_a_rewritten_shard_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    path = write(tmp_path, **options)
    with pytest.raises(PrepError, match="was rewritten"):
        build_index([path], COLUMNS)


def test_larger_row_groups_are_refused(tmp_path: Path) -> None:
    clips = [fake_clip("a/1", 12), fake_clip("a/2", 12)]
    write_fake_dataset(tmp_path, clips)
    (path,) = (tmp_path / SHARDS).iterdir()
    pq.write_table(pq.read_table(path), path, compression="NONE", use_dictionary=False)
    with pytest.raises(PrepError, match="does not have one row group per clip"):
        build_index([path], COLUMNS)


def test_other_content_is_an_error_and_not_garbage(tmp_path: Path) -> None:
    chunk = chunks_of(write(tmp_path))
    with pytest.raises(ValueError, match="instead of 30"):
        pages.binary_places(chunk["box128"], 30)
    for count, shape in ((27, (478, 3)), (29, (478, 3)), (0, (478, 3)), (28, (477, 3))):
        with pytest.raises(ValueError, match=r"do not hold|not 28 values"):
            pages.fixed_values(chunk["landmarks"], count, shape)
    with pytest.raises(ValueError, match="do not hold"):
        pages.float_values(chunk["box128_transform"], 6 * 400)
    with pytest.raises(ValueError):
        pages.binary_places(memoryview(b"\x15\x04" + bytes(50)), 1)


def test_a_file_that_shrinks_or_vanishes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train-00000.parquet"
    path.write_bytes(bytes(100))
    shards = pages.MappedShards([path])
    assert len(shards.read(0, 20, 80)) == 80
    with pytest.raises(PrepError, match=r"train-00000.parquet was changed"):
        shards.read(0, 20, 81)
    path.unlink()
    with pytest.raises(PrepError, match=r"train-00000.parquet cannot be read"):
        pages.MappedShards([path]).read(0, 0, 1)


def test_only_so_many_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_MAPPED", 2)
    paths = [tmp_path / f"{i}" for i in range(4)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 9)
    shards = pages.MappedShards(paths)
    views = [shards.read(i, 0, 9) for i in (0, 1, 0, 2, 3, 0)]
    assert list(shards._mapped) == [3, 0]
    assert [bytes(view)[0] for view in views] == [0, 1, 0, 2, 3, 0]


@pytest.mark.parametrize("encoding", images.ENCODINGS)
def test_planes_are_the_decoded_pictures(encoding: str) -> None:
    rng = np.random.default_rng(0)
    encoded = [images.encode(rng.integers(0, 256, (67, 45, 3), np.uint8), encoding, 90) for _ in range(3)]
    planes = decode_planes(encoded, 45, 67)
    expected = np.stack([images.decode(data) for data in encoded]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(planes, expected)


def test_planes_refuse_other_sizes_and_other_things() -> None:
    small = images.encode(np.zeros((8, 8, 3), np.uint8), "jpeg")
    with pytest.raises(ValueError, match="8x8, not 16x16"):
        decode_planes([small], 16, 16)
    with pytest.raises(ValueError):
        decode_planes([small], 4, 4)
    with pytest.raises(ValueError):
        decode_planes([small[:-30]], 8, 8)
    with pytest.raises(ValueError):
        decode_planes([b"something else"], 8, 8)


def test_the_only_value_of_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = [b"first", b"", bytes(range(256)) * 300]
    for nullable in (False, True):
        schema = pa.schema([pa.field("value", pa.binary(), nullable=nullable)])
        with pq.ParquetWriter(path, schema, compression="NONE", use_dictionary=False) as writer:
            for value in values:
                writer.write_table(pa.table({"value": [value]}, schema))
        metadata, data = pq.read_metadata(path), memoryview(path.read_bytes())
        for group, value in enumerate(values):
            column = metadata.row_group(group).column(0)
            chunk = data[column.data_page_offset :][: column.total_compressed_size]
            assert bytes(pages.last_value(chunk, len(value))) == value
        for wrong in (len(value) - 1, len(value) + 1, len(chunk)):
            with pytest.raises(ValueError, match="do not hold one value"):
                pages.last_value(chunk, wrong)
