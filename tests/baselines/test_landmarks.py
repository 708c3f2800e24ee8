"""Tools for landmarks: alignment, modes of movement, smoothing, drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes

from baselines.landmarks.drawing import drawn
from baselines.landmarks.fitting import SpaceConfig, SpaceStage
from baselines.landmarks.points import COUNT, IBUG, LOWER, MOUTH, PATHS, STEADY, UPPER
from baselines.landmarks.smoothing import Filter, smoothed
from baselines.landmarks.space import SIZE, LandmarkSpace, aligned, opening
from bench.train import train
from bench.weights.tensors import load_state_dict
from models.base import FitClip, Group, Unfit
from prep.landmark_sets import MESH_TO_68
from tests.prep.fakes import fake_dataset


def face(seed: int = 0) -> np.ndarray:
    """(68, 3) float64: a face that has an upright nose and level eyes."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (COUNT, 3)) * [80, 100, 30]
    points[36], points[45] = (-50, -30, 0), (50, -30, 0)
    points[27:31, 0], points[27:31, 1] = 0, np.linspace(-30, 20, 4)
    points[33] = (0, 30, 10)
    return points


def turned(points: np.ndarray, seed: int, dimensions: int = 3) -> np.ndarray:
    """(n, 68, 3): every face shifted, turned and scaled in another way."""
    rng = np.random.default_rng(seed)
    turns, _ = np.linalg.qr(np.eye(dimensions) + 0.3 * rng.normal(size=(len(points), dimensions, dimensions)))
    turns[np.linalg.det(turns) < 0, :, -1] *= -1
    found = np.array(points)
    found[..., :dimensions] = found[..., :dimensions] @ turns * rng.uniform(0.5, 2, (len(points), 1, 1))
    found[..., :dimensions] += rng.uniform(50, 300, (len(points), 1, dimensions))
    return found


def clip(points: np.ndarray, name: str = "clip") -> FitClip:
    """A clip whose 68 points are these; NaN rows stay."""
    mesh = np.zeros((len(points), 478, 3), np.float32)
    mesh[:, IBUG] = points
    mesh[np.isnan(points[:, 0, 0])] = np.nan
    return FitClip(name, name, mesh, np.zeros((80, 80), np.float32))


def talking(seed: int, frames: int = 40, ways: int = 2) -> np.ndarray:
    """(frames, 68, 3): one face whose points that are not steady move in so many ways, the first the strongest."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(9).normal(size=(ways, COUNT, 3))
    directions[:, list(STEADY)] = 0
    amounts = rng.normal(size=(frames, ways)) * np.geomspace(4, 1, ways)
    return (
        face()
        + np.random.default_rng(seed).normal(0, 2, (COUNT, 3))
        + np.einsum("fw,wpd->fpd", amounts, directions)
    )


def stage_of(modes: int = 2, dimensions: Any = 2) -> tuple[SpaceStage, LandmarkSpace]:
    space = LandmarkSpace(modes, dimensions)
    return SpaceStage(SpaceConfig(modes=modes), space), space


def fitted(
    clips: list[FitClip], modes: int = 2, dimensions: Any = 2
) -> tuple[LandmarkSpace, dict[str, float]]:
    stage, space = stage_of(modes, dimensions)
    figures: dict[str, float] = {}
    for number in range(len(stage.passes)):
        figures |= stage.take(number, [Group(1, 1, stage.sums(number, one)) for one in clips])
    return space, figures


def test_points_are_those_of_the_named_set() -> None:
    assert IBUG.tolist() == MESH_TO_68.tolist()
    assert sorted({point for path in PATHS for point in path}) == list(range(COUNT))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_alignment_undoes_the_movement_of_the_head(dimensions: int) -> None:
    shape = torch.from_numpy(face()[:, :dimensions])
    moved = torch.from_numpy(turned(np.repeat(face()[None], 6, axis=0), 1, dimensions)[..., :dimensions])
    torch.testing.assert_close(aligned(moved, shape), shape.expand_as(moved), atol=1e-9, rtol=0)
    # Of float32, to a thousandth of a pixel.
    torch.testing.assert_close(
        aligned(moved.float(), shape), shape.float().expand_as(moved), atol=1e-3, rtol=0
    )


def test_alignment_is_that_of_least_squares() -> None:
    """SciPy's Procrustes analysis, which may mirror, of points that need no mirror."""
    shape, other = (
        face()[list(STEADY)],
        (face() + np.random.default_rng(3).normal(0, 5, (COUNT, 3)))[list(STEADY)],
    )
    standard, nearest, _ = procrustes(shape, other)
    size = np.linalg.norm(shape - shape.mean(axis=0))
    full_shape, full_other = np.zeros((2, COUNT, 3))
    full_shape[list(STEADY)], full_other[list(STEADY)] = shape, other
    found = aligned(torch.from_numpy(full_other), torch.from_numpy(full_shape)).numpy()[list(STEADY)]
    np.testing.assert_allclose((found - shape.mean(axis=0)) / size, nearest, atol=1e-9)
    assert np.linalg.norm(standard) == pytest.approx(1)


