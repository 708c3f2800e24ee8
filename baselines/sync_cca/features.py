"""What the linear sync judge sees and hears of a frame: lips without the movement of the head, and mel."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.base import Section

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

#: Points of FaceMesh that the mouth hardly moves, by which the movement of the head is removed: the sets ``right_eye``,
#: ``left_eye``, ``nose_bridge`` and ``nose_wings`` of :data:`prep.landmark_sets.LANDMARK_SETS`.
RIGID = np.array(
    [
        *(33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
        *(362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382),
        *(168, 6, 197, 195, 5),
        *(48, 115, 220, 45, 4, 275, 440, 344, 278),
    ]
)
#: The set ``lips``: the outer, then the inner contour.
LIPS = np.array(
    [
        *(61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146),
        *(78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95),
    ]
)
#: Outer corners of the right and the left eye, and the tip of the nose, in :data:`RIGID`.
_RIGHT, _LEFT, _NOSE = (int(np.flatnonzero(point == RIGID)[0]) for point in (33, 263, 4))
#: Columns of mel a frame: 80 a second against 25.
COLUMNS = 80 / 25
BANDS = 80
#: Added to the standard deviation of a band, so that a band without sound stays small; mel has values of -4 to 4.
_QUIET = 1e-3


class Recipe(Section):
    """What is seen and heard of a frame.

    Attributes:
        dimensions: of a point, 3: with its depth.
        lip_context: frames before and after a frame whose lips belong to it, at most a second.
        sound_columns: columns of mel that belong to a frame, at most two seconds.
        sound_lag: frames from the middle of a frame to the middle of its columns.
        standardise: every band of mel has standard deviation 1 in each clip; else only the mean is removed.
    """

    dimensions: Literal[2, 3]
    lip_context: int = Field(ge=0, le=25)
    sound_columns: int = Field(ge=1, le=160)
    sound_lag: int
    standardise: bool

    @property
    def lip_size(self) -> int:
        """P, numbers that are seen of a frame."""
        return (2 * self.lip_context + 1) * self.dimensions * len(LIPS)

    @property
    def sound_size(self) -> int:
        """Q, numbers that are heard with a frame."""
        return self.sound_columns * BANDS


def rigid_shape(points: np.ndarray, dimensions: int) -> Float:
    """The mean of the rigid points over the frames of a clip, each centred, of size 1, and seen from the front.

    From the front: the x axis leads from the right eye's outer corner to the left one's, and in three dimensions the
    tip of the nose lies in the plane of x and y, below.

    Args:
        points: (T, 478, 3) float32, pixels; NaN rows where there is no face.
        dimensions: D, 2 or 3.

    Returns:
        (46, D) float64.

    Raises:
        ValueError: no frame shows a face.
    """
    seen = points[np.isfinite(points[:, 0, 0])]
    if not len(seen):
        raise ValueError("without a face")
    rigid, size = _centred(seen[:, RIGID, :dimensions].astype(np.float64))
    x = _unit(rigid[:, _LEFT] - rigid[:, _RIGHT])
    if dimensions == 2:
        axes = np.stack([x, np.stack([-x[:, 1], x[:, 0]], axis=1)], axis=2)
    else:
        down = rigid[:, _NOSE] - (rigid[:, _LEFT] + rigid[:, _RIGHT]) / 2
        y = _unit(down - (down * x).sum(axis=1, keepdims=True) * x)
        axes = np.stack([x, y, np.cross(x, y)], axis=2)
    return np.einsum("tnd,tde->ne", rigid / size, axes) / len(rigid)


def aligned(points: np.ndarray, shape: np.ndarray) -> Float:
    """The lips after the similarity (shift, rotation, scale) that brings the rigid points nearest to ``shape``.

    Nearest in the sense of least squares: Umeyama, PAMI 1991, without reflections.

    Args:
        points: (T, 478, 3) float32, pixels; no NaN.
        shape: (46, D) float64, centred, of size 1.

    Returns:
        (T, 40, D) float64, in units of the size of ``shape``.
    """
    dimensions = shape.shape[1]
    plain = points[:, :, :dimensions].astype(np.float64)
    centre = plain[:, RIGID].mean(axis=1, keepdims=True)
    rigid = plain[:, RIGID] - centre
    u, s, vt = np.linalg.svd(np.einsum("tnd,ne->tde", rigid, shape))
    s[:, -1] *= (flip := np.sign(np.linalg.det(u) * np.linalg.det(vt)))
    u[:, :, -1] *= flip[:, None]
    scale = s.sum(axis=1) / np.square(rigid).sum(axis=(1, 2))
    turn = scale[:, None, None] * np.einsum("tij,tjk->tik", u, vt)
    return np.einsum("tnd,tde->tne", plain[:, LIPS] - centre, turn)


def lip_features(points: np.ndarray, shape: np.ndarray, recipe: Recipe) -> Float32:
    """The lips of each frame and of those around it, without the movement of the head and without the clip's mean.

    A frame beyond an end is the last one there.

    Args:
        points: (T, 478, 3) float32, pixels of the full frame, z scaled like x; NaN rows where there is no face.
        shape: (46, D) float64, the rigid points of a face of size 1, centred.
        recipe: what is seen.

    Returns:
        (T, P) float32 in units of the size of ``shape``: for each of the frames, D coordinates of 40 points; NaN rows
        where one of these frames has no face.
    """
    seen = np.isfinite(points[:, 0, 0])
    lips = np.full((len(points), len(LIPS) * recipe.dimensions), np.nan, np.float32)
    if seen.any():
        found = aligned(points[seen], shape).reshape(int(seen.sum()), -1)
        lips[seen] = found - found.mean(axis=0)
    frames = np.arange(len(lips))[:, None] + np.arange(-recipe.lip_context, recipe.lip_context + 1)
    near = np.clip(frames, 0, max(0, len(lips) - 1))
    rows = lips[near].reshape(len(lips), -1)
    rows[~seen[near].all(axis=1)] = np.nan
    return rows


def sound_features(mel: np.ndarray, n_frames: int, recipe: Recipe) -> Float32:
    """The columns of mel of each frame, without the clip's mean of each band.

    A column beyond an end of the sound is the last one there.

    Args:
        mel: (C, 80) float32, 80 columns a second.
        n_frames: frames at 25 a second.
        recipe: what is heard.

    Returns:
        (n_frames, Q) float32, column after column; NaN rows of frames whose middle lies beyond the sound.
    """
    count = recipe.sound_columns
    found = np.full((n_frames, recipe.sound_size), np.nan, np.float32)
    middle = np.arange(n_frames) + 0.5
    heard = (middle * COLUMNS).astype(int) < len(mel)
    if heard.any():
        plain = mel - mel.mean(axis=0, dtype=np.float64)
        if recipe.standardise:
            plain /= plain.std(axis=0) + _QUIET
        first = ((middle[heard] + recipe.sound_lag) * COLUMNS).astype(int) - count // 2
        columns = np.clip(first[:, None] + np.arange(count), 0, len(mel) - 1)
        found[heard] = plain.astype(np.float32)[columns].reshape(len(first), -1)
    return found


def _centred(points: Float) -> tuple[Float, Float]:
    """Points about their centre, and their size: (T, N, D), (T, 1, 1)."""
    centred = points - points.mean(axis=1, keepdims=True)
    return centred, np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True))


def _unit(vectors: Float) -> Float:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
