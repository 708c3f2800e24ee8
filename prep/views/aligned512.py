"""The view of FFHQ and LipFormer: the face is rotated upright by eyes and mouth."""

from __future__ import annotations

import cv2
import numpy as np

from prep.landmark_sets import MESH_TO_68
from prep.views.geometry import Float, Image, View, unmap_points
from prep.warping import warp


class AlignedView(View):
    """A view that rotates the face upright; already aligned frames are only scaled."""

    def matrices(self, points: Float, frame_width: int, frame_height: int, aligned: bool) -> Float:
        """One similarity transform per frame."""
        if aligned:
            scaling = [[self.width / frame_width, 0, 0], [0, self.height / frame_height, 0]]
            return np.repeat([scaling], len(points), axis=0)
        return _align(points, frame_width, frame_height, self.width)

    def cut(self, frame: Image, matrix: Float) -> Image:
        """The crop of the matrix, see :func:`crop_warped`."""
        return crop_warped(frame, matrix, self.width, self.height)


def _align(points: Float, frame_width: int, frame_height: int, size: int) -> Float:
    """FFHQ's alignment (Karras et al., CVPR 2019, ``recreate_aligned_images``) as one similarity transform per frame.

    The centre of the square is between the eyes, shifted by a tenth of the distance to the mouth. Its half side is the
    larger of 2.0 eye distances and 1.8 eye-to-mouth distances. Its orientation is the mean of that of the eyes and
    that of the mouth. Eyes and mouth corners are those of :data:`~prep.landmark_sets.MESH_TO_68`.
    """
    points = points[:, MESH_TO_68]
    eye_left, eye_right = points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)
    eyes, eye_to_eye = (eye_left + eye_right) / 2, eye_right - eye_left
    eye_to_mouth = (points[:, 48] + points[:, 54]) / 2 - eyes
    axis = eye_to_eye + np.stack([eye_to_mouth[:, 1], -eye_to_mouth[:, 0]], axis=-1)
    length = np.hypot(*axis.T)
    half_side = np.maximum(2.0 * np.hypot(*eye_to_eye.T), 1.8 * np.hypot(*eye_to_mouth.T))
    centre = eyes + 0.1 * eye_to_mouth

    reach = half_side[:, None]
    usable = (length > 0) & (half_side >= 0.5)
    usable &= ((centre + reach > 0) & (centre - reach < [frame_width, frame_height])).all(axis=1)
    cos, sin = (axis[usable] / length[usable, None]).T * (size / 2 / half_side[usable])
    linear = np.array([[cos, sin], [-sin, cos]]).transpose(2, 0, 1)
    matrices = np.full((len(points), 2, 3), np.nan)
    matrices[usable, :, :2] = linear
    matrices[usable, :, 2] = size / 2 - np.einsum("tij,tj->ti", linear, centre[usable])
    return matrices


def crop_warped(frame: Image, matrix: Float, width: int, height: int) -> Image:
    """Warp by any affine matrix, mirrored beyond the frame's edge, without aliasing if it reduces the size."""
    shrink = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink > 1:
        frame, matrix = _prefilter(frame, matrix, shrink, width, height)
    # OpenCV counts from the centre of the first pixel, the matrices from its corner.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    return warp(frame, centred, (width, height), border=cv2.BORDER_REFLECT_101)


def _prefilter(frame: Image, matrix: Float, shrink: float, width: int, height: int) -> tuple[Image, Float]:
    """Blur the part of the frame that ``matrix`` uses, and reduce its size if it is much too large."""
    # The variance of Pillow's antialiased bilinear filter, in source pixels, minus the part from averaging over whole
    # pixels: sharpness must be a continuous function of scale, or it would flicker in a clip.
    reduction = max(1, int(shrink / 2))
    sigma = np.sqrt((shrink**2 - 1) / 6 - (reduction**2 - 1) / 12) / reduction
    radius = int(np.ceil(3 * sigma))
    corners = unmap_points([[0, 0], [width, 0], [0, height], [width, height]], matrix)
    margin = (radius + 2) * reduction
    (x0, y0), (x1, y1) = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    x0, x1 = _needed(x0, x1, frame.shape[1], reduction)
    y0, y1 = _needed(y0, y1, frame.shape[0], reduction)
    part = frame[y0:y1, x0:x1]
    small = max(1, round((x1 - x0) / reduction)), max(1, round((y1 - y0) / reduction))
    if reduction > 1:
        part = np.asarray(cv2.resize(part, small, interpolation=cv2.INTER_AREA), np.uint8)
    part = np.asarray(cv2.GaussianBlur(part, (2 * radius + 1, 2 * radius + 1), sigma), np.uint8)
    to_frame = np.array([[(x1 - x0) / small[0], 0, x0], [0, (y1 - y0) / small[1], y0], [0, 0, 1]])
    return part, matrix @ to_frame


def _needed(low: float, high: float, size: int, step: int) -> tuple[int, int]:
    """Span of an axis of ``size`` pixels that is needed to read [low, high), mirrored at the ends.

    Its length is a multiple of ``step`` wherever the axis is long enough.
    """
    start = int(np.clip(np.floor(min(low, 2 * size - high)), 0, size - 1))
    length = int(np.clip(np.ceil(max(high, -low)) - start, 1, size))
    return start, min(start - (-length // step) * step, size)


VIEW = AlignedView("aligned512", 512, 512, "LipFormer: upright by eyes and mouth (FFHQ's rule), 512²")
