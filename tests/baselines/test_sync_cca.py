"""The linear sync judge: what it sees and hears, and its scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.sync_cca.features import LIPS, RIGID, Recipe, lip_features, rigid_shape, sound_features
from baselines.sync_cca.model import CcaJudge
from prep import landmark_sets as sets
from prep.sample_spec import Sound
from prep.sound.features import FEATURES, chunk

RECIPE = Recipe(lip_context=2, sound_columns=20)


def face(frames: int = 30, seed: int = 0) -> np.ndarray:
    """(frames, 478, 3) float32: a rigid face whose lips move."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.uniform(100, 300, (1, 478, 3)), frames, axis=0)
    points[:, 263, :2], points[:, 33, :2] = (260, 150), (140, 150)
    points[:, LIPS] += rng.normal(0, 3, (frames, len(LIPS), 3))
    return points.astype(np.float32)


def moved(points: np.ndarray, seed: int = 1) -> np.ndarray:
    """The same face: every frame shifted, turned and scaled in another way."""
    rng = np.random.default_rng(seed)
    angle, size = rng.uniform(-0.6, 0.6, len(points)), rng.uniform(0.5, 2, len(points))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    out = points.copy()
    out[..., :2] = np.einsum("tij,tnj->tni", size[:, None, None] * turn, points[..., :2].astype(np.float64))
    out[..., :2] += rng.uniform(-50, 50, (len(points), 1, 2))
    return out


def test_points_are_those_of_the_named_sets() -> None:
    rigid = [sets.RIGHT_EYE, sets.LEFT_EYE, sets.NOSE_BRIDGE, sets.NOSE_WINGS]
    assert RIGID.tolist() == np.concatenate(rigid).tolist()
    assert LIPS.tolist() == sets.LIPS.tolist()


def test_movement_of_the_head_leaves_lips_as_they_are() -> None:
    points = face()
    shape = rigid_shape(points)
    still = lip_features(points, shape, 2)
    assert still.dtype == np.float32 and still.shape == (30, RECIPE.lip_size)
    np.testing.assert_allclose(lip_features(moved(points), shape, 2), still, atol=2e-6)
    assert still.std() > 1e-3


def test_the_similarity_is_that_of_least_squares() -> None:
    points, shape = face(6), rigid_shape(face(20, seed=3))
    found = lip_features(points, shape, 0).reshape(6, -1, 2)
    for t in range(6):
        # Procrustes by singular values, scale and rotation (Umeyama, PAMI 1991).
        plain = points[t, :, :2].astype(np.float64)
        rigid = plain[RIGID] - plain[RIGID].mean(axis=0)
        u, s, vt = np.linalg.svd(rigid.T @ (shape - shape.mean(axis=0)))
        flip = np.diag([1.0, np.linalg.det(u) * np.linalg.det(vt)])
        scale = (s * np.diag(flip)).sum() / (rigid**2).sum()
        lips = scale * (plain[LIPS] - plain[RIGID].mean(axis=0)) @ (u @ flip @ vt)
        if t == 0:
            first, at_first = lips, found[t]
        np.testing.assert_allclose(found[t] - at_first, lips - first, atol=2e-6)


def test_a_frame_without_face_takes_its_neighbours_along() -> None:
    points = face()
    points[10] = np.nan
    seen = np.isfinite(lip_features(points, rigid_shape(points), 2)).all(axis=1)
    assert np.flatnonzero(~seen).tolist() == [8, 9, 10, 11, 12]
    assert np.isnan(lip_features(np.full_like(points, np.nan), rigid_shape(points), 2)).all()


def test_sound_lies_around_the_middle_of_its_frame() -> None:
    mel = np.arange(160, dtype=np.float32)[:, None] * np.ones(80, np.float32)
    found = sound_features(mel, 50, 20).reshape(50, 20, 80)[..., 0] + mel.mean()
    # Frame 20 lasts from column 64 to 67.2.
    assert found[20].tolist() == list(range(55, 75))
    assert found[0].tolist() == [0] * 9 + list(range(0, 11))
    assert found[49, -1] == 159
    stored = chunk(mel, 20, Sound("mel", columns=20, lead=9), FEATURES["mel"].rate)
    np.testing.assert_array_equal(found[20], stored[0])


def test_frames_beyond_the_sound_have_none() -> None:
    heard = np.isfinite(sound_features(np.ones((32, 80), np.float32), 12, 20)).all(axis=1)
    assert heard.tolist() == [True] * 10 + [False] * 2


def fitted(components: int = 3) -> CcaJudge:
    """A judge with random maps and known correlations."""
    torch.manual_seed(0)
    judge = CcaJudge(RECIPE, components)
    judge.shape = torch.from_numpy(rigid_shape(face()))
    judge.lip_basis = torch.randn_like(judge.lip_basis)
    judge.sound_basis = torch.randn_like(judge.sound_basis) / 40
    judge.canonical = torch.tensor([0.8, 0.5, 0.0][:components])
    return judge


def test_the_dot_product_is_the_log_likelihood_ratio() -> None:
    judge, points = fitted(), face()
    mel = np.random.default_rng(2).normal(size=(96, 80)).astype(np.float32)
    x, y = judge.variates_seen(points), judge.variates_heard(mel, 30)
    wanted = np.zeros(30)
    for k, rho in enumerate(judge.canonical.double().tolist()):
        pairs = torch.tensor(np.stack([x[:, k], y[:, k]], axis=1), dtype=torch.float64)
        covariance = torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)
        joint, apart = (
            torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), c)
            for c in (covariance, torch.eye(2, dtype=torch.float64))
        )
        wanted += (joint.log_prob(pairs) - apart.log_prob(pairs)).numpy()
    seen, heard = judge.see(points), judge.hear(mel, 30)
    assert seen.dtype == heard.dtype == np.float32 and seen.shape == heard.shape == (30, 5)
    np.testing.assert_allclose((seen * heard).sum(axis=1), wanted, rtol=1e-4, atol=1e-4)


def test_without_a_fit_all_scores_are_nought() -> None:
    judge, mel = CcaJudge(RECIPE, 4), np.ones((96, 80), np.float32)
    with np.errstate(all="ignore"):
        seen = judge.see(face())
    assert (np.nan_to_num(seen) @ judge.hear(mel, 30).T == 0).all()


@pytest.mark.parametrize("gap", [(5,), (5, 6, 20)])
def test_embeddings_have_no_value_without_a_face(gap: tuple[int, ...]) -> None:
    points = face()
    points[list(gap)] = np.nan
    seen = fitted().see(points)
    lost = {t + k for t in gap for k in range(-2, 3)}
    assert {t for t in range(30) if np.isnan(seen[t]).all()} == lost
    assert np.isfinite(seen[[t for t in range(30) if t not in lost]]).all()