def test_a_face_without_size_or_with_a_point_missing_is_nan() -> None:
    shape = torch.from_numpy(face())
    none = torch.full((COUNT, 3), 7.0, dtype=torch.float64)
    half = torch.from_numpy(face())
    half[30] = torch.nan
    assert bool(aligned(none, shape).isnan().all()) and bool(aligned(half, shape).isnan().all())


def test_the_space_finds_how_faces_move_whatever_heads_do() -> None:
    clips = [clip(turned(talking(seed), seed)) for seed in range(3)]
    space, figures = fitted(clips)
    assert figures["share"] > 0.999 and 0.7 < figures["share_1"] < 0.999
    assert figures["persons"] == 3 and figures["held_out"] > 0.999
    assert float(space.shape[:, :2].norm()) == pytest.approx(SIZE, rel=1e-5)
    torch.testing.assert_close(space.components @ space.components.T, torch.eye(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(space.mean, space.shape[:, :2].flatten())
    # A face that moves in these ways is given back, about its own shape.
    points = torch.from_numpy(turned(talking(7), 8))
    frontal = space.frontal(points)
    coefficients = space.coefficients(frontal)
    moved = frontal[:1] + space.movement(coefficients - coefficients[:1])
    torch.testing.assert_close(moved, frontal, atol=5e-3, rtol=0)
    assert float((frontal - frontal[:1]).abs().max()) > 0.1
    assert space.coefficients(space.mean).abs().max() < 1e-5


def test_depth_is_kept_where_it_is_asked_for() -> None:
    space, _ = fitted([clip(turned(talking(seed), seed)) for seed in range(3)], dimensions=3)
    assert space.components.shape == (2, 3 * COUNT)
    assert space.frontal(torch.from_numpy(face())).shape == (3 * COUNT,)
    assert float(space.components[:, 2::3].norm()) > 0.1


def test_in_the_plane_the_turns_of_a_head_stay() -> None:
    """A head that turns sideways changes the flat face, and hardly the frontal one."""
    space, _ = fitted([clip(turned(talking(seed), seed)) for seed in range(3)])
    angles = np.linspace(-0.3, 0.3, 7)
    yaw = np.array([[[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]] for a in angles])
    points = torch.from_numpy(face() @ yaw)
    assert float(space.frontal(points).std(dim=0).max()) < 1e-4
    assert float(space.flat(points).std(dim=0).max()) > 0.05
    torch.testing.assert_close(space.flat(points), space.flat(points[..., :2]))


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((9, COUNT, 3), np.nan), "fewer than 5 frames with a face"),
        (np.ones((9, COUNT, 3)), "with a face without size"),
    ],
)
def test_clips_that_give_nothing(points: np.ndarray, reason: str) -> None:
    stage, space = stage_of()
    space.shape.copy_(torch.from_numpy(face()))
    with pytest.raises(Unfit, match=reason):
        stage.sums(1, clip(points))


