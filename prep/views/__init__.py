"""Named crop geometries: which part of a frame each method sees, and how any point maps into it and back.

A view turns a clip's landmarks into one 2×3 matrix a frame that maps full-frame pixels to view pixels. Both
are *continuous* coordinates: pixel (column j, row i) covers [j, j+1) × [i, i+1). Points map both ways with
:func:`map_points` and :func:`unmap_points`; the matrix, even as float32, is also all that a crop needs.

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
)
#: Name → view.
VIEWS: dict[str, View] = {name: import_module(f"prep.views.{name}").VIEW for name in NAMES}
