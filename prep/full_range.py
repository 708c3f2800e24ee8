"""MediaPipe's full-range face detector, and the parts of a frame in which it looks for small faces."""

from __future__ import annotations

import importlib
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from prep.quiet import silence

#: Side in pixels of the network's input.
INPUT = 192


class FullRange:
    """The detector; the network is loaded when it is first asked."""

    def __init__(self) -> None:
        self._network: Any = None

    def boxes(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Faces (F, 4) in a picture (H, W, 3) uint8 RGB: x0, y0, x1, y1 in pixels, the most certain first."""
        with silence() if self._network is None else nullcontext():
            if self._network is None:
                solution = importlib.import_module("mediapipe.python.solutions.face_detection")
                self._network = solution.FaceDetection(model_selection=1, min_detection_confidence=0.5)
            found = self._network.process(picture).detections or []
        boxes = [detection.location_data.relative_bounding_box for detection in found]
        corners = [(box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height) for box in boxes]
        return np.array(corners, np.float64).reshape(-1, 4) * (picture.shape[1::-1] * 2)

    def close(self) -> None:
        """Free the network."""
        if self._network is not None:
            self._network.close()


def regions(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """The whole frame, then squares along its longer side that overlap by half or more: x, y, width, height."""
    side, length = min(width, height), max(width, height)
    whole = (0, 0, width, height)
    if side == length:
        return [whole]
    # A strip is not cut into hundreds of squares.
    number = min(math.ceil(2 * (length - side) / side), 6) + 1
    places = [i * (length - side) // (number - 1) for i in range(number)]
    return [
        whole,
        *((place, 0, side, side) if width > height else (0, place, side, side) for place in places),
    ]
