"""The view of Wav2Lip (Prajwal et al., ACM MM 2020): the face with a margin below the chin."""

from __future__ import annotations

import numpy as np

from prep.views.geometry import BoxView, Float, Int


def face_boxes(points: Float, frame_width: int, frame_height: int) -> Int:
    """Wav2Lip's crop (Prajwal et al., ACM MM 2020): the face box with a margin below the chin.

    Wav2Lip uses S3FD's box; here it is the box of all mesh points, from hairline to chin. Wav2Lip adds 10 px below the
    chin to boxes that are about 100 px high on LRS2; here the margin is a tenth of the height, so it is the same at
    every resolution. The box is clipped to the frame and not smoothed over time.
    """
    low, high = points.min(axis=1), points.max(axis=1)
    high[:, 1] += 0.1 * (high[:, 1] - low[:, 1])
    boxes = np.concatenate([np.floor(low), np.ceil(high)], axis=1)
    return np.clip(boxes, 0, [frame_width, frame_height, frame_width, frame_height]).astype(np.int64)


VIEW = BoxView("face96", 96, 96, "Wav2Lip: face box with room under the chin, stretched to 96²", face_boxes)
