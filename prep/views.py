"""Named crop geometries: which part of a frame each method sees, and how any point maps into it and back.

A view turns a clip's landmarks into one 2×3 matrix a frame that maps full-frame pixels to view pixels. Both
are *continuous* coordinates: pixel (column j, row i) covers [j, j+1) × [i, i+1). Points map both ways with
:func:`map_points` and :func:`unmap_points`; the matrix, even as float32, is also all that a crop needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from prep.landmark_sets import IPLAP_131, IPLAP_CONTENT, IPLAP_POSE, MESH_TO_68

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """A crop geometry.

    Attributes:
        name: its key in :data:`VIEWS`.
        width: pixels of the cropped picture.
        height: pixels of the cropped picture.
        summary: one line for a person.
        antialias: whether the crop averages over source pixels where it shrinks. Otherwise OpenCV's plain
            bilinear rule applies, as in the official preprocessings.
        boxes: ``(points (T, 478, 2), frame_width, frame_height) -> (T, 4)`` integers x0, y0, x1, y1 that are
            stretched to the picture; None for the view that turns the face upright.
    """

    name: str
    width: int
    height: int
    summary: str
    boxes: Callable[[Float, int, int], Int] | None = field(repr=False)
    antialias: bool = False

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
            aligned: the frames are already aligned by FFHQ's rule, so that ``aligned512`` only scales them;
                the other views take no notice.

        Returns:
            (T, 2, 3) float64, full-frame to view pixels. A row is NaN where the frame was not detected, and
            where the landmarks put the crop wholly outside of the frame or make it smaller than a pixel.
        """
        points = np.asarray(landmarks, np.float64)[..., :2]
        usable = np.asarray(detected, bool) & np.isfinite(points).all(axis=(1, 2))
        matrices = np.full((len(points), 2, 3), np.nan)
        if not usable.any():
            return matrices
        if self.boxes is not None:
            boxes = self.boxes(points[usable], frame_width, frame_height)
            matrices[usable] = _stretch(boxes, frame_width, frame_height, self.width, self.height)
        elif aligned:
            matrices[usable] = [[self.width / frame_width, 0, 0], [0, self.height / frame_height, 0]]
        else:
            matrices[usable] = _align(points[usable], frame_width, frame_height, self.width)
        return matrices

    def crop(self, frame: Image, matrix: npt.ArrayLike) -> Image:
        """Cut the picture out of a frame.

        Boxes repeat the frame's edge where they leave it, ``aligned512`` mirrors it.

        Args:
            frame: (H, W, 3) uint8, the channels in any order.
            matrix: (2, 3), one row of :meth:`transforms`.

        Returns:
            (height, width, 3) uint8.

        Raises:
            ValueError: the matrix has a NaN: this frame has no crop.
        """
        matrix = np.asarray(matrix, np.float64)
        if not np.isfinite(matrix).all():
            raise ValueError("this frame has no crop: its matrix is not finite")
        if self.boxes is None:
            return _crop_warped(frame, matrix, self.width, self.height)
        return _crop_box(frame, matrix, self.width, self.height, self.antialias)


def map_points(points: npt.ArrayLike, matrix: npt.ArrayLike) -> Float:
    """Map full-frame points into a view.

    Args:
        points: (..., 2) or (..., 3), full-frame pixels; a z is scaled like x.
        matrix: (2, 3), or (T, 2, 3) for points (T, N, 2 or 3).

    Returns:
        Points of the same shape in view pixels, float64.
    """
    points, matrix = np.asarray(points, np.float64), np.asarray(matrix, np.float64)
    return _affine(points, matrix[..., :2], matrix[..., 2], np.hypot(matrix[..., 0, 0], matrix[..., 1, 0]))


def unmap_points(points: npt.ArrayLike, matrix: npt.ArrayLike) -> Float:
    """Map points of a view back into the full frame: the inverse of :func:`map_points`, same shapes."""
    points, matrix = np.asarray(points, np.float64), np.asarray(matrix, np.float64)
    a, b, c, d = (matrix[..., i, j] for i in (0, 1) for j in (0, 1))
    inverse = np.stack([d, -b, -c, a], axis=-1) / np.expand_dims(a * d - b * c, -1)
    inverse = inverse.reshape(*matrix.shape[:-1], 2)
    offset = -np.einsum("...ij,...j->...i", inverse, matrix[..., 2])
    return _affine(points, inverse, offset, 1 / np.hypot(a, c))


def _affine(points: Float, linear: Float, offset: Float, depth_scale: Float) -> Float:
    if linear.ndim > 2:
        offset, depth_scale = offset[..., None, :], depth_scale[..., None]
    mapped = np.empty_like(points)
    mapped[..., :2] = points[..., :2] @ np.swapaxes(linear, -1, -2) + offset
    if points.shape[-1] == 3:
        mapped[..., 2] = points[..., 2] * depth_scale
    return mapped


