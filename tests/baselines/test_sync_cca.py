"""The linear sync judge: what it sees and hears, and its scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.sync_cca.features import (
    LIPS,
    RIGID,
    Recipe,
    aligned,
    lip_features,
    rigid_shape,
    sound_features,
)
from baselines.sync_cca.model import CcaJudge
from prep import landmark_sets as sets
from prep.sample_spec import Sound
from prep.sound.features import FEATURES, chunk

RECIPE = Recipe(dimensions=3, lip_context=2, sound_columns=20, sound_lag=0, standardise=False)


def face(frames: int = 30, seed: int = 0) -> np.ndarray:
    """(frames, 478, 3) float32: a rigid face whose lips move."""
    rng = np.random.default_rng(seed)
    points = np.repeat(rng.uniform(100, 300, (1, 478, 3)), frames, axis=0)
    points[:, 263, :2], points[:, 33, :2], points[:, 4, :2] = (260, 150), (140, 150), (200, 220)
    points[:, LIPS] += rng.normal(0, 3, (frames, len(LIPS), 3))
    return points.astype(np.float32)


def moved(points: np.ndarray, dimensions: int = 3, seed: int = 1) -> np.ndarray:
    """The same face: every frame shifted, turned and scaled in another way."""
    rng = np.random.default_rng(seed)
    turns, _ = np.linalg.qr(np.eye(dimensions) + 0.4 * rng.normal(size=(len(points), dimensions, dimensions)))
    turns[np.linalg.det(turns) < 0, :, -1] *= -1
    out = points.astype(np.float64)
    plain = out[..., :dimensions]
    out[..., :dimensions] = rng.uniform(0.5, 2, (len(points), 1, 1)) * np.einsum("tnd,tde->tne", plain, turns)
    out[..., :dimensions] += rng.uniform(-50, 50, (len(points), 1, dimensions))
    return out.astype(np.float32)


def test_points_are_those_of_the_named_sets() -> None:
    rigid = [sets.RIGHT_EYE, sets.LEFT_EYE, sets.NOSE_BRIDGE, sets.NOSE_WINGS]
    assert RIGID.tolist() == np.concatenate(rigid).tolist()
    assert LIPS.tolist() == sets.LIPS.tolist()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_movement_of_the_head_leaves_lips_as_they_are(dimensions: int) -> None:
    recipe = RECIPE.model_copy(update={"dimensions": dimensions})
    points = face()
    shape = rigid_shape(points, dimensions)
    still = lip_features(points, shape, recipe)
    assert still.dtype == np.float32 and still.shape == (30, recipe.lip_size)
    np.testing.assert_allclose(lip_features(moved(points, dimensions), shape, recipe), still, atol=2e-5)
    assert still.std() > 1e-3


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_shape_of_a_face_is_seen_from_the_front(dimensions: int) -> None:
    points = face()
    shape = rigid_shape(points, dimensions)
    assert shape.shape == (46, dimensions)
    np.testing.assert_allclose(shape.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.square(shape).sum(), 1, rtol=1e-9)
    np.testing.assert_allclose(rigid_shape(moved(points, dimensions), dimensions), shape, atol=1e-5)
    right, left, nose = (shape[RIGID.tolist().index(point)] for point in (33, 263, 4))
    assert left[0] > right[0] and abs(left[1] - right[1]) < 1e-9 and nose[1] > left[1]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_similarity_is_that_of_least_squares(dimensions: int) -> None:
    """No other scale, rotation or shift near the one found brings the rigid points nearer to the shape."""
    points, shape = face(1), rigid_shape(face(20, seed=3), dimensions)
    plain = points[0, :, :dimensions].astype(np.float64)
    # Of the lips before and after, the map itself.
    found = aligned(points, shape)[0]
    before = np.hstack([plain[LIPS], np.ones((len(LIPS), 1))])
    linear, *_ = np.linalg.lstsq(before, found, rcond=None)
    np.testing.assert_allclose(before @ linear, found, atol=1e-8)
    turn, shift = linear[:-1], linear[-1]
    scale = np.linalg.det(turn) ** (1 / dimensions)
    np.testing.assert_allclose(turn.T @ turn, scale**2 * np.eye(dimensions), atol=1e-9)
    rigid, rng = plain[RIGID], np.random.default_rng(0)
    least = np.square(rigid @ turn + shift - shape).sum()
    for _ in range(50):
        skew = 1e-3 * rng.normal(size=(dimensions, dimensions))
        other = (1 + 1e-3 * rng.normal()) * turn @ np.linalg.qr(np.eye(dimensions) + skew - skew.T)[0]
        other *= np.sign(np.diag(other) @ np.diag(turn))
        moved_ = shift + 1e-3 * rng.normal(size=dimensions) * np.abs(shift)
        assert np.square(rigid @ other + moved_ - shape).sum() > least


def test_a_frame_without_face_takes_its_neighbours_along() -> None:
    points = face()
    points[10] = np.nan
    rows = np.isfinite(lip_features(points, rigid_shape(points, 3), RECIPE))
    seen = rows.all(axis=1)
    assert (rows.any(axis=1) == seen).all()
    assert np.flatnonzero(~seen).tolist() == [8, 9, 10, 11, 12]
    unseen = np.full_like(points, np.nan)
    assert np.isnan(lip_features(unseen, rigid_shape(points, 3), RECIPE)).all()
    with pytest.raises(ValueError, match="without a face"):
        rigid_shape(unseen, 3)


def test_sound_lies_around_the_middle_of_its_frame() -> None:
    mel = np.arange(160, dtype=np.float32)[:, None] * np.ones(80, np.float32)
    found = sound_features(mel, 50, RECIPE).reshape(50, 20, 80)[..., 0] + mel.mean()
    # Frame 20 lasts from column 64 to 67.2.
    assert found[20].tolist() == list(range(55, 75))
    assert found[0].tolist() == [0] * 9 + list(range(0, 11))
    assert found[49, -1] == 159
    late = RECIPE.model_copy(update={"sound_lag": 1})
    # One frame later, the middle lies in column 68.8.
    assert (sound_features(mel, 50, late).reshape(50, 20, 80)[20, :, 0] + mel.mean())[0] == 58
    stored = chunk(mel, 20, Sound("mel", columns=20, lead=9), FEATURES["mel"].rate)
    np.testing.assert_array_equal(found[20], stored[0])


def test_bands_are_standardised_in_each_clip() -> None:
    mel = np.random.default_rng(0).normal(2, 3, (320, 80)).astype(np.float32)
    mel[:, 7] = -4
    recipe = RECIPE.model_copy(update={"standardise": True, "sound_columns": 1})
    found = sound_features(mel, 100, recipe)
    loud = np.delete(np.arange(80), 7)
    assert (found[:, 7] == 0).all()
    np.testing.assert_allclose(found[:, loud].std(axis=0), 1, atol=0.25)
    np.testing.assert_allclose(sound_features(2 * mel + 1, 100, recipe)[:, loud], found[:, loud], atol=2e-3)


def test_frames_beyond_the_sound_have_none() -> None:
    heard = np.isfinite(sound_features(np.ones((32, 80), np.float32), 12, RECIPE)).all(axis=1)
    assert heard.tolist() == [True] * 10 + [False] * 2


def fitted(components: int = 3) -> CcaJudge:
    """A judge with random maps and known correlations."""
    torch.manual_seed(0)
    judge = CcaJudge(RECIPE, components)
    judge.shape = torch.from_numpy(rigid_shape(face(), 3))
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
