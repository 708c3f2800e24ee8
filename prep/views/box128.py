"""The view of IP-LAP (Zhong et al., CVPR 2023): the box of its 131 landmarks."""

from __future__ import annotations

import numpy as np

from prep.landmark_sets import FACE_131
from prep.views.geometry import BoxView, Float, Int, landmark_box

#: Pixels around the landmarks; 25 at IP-LAP's inference.
MARGIN = 5.0


def _boxes(points: Float, frame_width: int, frame_height: int) -> Int:
    """The training crop: the box, truncated to whole pixels."""
    return landmark_box(points[:, FACE_131], (frame_width, frame_height), MARGIN).astype(np.int64)


VIEW = BoxView("box128", 128, 128, "IP-LAP: box of its 131 landmarks and 5 px, stretched to 128²", _boxes)
