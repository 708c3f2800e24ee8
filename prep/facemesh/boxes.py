"""From BlazeFace's output to faces: anchors, decoding, weighted non-maximum suppression.

As in MediaPipe 0.10.21's graphs face_detection_short_range and face_detection_full_range: SsdAnchorsCalculator,
TensorsToDetectionsCalculator, NonMaxSuppressionCalculator (WEIGHTED, intersection over union), all in float32.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

#: Values of a detection: x0, y0, x1, y1, then x and y of both eyes, nose, mouth and both ears, as seen by MediaPipe.
VALUES = 16

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


def anchors(layers: tuple[tuple[int, int], ...]) -> Float32:
    """Middles of the anchors (N, 2) as x, y, in parts of the input's side.

    Args:
        layers: of each output layer the cells along a side, and the anchors of a cell.
    """
    parts = []
    for cells, of_a_cell in layers:
        middles = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / np.float32(cells)
        y, x = np.meshgrid(middles, middles, indexing="ij")
        parts.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), of_a_cell, axis=0))
    return np.concatenate(parts).astype(np.float32)


def faces(
    raw: Float32, logits: Float32, middles: Float32, side: int, least: float, same: float = 0.3
) -> Float32:
    """The faces that a network sees in one picture.

    Args:
        raw: (N, 16) float32, of each anchor: middle, width and height of the box, six points, in pixels of the input,
            points relative to the anchor.
        logits: (N,) float32.
        middles: of the anchors, :func:`anchors`.
        side: of the input in pixels.
        least: smallest probability of a face.
        same: two boxes are one face if their intersection over union is larger.

    Returns:
        (F, 16) float32, see :data:`VALUES`, in parts of the input's side; the most probable first.
    """
    return _faces(raw, logits, middles, np.float32(side), np.float32(least), np.float32(same))


@_compiled
def _faces(raw, logits, middles, side, least, same):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    chosen = np.empty(len(logits), np.int64)
    scores = np.empty(len(logits), np.float32)
    count = 0
    for i in range(len(logits)):
        score = one / (one + np.exp(-min(max(logits[i], np.float32(-100)), np.float32(100))))
        if score >= least:
            chosen[count], scores[count] = i, score
            count += 1
    boxes = np.empty((count, VALUES), np.float32)
    kept = 0
    for j in range(count):
        i = chosen[j]
        x, y = raw[i, 0] / side + middles[i, 0], raw[i, 1] / side + middles[i, 1]
        width, height = raw[i, 2] / side, raw[i, 3] / side
        half = np.float32(2)
        boxes[kept, 0], boxes[kept, 1] = x - width / half, y - height / half
        boxes[kept, 2], boxes[kept, 3] = x + width / half, y + height / half
        if not (boxes[kept, 2] >= boxes[kept, 0] and boxes[kept, 3] >= boxes[kept, 1]):
            continue
        for k in range(4, VALUES):
            boxes[kept, k] = raw[i, k] / side + middles[i, k % 2]
        scores[kept] = scores[j]
        kept += 1
    return _merged(boxes[:kept], scores[:kept], same)


@_compiled
def _merged(boxes, scores, same):  # type: ignore[no-untyped-def]
    """Weighted means of the boxes that overlap the most probable one, and so on with the rest."""
    left = np.argsort(-scores, kind="mergesort")
    found = np.empty((len(scores), VALUES), np.float32)
    count = 0
    while len(left):
        best = boxes[left[0]]
        total = np.float32(0)
        sums = np.zeros(VALUES, np.float32)
        rest = np.empty(len(left), np.int64)
        n_rest = 0
        for i in left:
            box = boxes[i]
            across = min(best[2], box[2]) - max(best[0], box[0])
            down = min(best[3], box[3]) - max(best[1], box[1])
            shared = across * down if across > 0 and down > 0 else np.float32(0)
            both = (best[2] - best[0]) * (best[3] - best[1]) + (box[2] - box[0]) * (box[3] - box[1]) - shared
            if both > 0 and shared / both > same:
                total += scores[i]
                for k in range(VALUES):
                    sums[k] += box[k] * scores[i]
            else:
                rest[n_rest] = i
                n_rest += 1
        if n_rest == len(left):  # A box of no area overlaps nothing, not even itself.
            found[count] = best
            count += 1
            break
        for k in range(VALUES):
            found[count, k] = sums[k] / total
        count += 1
        left = rest[:n_rest]
    return found[:count]
