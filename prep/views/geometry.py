"""Common parts of views: the base class, boxes, and the mapping of points to a view and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]
#: Float32 or float64; results have the type of the input.
AnyFloat = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class View(ABC):
    """A crop geometry.

    Attributes:
        name: its key in :data:`prep.views.VIEWS`.
        width: pixels of the crop.
        height: pixels of the crop.
        summary: one descriptive line; it is stored in the shards.
    """

    name: str
    width: int
    height: int
    summary: str

    def transforms(
        self,
        landmarks: npt.ArrayLike,
        detected: npt.ArrayLike,
        frame_width: int,
        frame_height: int,
        aligned: bool = False,
    ) -> Float:
        """Compute the matrices of a whole clip.

        Args:
            landmarks: (T, 478, 2 or 3), full-frame pixels; NaN where nothing was detected.
            detected: (T,) bool.
            frame_width: pixels.
            frame_height: pixels.
            aligned: whether the frames are already aligned by FFHQ's rule. Then ``aligned512`` only scales them; other
                views ignore it.

        Returns:
            (T, 2, 3) float64, full-frame to view pixels. A row is NaN if no face was detected in the frame, or if the
            crop would be completely outside the frame or smaller than a pixel.
        """
        points = np.asarray(landmarks, np.float64)[..., :2]
        usable = np.asarray(detected, bool) & np.isfinite(points).all(axis=(1, 2))
        matrices = np.full((len(points), 2, 3), np.nan)
        if not usable.any():
            return matrices
        matrices[usable] = self.matrices(points[usable], frame_width, frame_height, aligned)
        return matrices

    def crop(self, frame: Image, matrix: npt.ArrayLike) -> Image:
        """Crop a frame.

        Outside the frame, boxes repeat the frame's edge, and ``aligned512`` mirrors the frame.

        Args:
            frame: (H, W, 3) uint8, the channels in any order.
            matrix: (2, 3), one row of :meth:`transforms`.

        Returns:
            (height, width, 3) uint8.

        Raises:
            ValueError: the matrix contains NaN, so this frame has no crop.
        """
        matrix = np.asarray(matrix, np.float64)
        if not np.isfinite(matrix).all():
            raise ValueError("this frame has no crop: its matrix is not finite")
        return self.cut(frame, matrix)

    @abstractmethod
    def matrices(self, points: Float, frame_width: int, frame_height: int, aligned: bool) -> Float:
        """As :meth:`transforms`, for (T, 478, 2) points, T > 0, of frames that all show a face."""

    @abstractmethod
    def cut(self, frame: Image, matrix: Float) -> Image:
        """As :meth:`crop`, for a finite (2, 3) matrix."""


@dataclass(frozen=True)
class BoxView(View):
    """A view that resizes a box of whole pixels to its size, without keeping the aspect ratio.

    Attributes:
        boxes: ``(points (T, 478, 2), frame_width, frame_height) -> (T, 4)`` integers x0, y0, x1, y1.
        antialias: whether the crop averages over source pixels if it becomes smaller. Otherwise OpenCV's bilinear
            interpolation is used, as in the official preprocessing code.
    """

    boxes: Callable[[Float, int, int], Int] = field(repr=False)
    antialias: bool = False

    def matrices(self, points: Float, frame_width: int, frame_height: int, aligned: bool) -> Float:
        """The matrices of the boxes."""
        boxes = self.boxes(points, frame_width, frame_height)
        return _stretch(boxes, frame_width, frame_height, self.width, self.height)

    def cut(self, frame: Image, matrix: Float) -> Image:
        """The resized box."""
        return _crop_box(frame, matrix, self.width, self.height, self.antialias)


def map_points(points: npt.ArrayLike, matrix: npt.ArrayLike) -> Float:
    """Map full-frame points to a view.

    Args:
        points: (..., 2) or (..., 3), full-frame pixels; a z is scaled like x.
        matrix: (2, 3), or (T, 2, 3) for points (T, N, 2 or 3).

    Returns:
        Points of the same shape in view pixels, float64.
    """
    points, matrix = np.asarray(points, np.float64), np.asarray(matrix, np.float64)
    return _affine(points, matrix[..., :2], matrix[..., 2], np.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))


def unmap_points(points: npt.ArrayLike, matrix: npt.ArrayLike) -> Float:
    """Map points of a view back to the full frame: the inverse of :func:`map_points`, same shapes."""
    points, matrix = np.asarray(points, np.float64), np.asarray(matrix, np.float64)
    a, b, c, d = (matrix[..., i, j] for i in (0, 1) for j in (0, 1))
    inverse = np.stack([d, -b, -c, a], axis=-1) / np.expand_dims(a * d - b * c, -1)
    inverse = inverse.reshape(*matrix.shape[:-1], 2)
    offset = -np.einsum("...ij,...j->...i", inverse, matrix[..., 2])
    return _affine(points, inverse, offset, 1 / np.hypot(a, c))


def similarities(points: Float, targets: Float) -> Float:
    """The similarity transforms that map points nearest to others, by least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, in the plane
    and without reflections.

    Args:
        points: (T, P, 2).
        targets: (T, P, 2) or (P, 2).

    Returns:
        (T, 2, 3); the scale is 0 where all points are one.
    """
    middle, aim = points.mean(axis=-2, keepdims=True), targets.mean(axis=-2, keepdims=True)
    a, b = points - middle, np.broadcast_to(targets - aim, points.shape)
    size = (a * a).sum(axis=(1, 2))
    cos = (a * b).sum(axis=(1, 2))
    sin = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(axis=1)
    cos, sin = (np.divide(one, size, out=np.zeros_like(size), where=size > 0) for one in (cos, sin))
    linear = np.stack([cos, -sin, sin, cos], axis=-1).reshape(-1, 2, 2)
    shift = np.swapaxes(aim, -1, -2) - linear @ np.swapaxes(middle, -1, -2)
    return np.concatenate([linear, shift], axis=2)


def _affine(points: Float, linear: Float, offset: Float, depth_scale: Float) -> Float:
    if linear.ndim > 2:
        offset, depth_scale = offset[..., None, :], depth_scale[..., None]
    mapped = np.empty_like(points)
    mapped[..., :2] = points[..., :2] @ np.swapaxes(linear, -1, -2) + offset
    if points.shape[-1] == 3:
        mapped[..., 2] = points[..., 2] * depth_scale
    return mapped


def _stretch(boxes: Int, frame_width: int, frame_height: int, width: int, height: int) -> Float:
    """Matrices (T, 2, 3) that map boxes (T, 4) to the view's size; NaN for boxes outside the frame."""
    x0, y0, x1, y1 = boxes.T
    usable = (x0 < np.minimum(x1, frame_width)) & (y0 < np.minimum(y1, frame_height)) & (x1 > 0) & (y1 > 0)
    matrices = np.full((len(boxes), 2, 3), np.nan)
    matrices[usable] = 0.0
    for axis, (low, high, size) in enumerate(((x0, x1, width), (y0, y1, height))):
        scale = size / (high - low)[usable]
        matrices[usable, axis, axis] = scale
        matrices[usable, axis, 2] = -low[usable] * scale
    return matrices


