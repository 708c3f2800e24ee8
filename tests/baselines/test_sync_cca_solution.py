"""Regularised canonical correlation from sums: known correlations, an independent implementation, the choice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.sync_cca.solution import Moments, Variates, ratios, solve, with_ridges

P, Q = 7, 9
TRUE = np.array([0.9, 0.6, 0.3])


def mixing(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(P, P) and (Q, Q): how sources become what is observed."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(P, P)), rng.normal(size=(Q, Q))


def person(frames: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two sets of variates with the canonical correlations 0.9, 0.6 and 0.3."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(frames, P)), rng.normal(size=(frames, Q))
    y[:, :3] = TRUE * x[:, :3] + np.sqrt(1 - TRUE**2) * y[:, :3]
    left, right = mixing()
    return (x @ left).astype(np.float32), (y @ right + 3).astype(np.float32)


def pooled(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.concatenate(part).astype(np.float64) for part in zip(*rows, strict=True))
    return x - x.mean(axis=0), y - y.mean(axis=0)


def by_qr(rows: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Canonical correlations by orthogonal bases of the rows (Björck and Golub, 1973)."""
    bases = [np.linalg.qr(part)[0] for part in pooled(rows)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


def test_without_a_ridge_they_are_those_of_another_implementation_and_near_the_true_ones() -> None:
    rows = [person(3000, seed) for seed in range(4)]
    found, chosen = solve([Moments.of(*r) for r in rows], [0.0], [0.0], 3)
    assert chosen.components == 3
    np.testing.assert_allclose(found.canonical.numpy(), by_qr(rows)[:3], atol=1e-5)
    np.testing.assert_allclose(found.canonical.numpy(), TRUE, atol=0.03)


def test_variates_have_variance_1_and_correlate_as_said() -> None:
    rows = [person(2000, seed) for seed in range(3)]
    found, _ = solve([Moments.of(*r) for r in rows], [0.0], [0.0], 3)
    x, y = pooled(rows)
    u, v = x @ found.x_basis.numpy(), y @ found.y_basis.numpy()
    np.testing.assert_allclose(np.cov(np.hstack([u, v]).T)[:3, :3], np.eye(3), atol=2e-3)
    np.testing.assert_allclose((u * v).mean(axis=0), found.canonical.numpy(), atol=1e-4)
    largest = found.x_basis.abs().argmax(0)
    assert (found.x_basis[largest, torch.arange(3)] > 0).all()


def test_a_ridge_is_added_to_the_mean_variance() -> None:
    rows = [person(2000, seed) for seed in range(3)]
    found, _ = solve([Moments.of(*r) for r in rows], [0.5], [0.2], 3)
    x, y = pooled(rows)
    xx, yy, xy = x.T @ x / len(x), y.T @ y / len(y), x.T @ y / len(x)
    xx += 0.5 * np.trace(xx) / P * np.eye(P)
    yy += 0.2 * np.trace(yy) / Q * np.eye(Q)
    # Eigenvalues of the usual product of inverses are squares of the correlations (Vinod 1976).
    values = np.linalg.eigvals(np.linalg.solve(xx, xy) @ np.linalg.solve(yy, xy.T)).real
    np.testing.assert_allclose(found.canonical.numpy() ** 2, np.sort(values)[::-1][:3], atol=1e-5)


def test_the_ratio_from_sums_is_the_mean_over_frames() -> None:
    rows = [person(1500, seed) for seed in range(3)]
    found, _ = solve([Moments.of(*r) for r in rows], [0.1], [0.1], 3)
    x, y = person(400, 9)
    u = (x - found.x_mean.numpy()) @ found.x_basis.numpy()
    v = (y - found.y_mean.numpy()) @ found.y_basis.numpy()
    rho = found.canonical.numpy()
    each = (rho * u * v - rho**2 * (u**2 + v**2) / 2) / (1 - rho**2) - np.log(1 - rho**2) / 2
    np.testing.assert_allclose(
        ratios(found, *Moments.of(x, y).covariances(found.x_mean, found.y_mean)).numpy(),
        each.mean(axis=0),
        atol=1e-4,
    )


def test_moments_add_up() -> None:
    a, b = person(50, 0), person(70, 1)
    both = Moments.of(*a) + Moments.of(*b)
    x, y = (np.concatenate(part).astype(np.float64) for part in zip(a, b, strict=True))
    np.testing.assert_allclose(both.xy.numpy(), x.T @ y, rtol=1e-5, atol=1e-3)
    assert both.n == 120 and both.xx.dtype == torch.float64
    kept = Moments.from_sums(both.sums())
    assert all(
        torch.equal(torch.as_tensor(getattr(kept, f)), torch.as_tensor(getattr(both, f))) for f in vars(both)
    )


def test_few_frames_want_a_ridge_and_few_components() -> None:
    """Of 12 frames a person, 7 + 9 directions cannot be learnt: the choice is another one than of 3,000."""
    few = [Moments.of(*person(12, seed)) for seed in range(4)]
    many = [Moments.of(*person(3000, seed)) for seed in range(4)]
    ridges = [1e-4, 1e-2, 1.0]
    _, poor = solve(few, ridges, ridges, 3)
    _, rich = solve(many, ridges, ridges, 3)
    assert (rich.lip_ridge, rich.sound_ridge) == (1e-4, 1e-4) and rich.components == 3
    assert poor.lip_ridge * poor.sound_ridge > rich.lip_ridge * rich.sound_ridge
    # What independent frames of this kind have: the mutual information of Gaussians.
    assert rich.held_out == pytest.approx(-0.5 * np.log(1 - TRUE**2).sum(), rel=0.05)
    assert poor.held_out < rich.held_out


def test_nothing_in_common_scores_nothing_on_held_out_persons() -> None:
    folds = []
    for seed in range(4):
        x, _ = person(2000, seed)
        _, y = person(2000, seed + 100)
        folds.append(Moments.of(x, y))
    found, chosen = solve(folds, [0.1], [0.1], 3)
    assert chosen.held_out < 0.01 and float(found.canonical[0]) < 0.1


def test_what_never_changes_is_named() -> None:
    x, y = person(100, 0)
    still = [Moments.of(np.zeros_like(x), y)] * 2
    with pytest.raises(ValueError, match="the lips of all clips never change"):
        solve(still, [0.1], [0.1], 3)
    silent = [Moments.of(x, np.full_like(y, 0.5))] * 2
    with pytest.raises(ValueError, match="the sound of all clips never change"):
        solve(silent, [0.1], [0.1], 3)
    assert isinstance(solve([Moments.of(x, y)] * 2, [0.1], [0.1], 3)[0], Variates)


def test_given_ridges_find_what_the_choice_would() -> None:
    folds = [Moments.of(*person(400, seed)) for seed in range(3)]
    wanted, chosen = solve(folds, [0.7], [2.0], 3)
    found = with_ridges(folds[0] + folds[1] + folds[2], 0.7, 2.0, chosen.components)
    for name in ("x_mean", "y_mean", "x_basis", "y_basis", "canonical"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-6, atol=1e-8)
    still = Moments.of(np.zeros((50, P), np.float32), person(50, 0)[1])
    with pytest.raises(ValueError, match="the lips of all clips never change"):
        with_ridges(still, 1.0, 1.0, 2)
