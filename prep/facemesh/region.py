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
    """The smallest square about a whole frame of ``width`` × ``height`` pixels, as :func:`in_pixels`."""
    side = np.float32(max(width, height))
    return np.array(
        [_HALF * np.float32(width), _HALF * np.float32(height), side, side, np.float32(0)], np.float32
    )


@_compiled
def in_pixels(region, width, height):  # type: ignore[no-untyped-def]
    """A region, its middle and its size in pixels of the frame; (5,) float32."""
    across, down = np.float32(width), np.float32(height)
    return np.array(
        [region[0] * across, region[1] * down, region[2] * across, region[3] * down, region[4]], np.float32
    )


@_compiled
def in_frame(faces, square, width, height):  # type: ignore[no-untyped-def]
    """Detections (F, 16) float32 in parts of a letterbox, see :mod:`prep.facemesh.boxes` → in parts of the frame."""
    moved = np.empty(faces.shape, np.float32)
    for k in range(VALUES):
        part = np.float32(1) / np.float32(height if k % 2 else width)
        factor = square[2 + k % 2] * part
        shift = (square[k % 2] - _HALF * square[2 + k % 2]) * part
        for i in range(len(faces)):
            moved[i, k] = faces[i, k] * factor + shift
    return moved


@_compiled
def about(box, start, end, width, height, square=True):  # type: ignore[no-untyped-def]
    """The region about a face, turned so that the line between two points is horizontal.

    Args:
        box: (4,) float32, x0, y0, x1, y1, in parts of the frame.
        start: (2,) float32, in parts of the frame.
        end: (2,) float32, in parts of the frame.
        width: of the frame in pixels.
        height: of the frame in pixels.
        square: make both sides in pixels as long as the longer one.
    """
    across, down = np.float32(width), np.float32(height)
    turn = np.float32(-math.atan2(-(end[1] * down - start[1] * down), end[0] * across - start[0] * across))
    turn -= np.float32(2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi)))
    extent = box[2] - box[0], box[3] - box[1]
    x, y = box[0] + extent[0] / _TWO, box[1] + extent[1] / _TWO
    if square:
        side = max(extent[0] * across, extent[1] * down)
        extent = side / across, side / down
    return np.array([x, y, extent[0] * _LARGER, extent[1] * _LARGER, turn], np.float32)


@_compiled
def regions(faces, width, height, square=True):  # type: ignore[no-untyped-def]
    """Regions (F, 5) of detections (F, 16) in parts of the frame, turned by the line between the eyes; see
    :func:`about`."""
    found = np.empty((len(faces), 5), np.float32)
    for i in range(len(faces)):
        found[i] = about(faces[i, :4], faces[i, 4:6], faces[i, 6:8], width, height, square)
    return found


@_compiled
def distinct(regions):  # type: ignore[no-untyped-def]
    """Of regions (F, 5) that overlap only the last one; (R, 5)."""
    found = np.empty_like(regions)
    count = 0
    for region in regions:
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
def matrix(square, side):  # type: ignore[no-untyped-def]
    """(3, 3) float64, from columns and rows of ``side`` pixels to those of the frame, homogeneous.

    Args:
        square: (5,) float32 in pixels of the frame, :func:`in_pixels`.
        side: of the network's input.

    MediaPipe maps the corners of the region to (0, 0) and (side, side), not to the outer edges of the corner pixels, by
    OpenCV's ``boxPoints`` (float32), ``getPerspectiveTransform`` and ``warpPerspective``. In frames of many sizes, half
    of the pixels of a square lie exactly between two steps of 1/32 pixel, and the rounding errors of these functions
    decide between them. So the elimination and the inverse are calculated in their order.
    """
    x, y, across, down, turn = square
    angle = np.float64(np.float32(turn * 180.0 / math.pi)) * math.pi / 180.0
    cosine, sine = np.float32(math.cos(angle)) * _HALF, np.float32(math.sin(angle)) * _HALF
    # Bottom left, top left; the others lie opposite.
    x0, y0 = x - sine * down - cosine * across, y + cosine * down - sine * across
    x1, y1 = x + sine * down - cosine * across, y - cosine * down - sine * across
    corners = np.array([[x0, y0], [x1, y1], [_TWO * x - x0, _TWO * y - y0], [_TWO * x - x1, _TWO * y - y1]])
    end = float(side)
    places = np.array([[0.0, end], [0.0, 0.0], [end, 0.0], [end, end]])
    system, right = np.zeros((8, 8)), np.zeros(8)
    for i in range(4):
        for k in range(2):
            row = system[i + 4 * k]
            row[3 * k], row[3 * k + 1], row[3 * k + 2] = corners[i, 0], corners[i, 1], 1.0
            row[6], row[7] = -corners[i, 0] * places[i, k], -corners[i, 1] * places[i, k]
            right[i + 4 * k] = places[i, k]
    _solve(system, right)
    a, b, c, d, e, f, g, h = right
    factor = 1.0 / (a * (e - f * h) - b * (d - f * g) + c * (d * h - e * g))
    return np.array(
        [
            [(e - f * h) * factor, (c * h - b) * factor, (b * f - c * e) * factor],
            [(f * g - d) * factor, (a - c * g) * factor, (c * d - a * f) * factor],
            [(d * h - e * g) * factor, (b * g - a * h) * factor, (a * e - b * d) * factor],
        ]
    )


@_compiled
def _solve(system, right):  # type: ignore[no-untyped-def]
    """Gaussian elimination with the largest pivots of the columns; ``right`` becomes the solution."""
    size = len(right)
    for i in range(size):
        pivot = i
        for j in range(i + 1, size):
            if abs(system[j, i]) > abs(system[pivot, i]):
                pivot = j
        if pivot != i:
            for k in range(i, size):
                system[i, k], system[pivot, k] = system[pivot, k], system[i, k]
            right[i], right[pivot] = right[pivot], right[i]
        factor = -1.0 / system[i, i]
        for j in range(i + 1, size):
            times = system[j, i] * factor
            for k in range(i + 1, size):
                system[j, k] += times * system[i, k]
            right[j] += times * right[i]
    for i in range(size - 1, -1, -1):
        total = right[i]
        for k in range(i + 1, size):
            total -= system[i, k] * right[k]
        right[i] = total / system[i, i]


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
