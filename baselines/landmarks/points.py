"""iBUG's 68 points of a face among FaceMesh's, and which of them say what."""

from __future__ import annotations

import numpy as np

#: How many points there are.
COUNT = 68
#: FaceMesh's points that are taken for iBUG's; the set ``ibug68`` of :data:`prep.landmark_sets.LANDMARK_SETS`.
IBUG = np.array(
    [
        *(127, 234, 93, 132, 172, 136, 149, 176, 152, 400, 378, 365, 397, 361, 323, 454, 356),
        *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
        *(168, 197, 5, 1, 98, 97, 2, 326, 327),
        *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
        *(61, 39, 37, 0, 267, 269, 291, 321, 314, 17, 84, 91, 78, 81, 13, 311, 308, 402, 14, 178),
    ]
)
#: Points that neither speech nor a blink moves much: the nose, and the corners of the eyes.
STEADY = (*range(27, 36), 36, 39, 42, 45)
#: The points of the mouth.
MOUTH = slice(48, 68)
#: The middle of the upper and of the lower lip, inside: their distance is how far the mouth is open.
UPPER, LOWER = 62, 66
#: Parts of a face as lines from point to point: jaw, brows, bridge and wings of the nose, eyes, outer and inner lips.
PATHS = (
    *(tuple(range(first, stop)) for first, stop in ((0, 17), (17, 22), (22, 27), (27, 31), (31, 36))),
    *((*range(first, stop), first) for first, stop in ((36, 42), (42, 48), (48, 60), (60, 68))),
)
