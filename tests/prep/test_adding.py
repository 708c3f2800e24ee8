"""Adding views to a prepared data set."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prep import adding, clip, landmarks, shards
from prep.adding import add_views, extend_shard
from prep.derived import DerivedSpec, finish_derivation, open_derivation, write_sidecar
from prep.derived_reading import find
from prep.errors import PrepError
from prep.options import PrepOptions
from prep.pipeline import make_shard, plan_shards, prepare, provenance, select
from prep.sample_spec import Column
from prep.schema import schema_views
from prep.shard_tasks import PrepProgress
from prep.sources import get_source
from prep.sources.base import ClipRef
from tests.prep.fakes import fake_clip, write_fake_dataset
from tests.prep.test_pipeline import contents, copy
from tests.prep.trees import plant

OPTIONS = PrepOptions(source="lrs2", name="lrs2", views=("box128",), clips_per_shard=2)
ADDED = ("aligned512", "mouth416x320", "face96")
ALL = replace(OPTIONS, views=(*OPTIONS.views, *ADDED))


def refs_of(root: Path) -> list[ClipRef]:
    return select(list(get_source("lrs2").list_clips(root)), 2)


@pytest.fixture(scope="module")
def prepared(toy_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of each split with one view."""
    out = tmp_path_factory.mktemp("adding") / "data"
    prepare(refs_of(toy_corpus), toy_corpus, out, OPTIONS, workers=2)
    return out


@pytest.fixture
def data(prepared: Path, tmp_path: Path) -> Path:
    return copy(prepared, tmp_path / "data")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in this process instead of workers."""

    def compute(tasks: list[Any], *_: object) -> Any:
        for task in tasks:
            yield task.run()

    monkeypatch.setattr(adding, "compute", compute)


def first_shard(data: Path) -> Path:
    return shards.shard_paths(data)[0]


def views_in(path: Path) -> list[str]:
    return schema_views(shards.open_shard(path).schema_arrow)


# --- the result


def test_the_result_is_byte_for_byte_that_of_all_views_at_once(
    toy_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With landmarks that float32 holds exactly, as stored ones are."""

    def rounded(*args: Any) -> landmarks.ClipLandmarks:
        found = landmarks.detect_clip(*args)
        return replace(found, landmarks=found.landmarks.astype(np.float32).astype(np.float64))

    monkeypatch.setattr(clip, "detect_clip", rounded)
    plan = plan_shards(refs_of(toy_corpus)[:2], 2)[0]
    for name, options in (("all", ALL), ("one", OPTIONS)):
        (tmp_path / name / "shards").mkdir(parents=True)

        make_shard(plan, toy_corpus, tmp_path / name, options, provenance(options))
    path = tmp_path / "one" / "shards" / plan.name
    info = extend_shard(path, toy_corpus, ADDED, ALL, frozenset())
    assert info.turned_off == 0
    assert info.sha256 == shards.sha256(path)
    assert path.read_bytes() == (tmp_path / "all" / "shards" / plan.name).read_bytes()


def test_the_result_agrees_with_all_views_at_once_and_keeps_what_was_there(
    toy_corpus: Path, prepared: Path, data: Path, tmp_path: Path
) -> None:
    seen: list[PrepProgress] = []
    manifest = add_views(data, ADDED, workers=2, on_progress=seen.append)
    assert manifest == shards.read_manifest(data)
    assert manifest["options"]["views"] == list(ALL.views)
    assert sum(p.shards for p in seen) == len(manifest["shards"])
    assert sum(p.clips for p in seen) == sum(s["clips"] for s in manifest["splits"].values())
    prepare(refs_of(toy_corpus), toy_corpus, tmp_path / "all", ALL, workers=2)
    for before, now, whole in zip(
        shards.read(prepared), shards.read(data), shards.read(tmp_path / "all"), strict=True
    ):
        assert now.images["box128"] == before.images["box128"]
        for name in ("landmarks", "detected", "audio", "mel", "n_faces"):
            np.testing.assert_array_equal(getattr(now, name), getattr(before, name))
        for view in ADDED:
            np.testing.assert_allclose(now.transforms[view], whole.transforms[view], rtol=1e-5, atol=1e-3)
            assert all(now.images[view])


def test_a_later_preparation_with_all_views_changes_nothing(toy_corpus: Path, data: Path, here: None) -> None:
    add_views(data, ["face96"])
    before = contents(data)
    prepare(refs_of(toy_corpus), toy_corpus, data, replace(OPTIONS, views=("box128", "face96")), workers=1)
    assert contents(data) == before


def test_a_later_preparation_with_other_views_says_what_to_do(
    toy_corpus: Path, data: Path, here: None
) -> None:
    add_views(data, ["face96"])
    with pytest.raises(PrepError, match=r"it has these and more: --views box128,face96$"):
        prepare(refs_of(toy_corpus), toy_corpus, data, OPTIONS, workers=1)
    more = replace(OPTIONS, views=("box128", "face96", "lower512"))
    with pytest.raises(PrepError, match=rf"add those: bench prep --out {data} --add-view lower512$"):
        prepare(refs_of(toy_corpus), toy_corpus, data, more, workers=1)


