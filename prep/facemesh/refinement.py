"""The 478 points from the outputs of the mesh with attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

#: A mesh of a smaller probability is dropped.
_LEAST = 0.5
#: Points of the mesh without irises; then five of the left and five of the right one, as in the picture.
_PLAIN = 468
#: Of each eye, the points whose mean z becomes that of the iris: the first of its refined points.
_ABOUT_IRIS = 16
#: Numbers of the refined points of lips, in the order of the network.
LIPS = [
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409, 78, 95,
    88, 178, 87, 14, 317, 402, 318, 324, 308, 191, 80, 81, 82, 13, 312, 311, 310, 415, 76, 77, 90, 180,
    85, 16, 315, 404, 320, 307, 306, 184, 74, 73, 72, 11, 302, 303, 304, 408, 62, 96, 89, 179, 86, 15,
    316, 403, 319, 325, 292, 183, 42, 41, 38, 12, 268, 271, 272, 407,
]  # fmt: skip
#: The same for the eye on the left of the picture, its lids and brow.
LEFT_EYE = [
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173, 130, 25, 110, 24, 23,
    22, 26, 112, 243, 247, 30, 29, 27, 28, 56, 190, 226, 31, 228, 229, 230, 231, 232, 233, 244, 113,
    225, 224, 223, 222, 221, 189, 35, 124, 46, 53, 52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245,
    156, 70, 63, 105, 66, 107, 55, 193,
]  # fmt: skip
#: The same for the eye on the right.
RIGHT_EYE = [
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398, 359, 255, 339, 254,
    253, 252, 256, 341, 463, 467, 260, 259, 257, 258, 286, 414, 446, 261, 448, 449, 450, 451, 452, 453,
    464, 342, 445, 444, 443, 442, 441, 413, 265, 353, 276, 283, 282, 295, 372, 340, 346, 347, 348, 349,
    350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417,
]  # fmt: skip


def refined(outputs: Sequence[Float32]) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Points (B, 478, 3) float32 in pixels of the input, and (B,) bool, whether it is a face, of the network's outputs:
    the mesh, refined lips, left and right eye, irises, logit of a face.

    As LandmarksRefinementCalculator: refined x and y replace those of the mesh; the irises have the mean z of the
    points about the eye.
    """
    mesh, lips, left, right, left_iris, right_iris, logits = (part.reshape(len(part), -1) for part in outputs)
    points = np.empty((len(mesh), _PLAIN + 10, 3), np.float32)
    points[:, :_PLAIN] = mesh.reshape(-1, _PLAIN, 3)
    for indices, values in ((LIPS, lips), (LEFT_EYE, left), (RIGHT_EYE, right)):
        points[:, indices, :2] = values.reshape(-1, len(indices), 2)
    for start, values, eye in ((_PLAIN, left_iris, LEFT_EYE), (_PLAIN + 5, right_iris, RIGHT_EYE)):
        points[:, start : start + 5, :2] = values.reshape(-1, 5, 2)
        depth = points[:, eye[:_ABOUT_IRIS], 2].mean(axis=1, dtype=np.float64)
        points[:, start : start + 5, 2] = depth[:, None]
    return points, is_face(logits)


def is_face(logits: Float32) -> npt.NDArray[np.bool_]:
    """Whether each mesh of a batch is one of a face, (B,) bool, by its logit: (B, …) float32 with one value each."""
    return 1 / (1 + np.exp(-logits.reshape(len(logits)))) > _LEAST
