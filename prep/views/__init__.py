"""Named crop geometries: which part of a frame each method sees, and how any point maps into it and back.

A view turns a clip's landmarks into one 2×3 matrix a frame that maps full-frame pixels to view pixels. Both
are *continuous* coordinates: pixel (column j, row i) covers [j, j+1) × [i, i+1). Points map both ways with
:func:`map_points` and :func:`unmap_points`; the matrix, even as float32, is also all that a crop needs.

A new view is a file beside this one with a ``VIEW``, and a line in :data:`VIEWS`.
"""

from __future__ import annotations

from prep.views import aligned512, box128, face96, lower512, mouth416x320
from prep.views.geometry import View, landmark_box, map_points, over_box, unmap_points

__all__ = ["VIEWS", "View", "landmark_box", "map_points", "over_box", "unmap_points"]

#: All views by name, in the order of a shard's columns.
VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        box128.VIEW,
        face96.VIEW,
        aligned512.VIEW,
        mouth416x320.VIEW,
        lower512.VIEW,
    )
}