def test_a_view_that_is_there_already_is_left_alone(data: Path) -> None:
    before = contents(data)
    add_views(data, ["box128"])
    assert contents(data) == before


def test_failures_stay(toy_corpus: Path, tmp_path: Path, here: None) -> None:
    corpus = tmp_path / "corpus"
    shutil.copytree(toy_corpus, corpus)
    refs = refs_of(corpus)[:2]
    (corpus / refs[0].source).write_bytes(b"no video")
    out = tmp_path / "broken"
    prepare(refs, corpus, out, OPTIONS, workers=1)
    before = shards.read_failures(out)
    assert [failure.clip_id for failure in before] == [refs[0].clip_id]
    manifest = add_views(out, ["face96"])
    assert shards.read_failures(out) == before
    assert sum(counts["failures"] for counts in manifest["splits"].values()) == 1
    assert [clip.clip_id for clip in shards.read(out) if "face96" in clip.images] == [refs[1].clip_id]


DERIVED = DerivedSpec("length", (Column("frames", "clip"),))


def derive(data: Path) -> None:
    for task in open_derivation(data, DERIVED):
        write_sidecar(task, DERIVED, lambda row: {"frames": np.array(row.n_frames, np.float32)})
    finish_derivation(data, DERIVED)


def test_derived_columns_stay_valid(data: Path, here: None) -> None:
    derive(data)
    before = find(data, "length")
    add_views(data, ["face96"])
    assert find(data, "length").manifest == before.manifest
    assert not open_derivation(data, DERIVED)
    add_views(data, ["lower512"])
    assert find(data, "length").manifest == before.manifest


def test_derived_columns_of_shards_with_fewer_frames_are_not(data: Path, here: None) -> None:
    path = first_shard(data)
    shift(path, [3])
    manifest = shards.read_manifest(data)
    entry = next(entry for entry in manifest["shards"] if entry["name"] == path.name)
    entry["sha256"] = shards.sha256(path)
    shards.write_json(data / shards.MANIFEST, manifest)
    derive(data)
    assert "earlier" not in add_views(data, ["face96"])
    with pytest.raises(PrepError, match="derived from other shards"):
        find(data, "length")
    assert [task.shard for task in open_derivation(data, DERIVED)] == [path]


def test_frames_that_are_aligned_already_are_only_scaled(toy_corpus: Path, data: Path) -> None:
    path = first_shard(data)
    options = replace(OPTIONS, views=("box128", "aligned512"))
    source = shards.read_clip(shards.open_shard(path), 0).source
    extend_shard(path, toy_corpus, ["aligned512"], options, frozenset({source}))
    matrices = shards.read_clip(shards.open_shard(path), 0).transforms["aligned512"]
    np.testing.assert_array_equal(matrices, np.broadcast_to([[4, 0, 0], [0, 4, 0]], matrices.shape))


def test_the_aligned_pictures_of_ffhq_are_known(tmp_path: Path) -> None:
    names = [f"images1024x1024/00000/0000{i}" for i in range(2)]
    plant(tmp_path / "ffhq", *(f"{name}.png" for name in names))
    write_fake_dataset(tmp_path / "data", [fake_clip(name, 1, still=True) for name in names])
    paths = shards.shard_paths(tmp_path / "data")
    found = adding._sources(tmp_path / "ffhq", tmp_path / "data", paths, "ffhq")
    assert found == {paths[0]: frozenset(f"{name}.png" for name in names)}


# --- frames without a crop in the new view


def shift(path: Path, frames: list[int]) -> None:
    """Move the landmarks of some frames of each clip out of the frame, where a new view has no crop."""
    file = shards.open_shard(path)
    rows = [shards.read_clip(file, group) for group in range(file.num_row_groups)]
    with shards.ShardWriter(path, file.schema_arrow) as writer:
        for row in rows:
            row.landmarks = row.landmarks.copy()
            row.landmarks[frames] += 1000
            writer.add(row)
        writer.finish("")


def test_a_frame_without_a_crop_in_the_new_view_is_turned_off_in_all(toy_corpus: Path, data: Path) -> None:
    path = first_shard(data)
    shift(path, [3, 4])
    info = extend_shard(
        path, toy_corpus, ["face96"], replace(OPTIONS, views=("box128", "face96")), frozenset()
    )
    assert info.turned_off == 2 * info.clips
    file = shards.open_shard(path)
    for group in range(file.num_row_groups):
        row = shards.read_clip(file, group)
        assert np.flatnonzero(~row.detected).tolist() == [3, 4]
        assert np.isnan(row.landmarks[3:5]).all() and np.isfinite(row.landmarks[:3]).all()
        for view in ("box128", "face96"):
            assert [i for i, image in enumerate(row.images[view]) if image is None] == [3, 4]


