"""BlazeFace, MediaPipe's face detectors: short range (faces up to about 2 m away) and full range.

The same faces as of MediaPipe 0.10.21's graphs face_detection_short_range_cpu and face_detection_full_range_cpu.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prep.facemesh import boxes, region
from prep.facemesh.engine import INPUTS, Engine

Float32 = npt.NDArray[np.float32]

#: By the name of the network: cells along a side and anchors of a cell, of each output layer.
LAYERS = {
    "short_range": ((16, 2), (8, 6)),
    "full_range": ((48, 1),),
    "landmarker_detector": ((16, 2), (8, 6)),
}
#: By the name of the network: the smallest probability of a face. MediaPipe's Python solution for the full range asks
#: for 0.5, but its graph keeps its own.
LEAST = {"short_range": 0.5, "full_range": 0.6, "landmarker_detector": 0.5}
#: By the name of the network: two boxes are one face if their intersection over union is larger. FaceLandmarker's graph
#: keeps the default of its detector's options.
SAME = {"short_range": 0.3, "full_range": 0.3, "landmarker_detector": 0.5}


class BlazeFace:
    """A detector.

    Args:
        engine: that runs the network.
        network: a name in :data:`LAYERS`.
    """

    def __init__(self, engine: Engine, network: str) -> None:
        self._engine = engine
        self._network = network
        self._anchors = boxes.anchors(LAYERS[network])

    def __call__(self, frames: object, sizes: Sequence[tuple[int, int]]) -> list[Float32]:
        """Detect faces.

        Args:
            frames: taken by the engine.
            sizes: width and height of each.

        Returns:
            Of each frame (F, 16) float32, the most probable face first: x0, y0, x1, y1, then x and y of both eyes,
            nose, mouth and both ears, in parts of the frame's width and height.
        """
        side = INPUTS[self._network].side
        wholes = [region.letterbox(*size) for size in sizes]
        places = [(number, region.matrix(whole, side)) for number, whole in enumerate(wholes)]
        raw, logits = self._engine.run(self._network, frames, places)
        limits = LEAST[self._network], SAME[self._network]
        return [
            region.in_frame(boxes.faces(values, flags, self._anchors, side, *limits), whole, *size)
            for values, flags, whole, size in zip(raw, logits[..., 0], wholes, sizes, strict=True)
        ]
