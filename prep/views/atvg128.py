"""The view of ATVGnet: a face that is turned, scaled and moved so that its nose and eyes lie on a template's."""

from __future__ import annotations

import numpy as np

from prep.landmark_sets import MESH_TO_68
from prep.views.aligned512 import crop_warped
from prep.views.geometry import Float, Image, View, similarities, unmap_points

#: iBUG's points 27 to 44: nose, right eye, and the upper lid of the left one.
POINTS = MESH_TO_68[27:45]
#: (18, 2), pixels of the view. The mean of these points over 68 persons, in 120 clips prepared with FaceMesh, after
#: generalised Procrustes analysis and averaged with its mirror image. Its height in the picture and its size are those
#: of the official template, from which no point is more than 4 pixels away.
TEMPLATE = np.array(
    [
        *([64.0, 34.7], [64.0, 46.7], [64.0, 57.9], [64.0, 70.3]),
        *([50.0, 73.8], [57.6, 75.2], [64.0, 75.5], [70.4, 75.2], [78.0, 73.8]),
        *([28.1, 38.1], [33.2, 35.5], [41.5, 34.9], [50.1, 39.1], [42.6, 40.7], [34.6, 40.9]),
        *([77.9, 39.1], [86.5, 34.9], [94.8, 35.5]),
    ]
)


class TemplateView(View):
    """A view by one similarity transform a frame, as ATVGnet's code cuts pictures (``demo.py``).

    The official code has two templates, for open and for closed eyes, between which a face changes its size; their
    files are the same. It cuts a square first, beyond which it sees black; this view mirrors the frame beyond its edge.
    """

    def matrices(self, points: Float, frame_width: int, frame_height: int, aligned: bool) -> Float:
        """The transforms that bring the points nearest to the template."""
        matrices = similarities(points[:, POINTS], TEMPLATE)
        scale = np.hypot(matrices[:, 0, 0], matrices[:, 1, 0])
        # Of a scale below, the picture would show less than a pixel of the frame; without one, there is no inverse.
        usable = (scale > 0) & (scale <= self.width)
        corners = np.array([[0.0, 0.0], [self.width, 0.0], [0.0, self.height], [self.width, self.height]])
        seen = unmap_points(np.broadcast_to(corners, (int(usable.sum()), 4, 2)), matrices[usable])
        low, high = seen.min(axis=1), seen.max(axis=1)
        usable[usable] = ((high > 0) & (low < [frame_width, frame_height])).all(axis=1)
        matrices[~usable] = np.nan
        return matrices

    def cut(self, frame: Image, matrix: Float) -> Image:
        """The warped picture, see :func:`prep.views.aligned512.crop_warped`."""
        return crop_warped(frame, matrix, self.width, self.height)


VIEW = TemplateView("atvg128", 128, 128, "ATVGnet: nose and eyes upon a template, 128²")
