"""Named index sets into the 478 points of MediaPipe FaceMesh (468 mesh vertices and 10 of the irises).

Left and right are from the person's perspective: the *right* eye is on the left of an unmirrored image. Rings are
closed contours in drawing order without a repeated end point; all sets are read-only int64 arrays.

IP-LAP's code (Zhong et al., CVPR 2023, ``preprocess_video.py``) splits 131 of the points into 74 for the head pose
and 57 for speech; the 57 are 17 of the jaw and 40 of the lips (its paper says 16 and 41). Here they are in the order
in which its networks read them; its files on disk hold the same points in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def _set(*parts: Sequence[int] | Indices) -> Indices:
    joined = np.concatenate([np.asarray(part, np.int64) for part in parts])
    joined.setflags(write=False)
    return joined


# The oval starts at the right temple, runs down and around the chin, and ends over the forehead.
FACE_OVAL = _set(
    [162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152],
    [377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389],
    [251, 284, 332, 297, 338, 10, 109, 67, 103, 54, 21],
)
JAW = FACE_OVAL[4:21]

# Upper edge of each brow from one side of the image to the other, then the lower edge.
RIGHT_BROW = _set([70, 63, 105, 66, 107], [55, 65, 52, 53, 46])
LEFT_BROW = _set([336, 296, 334, 293, 300], [276, 283, 282, 295, 285])

# From the root to the tip, and from one wing to the other across the tip.
NOSE_BRIDGE = _set([168, 6, 197, 195, 5])
NOSE_WINGS = _set([48, 115, 220, 45, 4, 275, 440, 344, 278])

# From the corner on the left of the image along the upper lid, and back along the lower.
RIGHT_EYE = _set([33, 246, 161, 160, 159, 158, 157, 173, 133], [155, 154, 153, 145, 144, 163, 7])
LEFT_EYE = _set([362, 398, 384, 385, 386, 387, 388, 466, 263], [249, 390, 373, 374, 380, 381, 382])

# The pupil's centre, then four points of the iris' rim.
RIGHT_IRIS = _set(range(468, 473))
LEFT_IRIS = _set(range(473, 478))
IRISES = _set(RIGHT_IRIS, LEFT_IRIS)

# From the corner on the left of the image along the upper lip, and back along the lower.
LIPS_OUTER = _set(
    [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291], [375, 321, 405, 314, 17, 84, 181, 91, 146]
)
LIPS_INNER = _set(
    [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308], [324, 318, 402, 317, 14, 87, 178, 88, 95]
)
LIPS = _set(LIPS_OUTER, LIPS_INNER)

FACE_131_POSE = _set(
    FACE_OVAL[:4], FACE_OVAL[21:25], RIGHT_BROW, LEFT_BROW, NOSE_BRIDGE, NOSE_WINGS, RIGHT_EYE, LEFT_EYE
)
FACE_131_CONTENT = _set(JAW, LIPS_OUTER, LIPS_INNER)
FACE_131 = _set(FACE_131_POSE, FACE_131_CONTENT)

# The edges of IP-LAP's sketch: the oval without the forehead, no irises; edges are undirected.
_PATHS: list[list[int]] = [
    FACE_OVAL[:25].tolist(),
    *(part.tolist() for brow in (RIGHT_BROW, LEFT_BROW) for part in (brow[:5], brow[5:])),
    [*NOSE_BRIDGE.tolist(), 4],
    NOSE_WINGS.tolist(),
    *([*ring.tolist(), int(ring[0])] for ring in (RIGHT_EYE, LEFT_EYE, LIPS_OUTER, LIPS_INNER)),
]
FACE_131_EDGES: Indices = np.array([edge for path in _PATHS for edge in pairwise(path)], np.int64)
FACE_131_EDGES.setflags(write=False)

# FaceMesh vertices that correspond to the 68 points of iBUG's 300-W scheme, in its order. Named positions (corners,
# tip # of the nose, chin, nostrils) are used directly. Where 300-W spaces its points evenly along a contour, the
# vertex # nearest to that fraction of the contour's length was chosen, measured on frontal faces. The mesh follows
# the 3-D shape # of the head and not the visible outline, so on turned heads the jaw (0-16) differs from that of a
# 2-D detector.
MESH_TO_68 = _set(
    [127, 234, 93, 132, 172, 136, 149, 176, 152, 400, 378, 365, 397, 361, 323, 454, 356],  # 0-16 jaw
    RIGHT_BROW[:5],  # 17-21
    LEFT_BROW[:5],  # 22-26
    [168, 197, 5, 1],  # 27-30 bridge of the nose
    [98, 97, 2, 326, 327],  # 31-35 under the nose
    [33, 160, 158, 133, 153, 144],  # 36-41 right eye
    [362, 385, 387, 263, 373, 380],  # 42-47 left eye
    [61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91],  # 48-59 outer lips
    [78, 81, 13, 311, 308, 402, 14, 178],  # 60-67 inner lips
)

#: The sets that a training sample can contain, by name.
LANDMARK_SETS: dict[str, Indices] = {
    "mesh478": _set(range(478)),
    "mesh468": _set(range(468)),
    "ibug68": MESH_TO_68,
    "face131": FACE_131,
    "face131_pose": FACE_131_POSE,
    "face131_content": FACE_131_CONTENT,
    "face_oval": FACE_OVAL,
    "jaw": JAW,
    "lips": LIPS,
    "lips_outer": LIPS_OUTER,
    "lips_inner": LIPS_INNER,
    "right_eye": RIGHT_EYE,
    "left_eye": LEFT_EYE,
    "right_brow": RIGHT_BROW,
    "left_brow": LEFT_BROW,
    "nose_bridge": NOSE_BRIDGE,
    "nose_wings": NOSE_WINGS,
    "right_iris": RIGHT_IRIS,
    "left_iris": LEFT_IRIS,
    "irises": IRISES,
}