def _stretch(boxes: Int, frame_width: int, frame_height: int, width: int, height: int) -> Float:
    """Matrices (T, 2, 3) that stretch boxes (T, 4) to a picture; NaN for boxes outside the frame."""
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
    # The box was of integers, so that rounding undoes a storage as float32 exactly.
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


def _align(points: Float, frame_width: int, frame_height: int, size: int) -> Float:
    """FFHQ's alignment (Karras et al., CVPR 2019, ``recreate_aligned_images``) as one similarity a frame.

    The square is centred between the eyes, shifted by a tenth of the way to the mouth; its half side is the
    larger of 2.0 eye distances and 1.8 eye-to-mouth distances; its upright is the mean of the eyes' and the
    mouth's. Eyes and mouth corners are those of :data:`~prep.landmark_sets.MESH_TO_68`.
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


def _crop_warped(frame: Image, matrix: Float, width: int, height: int) -> Image:
    """Warp by any affine matrix, mirrored beyond the frame's edge, free of aliasing where it shrinks."""
    shrink = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if shrink > 1:
        frame, matrix = _prefilter(frame, matrix, shrink, width, height)
    # OpenCV counts from the centre of the first pixel, the matrices from its corner.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    warped = cv2.warpAffine(
        frame, centred, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(warped, np.uint8)


