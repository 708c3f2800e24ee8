"""What the linear sync judge sees and hears of a frame: lips without the movement of the head, and mel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from models.base import Section

Float = npt.NDArray[np.float64]

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
#: Columns of mel a frame: 80 a second against 25.
COLUMNS = 80 / 25
BANDS = 80


class Recipe(Section):
    """What is seen and heard of a frame.

    Attributes:
        lip_context: frames before and after a frame whose lips belong to it.
        sound_columns: columns of mel around the middle of a frame that belong to it.
    """

    lip_context: int = Field(ge=0)
    sound_columns: int = Field(ge=1)

    @property
    def lip_size(self) -> int:
        """P, numbers that are seen of a frame."""
        return (2 * self.lip_context + 1) * 2 * len(LIPS)

    @property
    def sound_size(self) -> int:
        """Q, numbers that are heard with a frame."""
        return self.sound_columns * BANDS


@dataclass(frozen=True)
class _Placed:
    """Points as complex numbers, x + iy, about the centre of the rigid ones."""

    rigid: npt.NDArray[np.complex128]
    lips: npt.NDArray[np.complex128]


def _placed(points: np.ndarray) -> _Placed:
    rigid, lips = (_complex(points[:, chosen, :2]) for chosen in (RIGID, LIPS))
    centre = rigid.mean(axis=1, keepdims=True)
    return _Placed(rigid - centre, lips - centre)


def _complex(points: np.ndarray) -> npt.NDArray[np.complex128]:
    return points[..., 0].astype(np.float64) + 1j * points[..., 1].astype(np.float64)


def rigid_shape(points: np.ndarray) -> Float:
    """The mean of the rigid points over the frames of a clip, each centred, upright and of size 1.

    Upright: the line from the right eye's outer corner to the left one's lies level.

    Args:
        points: (T, 478, 2 or more) float32, pixels; NaN rows where there is no face.

    Returns:
        (46, 2) float64; NaN if no frame shows a face.
    """
    placed = _placed(points[np.isfinite(points[:, 0, 0])])
    if not len(placed.rigid):
        return np.full((len(RIGID), 2), np.nan)
    # Points 33 and 263 of FaceMesh.
    eyes = placed.rigid[:, np.flatnonzero(RIGID == 263)] - placed.rigid[:, :1]
    size = np.sqrt((np.abs(placed.rigid) ** 2).sum(axis=1, keepdims=True))
    mean = (placed.rigid * np.conj(eyes) / np.abs(eyes) / size).mean(axis=0)
    return np.stack([mean.real, mean.imag], axis=1)


def lip_features(points: np.ndarray, shape: np.ndarray, context: int) -> npt.NDArray[np.float32]:
    """The lips of each frame and of those around it, without the movement of the head and without the clip's mean.

    The similarity (shift, rotation, scale) that brings the rigid points nearest to ``shape``, in the sense of least
    squares, is applied to the lips; in two dimensions it is one complex factor. A frame beyond an end is the last one.

    Args:
        points: (T, 478, 2 or more) float32, pixels of the full frame; NaN rows where there is no face.
        shape: (46, 2) float64, the rigid points of a face of size 1, centred.
        context: frames before and after.

    Returns:
        (T, (2 context + 1) · 80) float32 in units of the size of ``shape``, for each of these frames x and y of 40
        points; NaN rows where one of these frames has no face.
    """
    placed = _placed(points)
    with np.errstate(invalid="ignore"):
        size = (np.abs(placed.rigid) ** 2).sum(axis=1)
        turn = (np.conj(placed.rigid) * _complex(shape)).sum(axis=1) / size
        lips = placed.lips * turn[:, None]
    flat = np.stack([lips.real, lips.imag], axis=2).reshape(len(lips), -1)
    seen = np.isfinite(flat[:, 0])
    if seen.any():
        flat -= flat[seen].mean(axis=0)
    frames = np.arange(len(flat))[:, None] + np.arange(-context, context + 1)
    near = np.clip(frames, 0, max(0, len(flat) - 1))
    return flat.astype(np.float32)[near].reshape(len(flat), -1)


def sound_features(mel: np.ndarray, n_frames: int, columns: int) -> npt.NDArray[np.float32]:
    """The columns of mel around the middle of each frame, without the clip's mean of each band.

    A column beyond an end of the sound is the last one there.

    Args:
        mel: (C, 80) float32, 80 columns a second.
        n_frames: frames at 25 a second.
        columns: of a frame.

    Returns:
        (n_frames, columns · 80) float32, column after column; NaN rows of frames whose middle lies beyond the sound.
    """
    middle = ((np.arange(n_frames) + 0.5) * COLUMNS).astype(int)
    found = np.full((n_frames, columns * mel.shape[1]), np.nan, np.float32)
    heard = middle < len(mel)
    if heard.any():
        plain = mel - mel.mean(axis=0, dtype=np.float64).astype(np.float32)
        near = middle[heard, None] - columns // 2 + np.arange(columns)
        found[heard] = plain[np.clip(near, 0, len(mel) - 1)].reshape(int(heard.sum()), -1)
    return found