def test_a_clip_with_too_few_crops_in_the_new_view_is_a_failure(toy_corpus: Path, data: Path) -> None:
    path = first_shard(data)
    clips = shards.open_shard(path).num_row_groups
    shift(path, list(range(20)))
    info = extend_shard(
        path, toy_corpus, ["face96"], replace(OPTIONS, views=("box128", "face96")), frozenset()
    )
    assert (info.clips, info.failures) == (0, clips)
    for failure in shards.shard_failures(path):
        assert re.fullmatch(r"a face in \d+ of \d+ frames, fewer than 50%", failure.reason)


# --- interruption


def test_an_interruption_leaves_a_readable_set_and_the_same_command_continues(
    toy_corpus: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def some(tasks: list[Any], *_: object, first: int) -> Any:
        for task in tasks[:first]:
            yield task.run()
        if first < len(tasks):
            tasks[first].run()  # A shard that was replaced, and that the manifest does not know yet.
            raise KeyboardInterrupt

    monkeypatch.setattr(adding, "compute", partial(some, first=1))
    with pytest.raises(KeyboardInterrupt):
        add_views(data, ["face96"])
    assert [len(views_in(path)) for path in shards.shard_paths(data)].count(2) == 2
    manifest = shards.read_manifest(data)
    assert (manifest["complete"], manifest["adding"]) == (True, ["face96"])
    assert manifest["options"]["views"] == ["box128"]
    assert all(set(row.images) >= {"box128"} for row in shards.read(data))
    with pytest.raises(PrepError, match=rf"finish that first: bench prep --out {data} --add-view face96$"):
        prepare(refs_of(toy_corpus), toy_corpus, data, OPTIONS, workers=1)
    with pytest.raises(PrepError, match="the views face96 are being added"):
        add_views(data, ["lower512"])
    monkeypatch.setattr(adding, "compute", partial(some, first=9))
    ended = add_views(data, ["face96"])
    assert "adding" not in ended and ended["options"]["views"] == ["box128", "face96"]
    for entry in ended["shards"]:
        assert shards.sha256(data / shards.SHARDS / entry["name"]) == entry["sha256"]
        assert views_in(data / shards.SHARDS / entry["name"]) == ["box128", "face96"]


# --- what cannot be done


def test_an_unknown_view(data: Path) -> None:
    with pytest.raises(PrepError, match="unknown view 'face69': did you mean face96"):
        add_views(data, ["face69"])


def test_a_set_that_is_not_complete(data: Path) -> None:
    shards.write_json(data / shards.MANIFEST, {**shards.read_manifest(data), "complete": False})
    with pytest.raises(PrepError, match="is not complete: finish it"):
        add_views(data, ["face96"])


def test_a_missing_source_is_said_before_anything_is_written(
    toy_corpus: Path, data: Path, tmp_path: Path, here: None
) -> None:
    corpus = tmp_path / "moved"
    shutil.copytree(toy_corpus, corpus)
    lost = corpus / next(shards.read(data, columns=["source"])).source
    lost.unlink()
    before = contents(data)
    with pytest.raises(PrepError, match=rf"{lost} is missing \(1 source files"):
        add_views(data, ["face96"], root=corpus)
    assert contents(data) == before


def test_another_source_of_the_same_name_is_refused_and_nothing_is_lost(
    toy_corpus: Path, data: Path, tmp_path: Path, here: None
) -> None:
    corpus = tmp_path / "moved"
    shutil.copytree(toy_corpus, corpus)
    rows = list(shards.read(data, columns=["source"]))
    for listing in corpus.rglob("*.txt"):
        listing.unlink()  # The lists of a corpus of videos are not needed.
    shutil.copy(corpus / rows[-1].source, corpus / rows[0].source)
    with pytest.raises(PrepError, match=f"does not give the frames that {rows[0].clip_id} was prepared from"):
        add_views(data, ["face96"], root=corpus)
    assert set(map(len, map(views_in, shards.shard_paths(data)))) <= {1, 2}
    shutil.copy(toy_corpus / rows[0].source, corpus / rows[0].source)
    assert add_views(data, ["face96"], root=corpus)["root"] == str(corpus)


def test_a_schema_of_an_earlier_version_keeps_its_version(toy_corpus: Path, data: Path) -> None:
    path = first_shard(data)
    file = shards.open_shard(path)
    rows = [shards.read_clip(file, group) for group in range(file.num_row_groups)]
    old = file.schema_arrow.with_metadata(
        {**file.schema_arrow.metadata, b"schema_version": b"0", b"suite_version": b"0.1"}
    )
    old = old.remove(old.get_field_index("av_difference"))
    with shards.ShardWriter(path, old) as writer:
        for row in rows:
            writer.add(row)
        writer.finish("")
    extend_shard(path, toy_corpus, ["face96"], replace(OPTIONS, views=("box128", "face96")), frozenset())
    schema = shards.open_shard(path).schema_arrow
    assert (schema.metadata[b"schema_version"], schema.metadata[b"suite_version"]) == (b"0", b"0.1")
    assert json.loads(schema.metadata[b"options"])["views"] == ["box128", "face96"]
    assert "av_difference" not in schema.names
    assert schema_views(schema) == ["box128", "face96"]
