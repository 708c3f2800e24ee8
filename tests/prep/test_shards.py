import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from prep import shards
from prep.errors import PrepError
from prep.schema import Clip, make_schema, unpack

T = 12


def make_clip(clip_id: str, seed: int = 0, missing: tuple[int, ...] = (3,), still: bool = False) -> Clip:
    rng = np.random.default_rng(seed)
    n = 1 if still else T
    detected = np.ones(n, bool)
    detected[[i for i in missing if i < n]] = False
    landmarks = rng.random((n, 478, 3)).astype(np.float32)
    landmarks[~detected] = np.nan
    transforms = rng.random((n, 2, 3)).astype(np.float32)
    transforms[~detected] = np.nan
    return Clip(
        clip_id=clip_id,
        dataset="lrs2",
        split="train",
        source=f"{clip_id}.mp4",
        speaker="ann",
        text="HELLO",
        n_frames=n,
        width=160,
        height=120,
        stop=n / 25,
        fps=0.0 if still else 25.0,
        crop=(1, 2, 30, 40),
        landmarks=landmarks,
        detected=detected,
        n_faces=detected.astype(np.uint8),
        landmarks68=rng.random((n, 68, 2)).astype(np.float32) if still else None,
        transforms={"box128": transforms},
        images={"box128": [rng.bytes(50) if seen else None for seen in detected]},
        audio=None if still else rng.integers(-9, 9, n * 640).astype(np.int16),
        mel=None if still else rng.random((39, 80)).astype(np.float32),
    )


def write(folder: Path, clips: list[Clip], name: str = "train-00000.parquet") -> shards.ShardInfo:
    (folder / shards.SHARDS).mkdir(parents=True, exist_ok=True)
    with shards.ShardWriter(folder / shards.SHARDS / name, make_schema(["box128"])) as writer:
        for clip in clips:
            writer.add(clip)
        writer.fail(shards.Failure("z", "train", "z.mp4", "video", "it is empty"))
        return writer.finish("train")


def assert_same(a: Clip, b: Clip) -> None:
    for name in Clip.__dataclass_fields__:
        x, y = getattr(a, name), getattr(b, name)
        if name == "transforms":
            assert x.keys() == y.keys()
            np.testing.assert_array_equal(x["box128"], y["box128"])
        elif isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, name
            np.testing.assert_array_equal(x, y, err_msg=name)
        else:
            assert x == y, name


def test_clips_come_back_as_they_were_written(tmp_path: Path) -> None:
    clips = [make_clip("a", 1), make_clip("b", 2, missing=()), make_clip("c", 3, missing=(), still=True)]
    write(tmp_path, clips)
    back = list(shards.read(tmp_path))
    assert len(back) == 3
    for a, b in zip(clips, back, strict=True):
        assert_same(a, b)


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write(tmp_path, [make_clip("a")])
    (clip,) = shards.read(tmp_path, columns=["mel"])
    assert clip.mel is not None
    assert clip.audio is None
    assert not clip.images
    with pytest.raises(KeyError, match="nonsense"):
        list(shards.read(tmp_path, columns=["nonsense"]))


def test_shards_of_a_later_version_are_refused(tmp_path: Path) -> None:
    schema = make_schema(["box128"], {"schema_version": "3"})
    (tmp_path / shards.SHARDS).mkdir()
    with shards.ShardWriter(tmp_path / shards.SHARDS / "train-00000.parquet", schema) as writer:
        writer.add(make_clip("a"))
        writer.finish("train")
    with pytest.raises(
        PrepError, match=r"later version of `bench prep` \(schema 3, not 2\): update this suite"
    ):
        list(shards.read(tmp_path))


def test_a_data_set_says_by_which_version_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, [make_clip("a")])
    assert shards.schema_version(tmp_path) == 2
    assert shards.schema_version(Path(__file__).parents[1] / "history" / "data") == 1


def test_a_shard_describes_itself_as_its_writer_did(tmp_path: Path) -> None:
    info = write(tmp_path, [make_clip("a"), make_clip("b")])
    path = tmp_path / shards.SHARDS / info.name
    assert shards.describe(path, "train") == info
    assert info.bytes == path.stat().st_size
    assert (info.clips, info.frames, info.failures) == (2, 2 * T, 1)
    assert [f.reason for f in shards.shard_failures(path)] == ["it is empty"]


def test_a_row_group_is_one_clip(tmp_path: Path) -> None:
    info = write(tmp_path, [make_clip("a"), make_clip("b")])
    assert pq.ParquetFile(tmp_path / shards.SHARDS / info.name).num_row_groups == 2


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "1", [make_clip("a")])
    second = write(tmp_path / "2", [make_clip("a")])
    other = write(tmp_path / "3", [make_clip("a", seed=5)])
    assert first.sha256 == second.sha256 != other.sha256