def test_faces_that_do_not_move_have_no_modes() -> None:
    still = [clip(np.repeat(face(seed)[None].round(), 9, axis=0)) for seed in range(2)]
    with pytest.raises(ValueError, match=r"fewer than 2 ways: fit fewer space\.modes"):
        fitted(still)


def test_a_space_is_fitted_from_prepared_data(tmp_path: Path) -> None:
    """By the runner, of a method that has such a stage."""
    fake_dataset(tmp_path / "data", {"train": 4, "val": 2}, views=("atvg128",))
    options = ["runner.device=cpu", "runner.tensorboard=false", "runner.workers=0"]
    done = train(
        "atvg", [tmp_path / "data"], preset="tiny", run=tmp_path / "run", overrides=options, stages=["space"]
    )
    assert 0 < done.best["space"]["held_out"] < 1
    (file,) = (tmp_path / "run" / "space").rglob("*space*.safetensors")
    space = LandmarkSpace(6)
    space.load_state_dict(load_state_dict(file))
    assert bool((space.deviations.diff() <= 0).all()) and float(space.deviations[-1]) > 0
    torch.testing.assert_close(space.components @ space.components.T, torch.eye(6), atol=1e-5, rtol=0)


def test_the_opening_of_lips_is_the_distance_of_their_middles() -> None:
    faces = torch.zeros(2, COUNT, 2)
    faces[1, UPPER, 1], faces[1, LOWER, 1] = 0.25, 0.75
    assert opening(faces.flatten(1)).tolist() == [0, 0.5]
    assert MOUTH.start <= UPPER < LOWER < MOUTH.stop


# Smoothing ----------------------------------------------------------------------------------------------------------


def test_no_filter_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    assert smoothed(values, "none") is values


def test_means_are_taken_of_frames_that_are_there() -> None:
    values = np.array([[0.0], [3.0], [6.0], [0.0]], np.float32)
    found = smoothed(values, "mean3")
    np.testing.assert_allclose(found[:, 0], [1.5, 3, 3, 3])
    assert found.dtype == np.float32
    np.testing.assert_allclose(smoothed(values, "mean5")[:, 0], [3, 2.25, 2.25, 3])


@pytest.mark.parametrize("name", ["savgol5", "savgol15", "savgol31"])
@pytest.mark.parametrize("count", [1, 3, 4, 6, 40])
def test_savitzky_and_golay_keep_a_cubic_and_calm_noise(name: Filter, count: int) -> None:
    time = np.arange(count, dtype=np.float64)
    cubic = (2 + time - 0.3 * time**2 + 0.01 * time**3)[:, None]
    np.testing.assert_allclose(smoothed(cubic, name), cubic, atol=1e-6)
    if count == 40:
        noise = np.random.default_rng(0).normal(size=(count, 3))
        assert np.abs(np.diff(smoothed(noise, name), axis=0)).mean() < np.abs(np.diff(noise, axis=0)).mean()


# Drawing ------------------------------------------------------------------------------------------------------------


def test_a_face_is_drawn_where_its_points_are() -> None:
    points = np.full((2, COUNT, 2), 0.5)
    # The jaw along the lower edge of the first picture; all else in one point.
    points[0, :17, 0], points[0, :17, 1] = np.linspace(0.1, 0.9, 17), 0.9
    first, second = drawn(points, 40)
    assert first.dtype == np.uint8 and first.shape == (40, 40, 3)
    line = (first < 250).any(axis=2)
    rows, columns = np.nonzero(line[30:])
    # y = 0.9 is the edge between two rows of pixels.
    assert set((rows + 30).tolist()) == {35, 36} and columns.min() in (3, 4) and columns.max() in (35, 36)
    assert (second < 250).any(axis=2).sum() < 12


def test_points_of_another_shape_are_not_drawn() -> None:
    with pytest.raises(ValueError, match=r"\(68, 2\) are not \(n, 68, 2\)"):
        drawn(np.zeros((COUNT, 2)), 40)
