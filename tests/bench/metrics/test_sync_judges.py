"""Sync judges of one form: what they embed is what their metrics compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.sync_expert.landmark_network import LandmarkJudge
from baselines.sync_judges.scores import shifted_scores
from bench.common.errors import BenchError, Unscorable
from bench.eval.judging import PictureMetric, SyncNetMetric
from bench.metrics.base import Context
from bench.metrics.cca_file import find_cca, load_cca
from bench.metrics.expert_file import find_expert
from bench.metrics.lse_expert import LseExpert, distance_table
from bench.metrics.sync_judges import SyncNetJudge, build_judge, centred, find_judges
from bench.metrics.syncnet import distances
from bench.train.checkpoint import write_networks
from bench.train.config import load_config
from bench.weights.digests import file_sha256
from bench.weights.store import Entry, WeightStore
from prep.sound.mel import melspectrogram
from tests.bench.metrics import test_lse_expert, test_sync_cca
from tests.bench.metrics.fake_syncnet import moving_pictures, score, through_jpeg, voice, weight_store
from tests.bench.metrics.test_lse_expert import make_run, pattern, sound

STORE = WeightStore({"syncnet_v2": Entry(name="syncnet_v2", file="syncnet_v2.model")}, [])


def test_windows_belong_to_their_middle_frames() -> None:
    found = centred(np.arange(6.0).reshape(3, 2), 5, 9)
    np.testing.assert_array_equal(found[2:5], np.arange(6.0).reshape(3, 2))
    assert np.isnan(found[[0, 1, 5, 6, 7, 8]]).all()


def test_the_picture_expert_is_that_of_its_metric(tmp_path: Path) -> None:
    run = make_run(tmp_path / "expert")
    (file,), missing = find_judges((), (run,), STORE)
    assert [lack.metric for lack in missing] == ["CCA", "landmark expert", "SyncNet"]
    assert file.facts.sha256 == file_sha256(file.facts.file) == find_expert(run).sha256
    judge = build_judge(file, Context(STORE))
    metric = LseExpert(Context(STORE, sync_expert=find_expert(run)))
    crops = np.random.default_rng(0).integers(0, 256, (40, 96, 96, 3), np.uint8)
    audio = sound(pattern(40))
    lips, sounds = centred(judge.see(crops), 5, 40), judge.hear(audio)
    assert lips.shape == sounds.shape and len(sounds) == 40
    cosines = 1 - distance_table(metric.see(crops), metric.hear(audio, 36), np.ones(36, bool))
    np.testing.assert_allclose(shifted_scores(lips, sounds, 15)[2:-2], cosines, atol=1e-6)


def test_the_picture_expert_is_judged_by_what_changes(tmp_path: Path) -> None:
    """Embeddings less their means over the clip; of a still frame nothing is left."""
    (file,), _ = find_judges((), (make_run(tmp_path / "expert"),), STORE)
    metric = PictureMetric(build_judge(file, Context(STORE)), Context(STORE))
    audio = sound(pattern(40))
    frames = np.random.default_rng(0).integers(0, 256, (40, 100, 100, 3), np.uint8)
    found = test_lse_expert.score(metric, frames, audio).notes["embedded"]
    heard = metric.judge.hear(audio)
    for embedded, rows in ((found.lips, slice(2, 38)), (found.sounds, slice(2, 38))):
        assert np.isnan(embedded[[0, 1, 38, 39]]).all()
        np.testing.assert_allclose(embedded[rows].mean(axis=0), 0, atol=1e-6)
        assert np.abs(embedded[rows]).max() > 1e-3
    np.testing.assert_allclose(found.sounds[2:38], heard[2:38] - heard[2:38].mean(axis=0), atol=1e-6)
    still = test_lse_expert.score(metric, np.repeat(frames[:1], 40, axis=0), audio).notes["embedded"]
    np.testing.assert_allclose(still.lips[2:38], 0, atol=1e-6)


def test_cca_is_that_of_its_metric(tmp_path: Path) -> None:
    run = test_sync_cca.make_run(tmp_path / "cca")
    (found,), missing = find_judges((run,), (), STORE)
    assert [lack.metric for lack in missing] == ["landmark expert", "picture expert", "SyncNet"]
    assert [(d.name, d.manifest_sha256) for d in found.facts.training] == [
        (test_sync_cca.DATA["name"], test_sync_cca.DATA["manifest_sha256"])
    ]
    judge, network = build_judge(found, Context(STORE)), load_cca(find_cca(run))
    mouth = test_sync_cca.opening(60)
    points, audio = test_sync_cca.face(mouth), test_sync_cca.sound(mouth)
    np.testing.assert_array_equal(judge.see(points), network.see(points))
    np.testing.assert_array_equal(judge.hear(audio), network.hear(melspectrogram(audio), 60))


def test_the_landmark_expert_is_that_of_its_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = load_config("sync-expert", "landmarks", ["expert.channels=8"], (), tmp_path / "points")
    network = config.method_config.expert.build()  # type: ignore[attr-defined]
    write_networks(tmp_path / "points", "expert", {"expert": network.state_dict()}, "drawn by a test")
    config.save(tmp_path / "points")
    (found,), missing = find_judges((), (tmp_path / "points",), STORE)
    assert (found.facts.kind, [lack.metric for lack in missing]) == (
        "landmark expert",
        ["CCA", "picture expert", "SyncNet"],
    )
    judge, alone = build_judge(found, Context(STORE)), LandmarkJudge(network)
    mouth = test_sync_cca.opening(60)
    points, audio = test_sync_cca.face(mouth), test_sync_cca.sound(mouth)
    np.testing.assert_array_equal(judge.see(points), alone.see(points))
    np.testing.assert_array_equal(judge.hear(audio), alone.hear(melspectrogram(audio), 60))
    with pytest.raises(BenchError, match=r"uses the view landmarks, lse\.expert uses face96"):
        find_expert(tmp_path / "points")


def test_syncnets_scores_are_its_squared_distances(tmp_path: Path) -> None:
    store = weight_store(tmp_path)
    (file,), _ = find_judges((), (), store)
    assert (file.facts.name, file.facts.training) == ("SyncNet", ())
    judge = build_judge(file, Context(store))
    assert isinstance(judge, SyncNetJudge)
    pictures = np.stack(through_jpeg(moving_pictures(24, 224, 224)))
    audio = voice(24)
    scores = shifted_scores(centred(judge.see(pictures), 5, 24), judge.hear(audio), 3)
    # The reference drops the last window.
    table = distances(judge.net.lip_features(pictures[:-1]), judge.net.sound_features(audio, 19), 3)
    known = np.isfinite(scores[2:21])
    assert known.sum() == 19 * 7 - 2 * (1 + 2 + 3)
    np.testing.assert_allclose(-scores[2:21][known], np.square(table)[known], rtol=1e-4)


def test_syncnet_sees_frames_as_its_metric_does(tmp_path: Path) -> None:
    """Through the same JPEG, resized: as the crops of a face that fill the frame."""
    store = weight_store(tmp_path)
    (file,), _ = find_judges((), (), store)
    metric = SyncNetMetric(build_judge(file, Context(store)), Context(store))
    frames, audio = moving_pictures(40, 120, 100), voice(40)
    seen: list[np.ndarray] = []
    embed = metric.judge.see
    metric.judge.see = lambda pictures: seen.append(pictures) or embed(pictures)  # type: ignore[method-assign]
    found = score(metric, frames, audio)
    assert found.notes["embedded"].lips.shape == (40, 1026)
    import cv2

    expected = np.stack([cv2.resize(frame, (224, 224)) for frame in through_jpeg(frames)])
    np.testing.assert_array_equal(np.concatenate([seen[0], seen[1][4:]]), expected)


def test_too_little_sound_is_said(tmp_path: Path) -> None:
    (file,), _ = find_judges((), (make_run(tmp_path / "expert"),), STORE)
    judge = build_judge(file, Context(STORE))
    with pytest.raises(Unscorable, match="4 frames with sound, 5 are needed"):
        judge.hear(sound(pattern(4)))


def test_weights_that_are_replaced_meanwhile_are_refused(tmp_path: Path) -> None:
    (file,), _ = find_judges((), (make_run(tmp_path / "expert"),), STORE)
    make_run(tmp_path / "expert", seed=1)
    with pytest.raises(BenchError, match="was replaced meanwhile"):
        build_judge(file, Context(STORE))