def test_an_unfinished_shard_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "train-00000.parquet"
    with pytest.raises(RuntimeError), shards.ShardWriter(path, make_schema(["box128"])) as writer:
        writer.add(make_clip("a"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_shard_survives_a_failed_rewrite(tmp_path: Path) -> None:
    info = write(tmp_path, [make_clip("a")])
    path = tmp_path / shards.SHARDS / info.name
    with pytest.raises(RuntimeError), shards.ShardWriter(path, make_schema(["box128"])) as writer:
        writer.add(make_clip("b"))
        raise RuntimeError
    assert shards.sha256(path) == info.sha256


def test_pandas_opens_a_shard(tmp_path: Path) -> None:
    info = write(tmp_path, [make_clip("a", missing=())])
    frame = pd.read_parquet(tmp_path / shards.SHARDS / info.name)
    assert frame.loc[0, "clip_id"] == "a"
    assert frame.loc[0, "n_frames"] == T
    first = np.frombuffer(frame.loc[0, "landmarks"][0], "<f4").reshape(478, 3)
    np.testing.assert_array_equal(first, make_clip("a", missing=()).landmarks[0])


def test_huggingface_datasets_shows_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    from prep import images

    clip = make_clip("a", missing=(3,))
    picture = np.full((8, 8, 3), (250, 20, 30), np.uint8)
    clip.images["box128"] = [None if i == 3 else images.encode(picture, "png") for i in range(T)]
    info = write(tmp_path, [clip])
    path = str(tmp_path / shards.SHARDS / info.name)
    rows = datasets.load_dataset("parquet", data_files=path, cache_dir=str(tmp_path / "cache"))["train"]
    shown = rows[0]["box128"]
    assert shown[3] is None
    assert shown[0].size == (8, 8)
    assert shown[0].convert("RGB").getpixel((4, 4)) == (250, 20, 30)
    assert rows[0]["text"] == "HELLO"


@pytest.mark.parametrize("frames", [None, np.array([0, 3, 11]), np.array([5])])
def test_tensors_are_unpacked_with_and_without_gaps(tmp_path: Path, frames: np.ndarray | None) -> None:
    for missing in ((), (0, 3)):
        clip = make_clip("a", missing=missing)
        folder = tmp_path / str(len(missing))
        info = write(folder, [make_clip("b", 9), clip])
        table = pq.read_table(folder / shards.SHARDS / info.name, columns=["landmarks"])
        values = table.column("landmarks").combine_chunks()[1].values
        expected = clip.landmarks if frames is None else clip.landmarks[frames]
        np.testing.assert_array_equal(unpack(values, "landmarks", frames), expected)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    clip = make_clip("a")
    clip.landmarks = clip.landmarks[:, :68]
    with pytest.raises(ValueError, match="landmarks"):
        write(tmp_path, [clip])
    clip = make_clip("a")
    clip.images["box128"].pop()
    with pytest.raises(ValueError, match="box128"):
        write(tmp_path, [clip])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all, but long enough to be looked at"])
def test_what_is_not_a_shard_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / shards.SHARDS).mkdir()
    path = tmp_path / shards.SHARDS / "train-00000.parquet"
    path.write_bytes(content)
    with pytest.raises(PrepError, match=r"train-00000\.parquet is not a whole shard"):
        list(shards.read(tmp_path))


def test_a_foreign_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / shards.SHARDS).mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / shards.SHARDS / "train-00000.parquet")
    with pytest.raises(PrepError, match="was not written by `bench prep`"):
        list(shards.read(tmp_path))


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrepError, match="has no shards"):
        list(shards.read(tmp_path))
    with pytest.raises(PrepError, match=r"manifest\.json is missing"):
        shards.read_manifest(tmp_path)
    (tmp_path / shards.MANIFEST).write_text("{")
    with pytest.raises(PrepError, match=r"manifest\.json cannot be read"):
        shards.read_manifest(tmp_path)


def test_failures_are_written_sorted(tmp_path: Path) -> None:
    failures = [shards.Failure(i, "test", f"{i}.mp4", "video", "bad") for i in ("b", "a")]
    shards.write_failures(tmp_path, failures)
    assert shards.read_failures(tmp_path) == failures[::-1]
    shards.write_failures(tmp_path, [])
    assert shards.read_failures(tmp_path) == []


def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path) -> None:
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(OSError):
            write(tmp_path, [make_clip("a")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert list((tmp_path / shards.SHARDS).iterdir()) == []


def test_json_is_written_atomically_and_stably(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    shards.write_json(path, {"b": 1, "a": "ü"})
    shards.write_json(path, {"a": "ü", "b": 1})
    assert json.loads(path.read_text("utf-8")) == {"a": "ü", "b": 1}
    assert path.read_text("utf-8").index('"a"') < path.read_text("utf-8").index('"b"')
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
