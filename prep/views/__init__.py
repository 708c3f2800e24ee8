"""Named crop geometries: the part of a frame that is the input of a method, and the mapping of points to it and back.

A view computes from a clip's landmarks one 2×3 matrix per frame that maps full-frame pixels to view pixels. Both are
*continuous* coordinates: pixel (column j, row i) covers [j, j+1) × [i, i+1). :func:`map_points` and
:func:`unmap_points` map points in both directions; for cropping the matrix, even as float32, is enough.

A new view is a file beside this one that is called like it and holds it as ``VIEW``, and a line in :data:`NAMES`.
"""

from __future__ import annotations

from importlib import import_module

from prep.views.geometry import View, landmark_box, map_points, over_box, unmap_points

__all__ = ["NAMES", "VIEWS", "View", "landmark_box", "map_points", "over_box", "unmap_points"]

#: All views, in the order of a shard's columns.
NAMES = (
    "box128",
    "face96",
    "aligned512",
    "mouth416x320",
    "lower512",
    "face128",
    "atvg128",
)
#: Name → view.
VIEWS: dict[str, View] = {name: import_module(f"prep.views.{name}").VIEW for name in NAMES}