def _prefilter(frame: Image, matrix: Float, shrink: float, width: int, height: int) -> tuple[Image, Float]:
    """Blur, and make smaller if it is far too large, the part of the frame that ``matrix`` looks at."""
    # The variance of Pillow's antialiased bilinear filter, in source pixels. What averaging over whole pixels
    # brings is taken off: sharpness must be a continuous function of scale, or it would flicker along a clip.
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
    """Span of an axis of ``size`` pixels that reading [low, high), mirrored at the ends, can touch.

    Its length is a multiple of ``step`` wherever the axis is long enough.
    """
    start = int(np.clip(np.floor(min(low, 2 * size - high)), 0, size - 1))
    length = int(np.clip(np.ceil(max(high, -low)) - start, 1, size))
    return start, min(start - (-length // step) * step, size)


def iplap_box(landmarks: npt.ArrayLike, frame_width: int, frame_height: int, margin: float = 5.0) -> Float:
    """Box of IP-LAP's 131 points, as its ``preprocess_video.py`` computes it.

    Args:
        landmarks: (T, 478, 2 or 3), full-frame pixels. From float64 the result is that of the official code
            to the last bit, from float32 it is within a thousandth of a pixel.
        frame_width: pixels.
        frame_height: pixels.
        margin: pixels added on each side: 5 in IP-LAP's preprocessing and training, 25 at its inference.

    Returns:
        (T, 4) float64 of x0, y0, x1, y1 in pixels, clipped to the frame, NaN where the landmarks are. IP-LAP
        crops the box truncated to integers, and normalises its training landmarks by the box as it is.
    """
    size = np.array([frame_width, frame_height], np.float64)
    # In units of the frame and back to pixels like the original, so that truncation sees the same bits.
    points = np.asarray(landmarks, np.float64)[:, IPLAP_131, :2] / size
    low = np.maximum(points.min(axis=1) - margin / size, 0)
    high = np.minimum(points.max(axis=1) + margin / size, 1)
    return np.concatenate([low * size, high * size], axis=1)


def iplap_normalise(landmarks: npt.ArrayLike, box: npt.ArrayLike) -> tuple[Float, Float]:
    """Landmarks in units of IP-LAP's box, in the order of its networks.

    Args:
        landmarks: (T, 478, 2 or 3), full-frame pixels.
        box: (T, 4) x0, y0, x1, y1: that of :func:`iplap_box` for training, its integer part for inference.

    Returns:
        pose (T, 74, 2) and content (T, 57, 2), float64, from 0 at the left and top of the box to 1 at its
        right and bottom.
    """
    points, box = np.asarray(landmarks, np.float64)[..., :2], np.asarray(box, np.float64)
    low, high = box[:, None, :2], box[:, None, 2:]
    return (points[:, IPLAP_POSE] - low) / (high - low), (points[:, IPLAP_CONTENT] - low) / (high - low)


def _iplap_crop(points: Float, frame_width: int, frame_height: int) -> Int:
    """IP-LAP's training crop (Zhong et al., CVPR 2023)."""
    return iplap_box(points, frame_width, frame_height).astype(np.int64)


def _wav2lip_crop(points: Float, frame_width: int, frame_height: int) -> Int:
    """Wav2Lip's crop (Prajwal et al., ACM MM 2020): the face box with room under the chin.

    Wav2Lip takes S3FD's box; the box of all mesh points, hairline to chin, stands for it here. Wav2Lip adds
    10 px under the chin to boxes that are about 100 px high on LRS2; here it is a tenth of the height, so
    that it means the same at every resolution. The box is
    clipped to the frame and not smoothed over time.
    """
    low, high = points.min(axis=1), points.max(axis=1)
    high[:, 1] += 0.1 * (high[:, 1] - low[:, 1])
    boxes = np.concatenate([np.floor(low), np.ceil(high)], axis=1)
    return np.clip(boxes, 0, [frame_width, frame_height, frame_width, frame_height]).astype(np.int64)


def dinet_crop_radius(
    landmarks68: npt.ArrayLike, frame_size: tuple[int, int], scale: float = 1.05
) -> tuple[bool, int]:
    """Radius of DINet's crop for a clip (Zhang et al., AAAI 2023, ``compute_crop_radius``).

    Args:
        landmarks68: (T, 68, 2), T > 0, iBUG's points in pixels; fractions are cut off, as officially.
        frame_size: width and height, pixels.
        scale: room around the face; officially drawn from 1.05 to 1.15 in training, and 1.05 at inference.

    Returns:
        Whether the official code would accept the clip (every crop inside the frame, and the largest radius
        no more than 1.5 times the smallest), and the radius in pixels, a multiple of 4.
    """
    points = np.asarray(landmarks68, np.float64).astype(np.int64)
    down = points[..., 1].max(axis=1) - points[:, 29, 1]
    across = points[:, 54, 0] - points[:, 48, 0]
    radii = np.maximum(down * scale, across * scale) // 2
    radius = (int(radii.max() / 4) + 1) * 4
    boxes = _dinet_boxes(points, radius)
    inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= frame_size).all()
    return bool(inside and radii.max() <= 1.5 * radii.min()), radius


def _dinet_boxes(points: Int, radius: int) -> Int:
    x, y, quarter = points[:, 33, 0], points[:, 29, 1], radius // 4
    return np.stack(
        [x - radius - quarter, y - radius, x + radius + quarter, y + 2 * radius + quarter], axis=-1
    )


def _dinet_crop(points: Float, frame_width: int, frame_height: int) -> Int:
    """Face crop of DINet and G4G: rows 128 to 383 and columns 32 to 287 of it are the 256² mouth region.

    One radius serves the whole clip. The official code works from OpenFace's points, this from the mesh
    (:data:`~prep.landmark_sets.MESH_TO_68`), and it drops a clip whose crop leaves the frame or whose face
    changes its size by more than half, where this repeats the frame's edge and keeps the clip's largest
    radius.
    """
    landmarks68 = points[:, MESH_TO_68].astype(np.int64)
    _, radius = dinet_crop_radius(landmarks68, (frame_width, frame_height))
    return _dinet_boxes(landmarks68, radius)


def lower_side(landmarks: npt.ArrayLike, frame_width: int, frame_height: int) -> int:
    """Side in pixels of Meta Talk's crop for a clip.

    The paper cuts 512, 768 or 1024 px "adapted to the face resolution" and does not say how. Here it is the
    smallest of them that holds the whole face when centred on the face's lower half, which takes 1.5 face
    heights, or 1024 where none does; but never more than the shorter side of the frame, so that small
    sources (LRS2 has 160²) are enlarged and not surrounded by a border.

    Args:
        landmarks: (T, 478, 2 or 3), T > 0, full-frame pixels, detected frames only. The median height counts.
        frame_width: pixels.
        frame_height: pixels.
    """
    height = float(np.median(np.ptp(np.asarray(landmarks)[..., 1], axis=1)))
    side = next((side for side in (512, 768) if side >= 1.5 * height), 1024)
    return min(side, frame_width, frame_height)


def _lower_crop(points: Float, frame_width: int, frame_height: int) -> Int:
    """Crop of Meta Talk: a square of the clip's :func:`lower_side` around jaw and lips.

    It is centred frame by frame, in whole pixels: a side of 512 is copied without any interpolation. Where it
    would leave the frame it is moved inside, so that no pixel is made up; a face wholly outside has no crop.
    """
    side = lower_side(points, frame_width, frame_height)
    lower = points[:, IPLAP_CONTENT]
    corner = np.round((lower.min(axis=1) + lower.max(axis=1) - side) / 2).astype(np.int64)
    frame = np.array([frame_width, frame_height])
    meets = ((corner < frame) & (corner > -side)).all(axis=1, keepdims=True)
    corner = np.where(meets, np.clip(corner, 0, frame - side), corner)
    return np.concatenate([corner, corner + side], axis=1)


#: All views by name, in the order of a shard's columns.
VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        View("box128", 128, 128, "IP-LAP: box of its 131 landmarks and 5 px, stretched to 128²", _iplap_crop),
        View("face96", 96, 96, "Wav2Lip: face box with room under the chin, stretched to 96²", _wav2lip_crop),
        View("aligned512", 512, 512, "LipFormer: upright by eyes and mouth (FFHQ's rule), 512²", None, True),
        View("mouth416x320", 320, 416, "G4G, DINet: face 416×320 around a 256² mouth region", _dinet_crop),
        View("lower512", 512, 512, "Meta Talk: 512-1024 px around the lower face, 512²", _lower_crop, True),
    )
}