def _crop_box(frame: Image, matrix: Float, width: int, height: int, antialias: bool) -> Image:
    # The box had integer coordinates, so rounding restores it exactly from float32.
    (scale_x, _, offset_x), (_, scale_y, offset_y) = matrix
    x0, y0 = round(-offset_x / scale_x), round(-offset_y / scale_y)
    x1, y1 = x0 + round(width / scale_x), y0 + round(height / scale_y)
    frame_height, frame_width = frame.shape[:2]
    part = frame[max(y0, 0) : min(y1, frame_height), max(x0, 0) : min(x1, frame_width)]
    top, bottom, left, right = max(-y0, 0), max(y1 - frame_height, 0), max(-x0, 0), max(x1 - frame_width, 0)
    if top or bottom or left or right:
        part = np.asarray(cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)
    if part.shape[:2] == (height, width):
        return np.array(part)
    rule = cv2.INTER_AREA if antialias and x1 - x0 > width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (width, height), interpolation=rule), np.uint8)


def landmark_box(points: AnyFloat, frame_size: npt.ArrayLike, margin: float) -> AnyFloat:
    """The box around some landmarks, with a margin, clipped to the frame.

    In float64 it equals that of IP-LAP's ``preprocess_video.py`` to the last bit: it is computed in units of the
    frame and converted back, so truncation to whole pixels gives the same result. In float32 this would lose
    precision, so it is computed in pixels; it differs by less than a thousandth of a pixel.

    Args:
        points: (T, P, 2) float32 or float64, full-frame pixels; T > 0.
        frame_size: width and height, pixels.
        margin: pixels added on each side.

    Returns:
        (T, 4) x0, y0, x1, y1 of ``points``' type, in pixels; NaN where a point is NaN.
    """
    boxes = np.empty((len(points), 4), points.dtype)
    low, high = boxes[:, :2], boxes[:, 2:]
    points.min(axis=1, out=low)
    points.max(axis=1, out=high)
    if points.dtype == np.float32:
        low -= np.float32(margin)
        high += np.float32(margin)
        np.maximum(low, 0, out=low)
        np.minimum(high, np.asarray(frame_size, np.float32), out=high)
        return boxes
    size = np.asarray(frame_size, points.dtype)
    low[:] = np.maximum(low / size - margin / size, 0) * size
    high[:] = np.minimum(high / size + margin / size, 1) * size
    return boxes


def over_box(points: AnyFloat, boxes: npt.ArrayLike) -> AnyFloat:
    """Points in units of their box.

    Args:
        points: (T, P, 2) float, full-frame pixels.
        boxes: (T, 4) x0, y0, x1, y1, pixels.

    Returns:
        (T, P, 2), of the wider of the two types: from 0 at the left and top of the box to 1 at its right and bottom.
    """
    boxes = np.asarray(boxes)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    result: AnyFloat = points - low
    result /= high - low
    return result
