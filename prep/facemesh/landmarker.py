"""FaceLandmarker: 478 points by Google's later network, of which the mesh is one output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prep.facemesh import region
from prep.facemesh.detector import FaceMesh
from prep.facemesh.refinement import is_face
from prep.mesh_search import POINTS

Float32 = npt.NDArray[np.float32]


class FaceLandmarker478(FaceMesh):
    """The detector and the mesh of ``face_landmarker.task`` (float16, version 1), as MediaPipe's FaceLandmarker.

    Its points lie about 1 % of the face box away from FaceMesh's. For confirmation and for small faces it needs the
    full-range detector of FaceMesh's networks, too.

    In 227 pictures (25 clips, portraits turned, cropped, resized and darkened, several faces) it finds the faces of the
    package, within 0.02 px at 512² (median 0.0005 px); in 80 pictures of two faces upon each other, too, within
    0.18 px. z is in the unit of x, as in FaceMesh; the package scales it by the frame's shape where a head is turned in
    a frame that is not square.

    Raises:
        PrepError: the weights cannot be had; the message says how to get them.
    """

    faces, mesh = "landmarker_detector", "landmarker_mesh"

    def _regions(self, faces: Float32, size: tuple[int, int]) -> Float32:
        """See the base class; they have the shapes of the boxes, and faces may overlap."""
        found: Float32 = region.regions(faces, *size, False)
        return found

    def _read(self, outputs: Sequence[Float32]) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """See the base class; the outputs are points and the logit of a face."""
        points, logits = outputs
        return points.reshape(-1, *POINTS), is_face(logits)
