"""Where the mesh looks, and where its points lie in the frame.

As in MediaPipe 0.10.21's graph face_landmark_front_cpu: DetectionProjectionCalculator, DetectionsToRectsCalculator,
RectTransformationCalculator, AssociationNormRectCalculator, LandmarkProjectionCalculator, in float32. A region is (5,)
float32: x and y of the middle, width and height, all in parts of the frame's width and height, rotation in radians.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from prep.facemesh.boxes import VALUES

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")
_HALF, _TWO = np.float32(0.5), np.float32(2)
#: The region is so much larger than the box of the face.
_LARGER = np.float32(1.5)
#: A region replaces earlier ones with which it has a larger intersection over union.
_SAME = np.float32(0.5)


@_compiled
def letterbox(width, height):  # type: ignore[no-untyped-def]
    """The region of the smallest square about a whole frame of ``width`` × ``height`` pixels."""
    side = np.float32(max(width, height))
    return np.array(
        [_HALF, _HALF, side / np.float32(width), side / np.float32(height), np.float32(0)], np.float32
    )


@_compiled
def in_frame(faces, region):  # type: ignore[no-untyped-def]
    """Detections (F, 16) float32 in a region without rotation, see :mod:`prep.facemesh.boxes` → in parts of the
    frame."""
    moved = np.empty(faces.shape, np.float32)
    for i in range(len(faces)):
        for k in range(VALUES):
            extent = region[2 + k % 2]
            moved[i, k] = faces[i, k] * extent + (region[k % 2] - _HALF * extent)
    return moved


@_compiled
def about(box, start, end, width, height):  # type: ignore[no-untyped-def]
    """The square region about a face, turned so that the line between two points is horizontal.

    Args:
        box: (4,) float32, x0, y0, x1, y1, in parts of the frame.
        start: (2,) float32, in parts of the frame.
        end: (2,) float32, in parts of the frame.
        width: of the frame in pixels.
        height: of the frame in pixels.
    """
    across, down = np.float32(width), np.float32(height)
    turn = np.float32(-math.atan2(-(end[1] * down - start[1] * down), end[0] * across - start[0] * across))
    turn -= np.float32(2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi)))
    extent = box[2] - box[0], box[3] - box[1]
    side = max(extent[0] * across, extent[1] * down)
    return np.array(
        [
            box[0] + extent[0] / _TWO,
            box[1] + extent[1] / _TWO,
            side / across * _LARGER,
            side / down * _LARGER,
            turn,
        ],
        np.float32,
    )


@_compiled
def regions(faces, width, height):  # type: ignore[no-untyped-def]
    """Regions (R, 5) of detections (F, 16) in parts of the frame, turned by the line between the eyes; of two that
    overlap only the later one."""
    found = np.empty((len(faces), 5), np.float32)
    count = 0
    for i in range(len(faces)):
        region = about(faces[i, :4], faces[i, 4:6], faces[i, 6:8], width, height)
        kept = 0
        for j in range(count):
            if _overlap(region, found[j]) <= _SAME:
                found[kept] = found[j]
                kept += 1
        found[kept] = region
        count = kept + 1
    return found[:count]


@_compiled
def _overlap(a, b):  # type: ignore[no-untyped-def]
    """Intersection over union of two regions; rotations are not regarded."""
    shared = np.float32(1)
    for k in range(2):
        low = max(a[k] - a[2 + k] / _TWO, b[k] - b[2 + k] / _TWO)
        high = min(a[k] + a[2 + k] / _TWO, b[k] + b[2 + k] / _TWO)
        shared *= max(high - low, np.float32(0))
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@_compiled
def matrix(region, width, height, side):  # type: ignore[no-untyped-def]
    """(2, 3) float64, from columns and rows of a square of ``side`` pixels to those of the frame.

    MediaPipe maps the corners of the region to (0, 0) and (side, side), not to the outer edges of the corner pixels, by
    OpenCV's ``boxPoints``, ``getPerspectiveTransform`` and ``warpPerspective``, which inverts the matrix. Positions
    half way between two steps of 1/32 pixel are frequent; in which direction they are rounded depends on the rounding
    of that inverse, so it is calculated in the same way here.
    """
    across, down = region[2] * np.float32(width), region[3] * np.float32(height)
    x, y = region[0] * np.float32(width), region[1] * np.float32(height)
    angle = np.float64(np.float32(region[4] * 180.0 / math.pi)) * math.pi / 180.0
    cosine, sine = np.float32(math.cos(angle)) * _HALF, np.float32(math.sin(angle)) * _HALF
    # Three corners: top left, the one to the right of it, the one below it.
    left_x, left_y = (
        np.float64(x + sine * down - cosine * across),
        np.float64(y - cosine * down - sine * across),
    )
    below_x, below_y = x - sine * down - cosine * across, y + cosine * down - sine * across
    right_x, right_y = _TWO * x - below_x, _TWO * y - below_y
    u0, u1 = right_x - left_x, right_y - left_y
    v0, v1 = below_x - left_x, below_y - left_y
    area = u0 * v1 - v0 * u1
    # From the frame to the square.
    a = side / (area / v1) if v1 != 0 else 0.0
    d = side / (area / u0) if u0 != 0 else 0.0
    b, c = -v0 * side / area, -u1 * side / area
    e, f = -(a * left_x + b * left_y), -(c * left_x + d * left_y)
    factor = 1 / (a * d - b * c)
    return np.array(
        [
            [d * factor, -b * factor, (b * f - e * d) * factor],
            [-c * factor, a * factor, (e * c - a * f) * factor],
        ]
    )


@_compiled
def project(points, region):  # type: ignore[no-untyped-def]
    """Points (N, 3) float32 in parts of a region (z in the unit of x) → in parts of the frame, z in parts of its
    width."""
    cosine, sine = np.float32(math.cos(region[4])), np.float32(math.sin(region[4]))
    moved = np.empty(points.shape, np.float32)
    for i in range(len(points)):
        x, y = points[i, 0] - _HALF, points[i, 1] - _HALF
        moved[i, 0] = (cosine * x - sine * y) * region[2] + region[0]
        moved[i, 1] = (sine * x + cosine * y) * region[3] + region[1]
        moved[i, 2] = points[i, 2] * region[2]
    return moved
