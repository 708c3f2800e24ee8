"""How a face moves: a handful of linear modes, each a displacement of mesh points, spread smoothly over the picture.

All lengths are in units of the distance between the outer eye corners unless said otherwise; the numbers below were
chosen by eye so that the pictures look right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prep.toy.portraits import MARGIN
from prep.toy.warp import spread

Floats = NDArray[np.float64]

# FaceMesh rows from the right mouth corner to the left one (as seen: left to right), lips from the outside inwards.
UPPER_LIP = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (62, 183, 42, 41, 38, 12, 268, 271, 272, 407, 292),
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
)
LOWER_LIP = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
    (62, 96, 89, 179, 86, 15, 316, 403, 319, 325, 292),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)
#: Lid margins from the left end to the right end of each eye as seen.
UPPER_LID = ((33, 246, 161, 160, 159, 158, 157, 173, 133), (362, 398, 384, 385, 386, 387, 388, 466, 263))
LOWER_LID = ((33, 7, 163, 144, 145, 153, 154, 155, 133), (362, 382, 381, 380, 374, 373, 390, 249, 263))
_SOCKET = ((113, 225, 224, 223, 222, 221, 189), (413, 441, 442, 443, 444, 445, 342))
BROWS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))
#: The face's outline, clockwise as seen from the middle of the forehead.
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

#: How far skin follows the jaw, as a share of the lower lip's way; where two are named they mirror each other.
_JAW_SHARE: dict[tuple[int, ...], float] = {
    (152,): 0.97,
    (148, 377): 0.96,
    (176, 400): 0.93,
    (149, 378): 0.87,
    (150, 379): 0.78,
    (136, 365): 0.65,
    (172, 397): 0.48,
    (58, 288): 0.3,
    (132, 361): 0.13,
    (93, 323): 0.04,
    (18, 200, 199, 175, 83, 313, 201, 421, 208, 428, 171, 396): 0.97,
    (194, 418, 182, 406, 32, 262): 0.92,
    (106, 335, 211, 431): 0.84,
    (204, 424, 210, 430): 0.72,
    (43, 273, 202, 422): 0.62,
    (212, 432, 214, 434): 0.42,
    (57, 287): 0.3,
    (216, 436): 0.2,
    (207, 427): 0.14,
    (187, 411, 186, 410): 0.08,
    (205, 425, 92, 322): 0.02,
    (164, 167, 393): -0.08,
    (165, 391): -0.03,
}
#: Skin that talking leaves in place.
_STILL = (
    *(
        1,
        4,
        5,
        6,
        195,
        197,
        168,
        48,
        278,
        64,
        294,
        98,
        327,
        2,
        97,
        326,
        203,
        423,
        206,
        426,
        36,
        266,
        50,
        280,
        101,
        330,
    ),
    *(
        117,
        346,
        118,
        347,
        123,
        352,
        116,
        345,
        227,
        447,
        234,
        454,
        127,
        356,
        162,
        389,
        21,
        251,
        54,
        284,
        103,
        332,
    ),
    *(67, 297, 109, 338, 10, 9, 8, 151, 69, 299, 104, 333, 110, 339, 23, 253, 112, 341, 111, 340, 31, 261),
)

#: The modes, in the order of the coefficients. ``open`` … ``bite`` belong to speech.
MODES = ("open", "round", "wide", "press", "bite", "brow", "yaw", "pitch", "roll", "across", "down", "zoom")
#: What the upper lip contributes to an opening mouth; the lower lip and the jaw do the rest.
UPPER_SHARE = 0.16
_CORNER_SHARE = 0.4


def eye_distance(points: Floats) -> float:
    """Distance between the outer eye corners (33 and 263) of mesh points (468, 2+), in their own unit."""
    return float(np.hypot(*(points[33, :2] - points[263, :2])))


def lip_line(points: Floats, x: Floats) -> Floats:
    """Height of the line where closed lips meet at horizontal positions ``x``, continued level beyond the corners."""
    row = (points[list(UPPER_LIP[-1]), :2] + points[list(LOWER_LIP[-1]), :2]) / 2
    return np.interp(x, row[:, 0], row[:, 1])


def smoothstep(x: Floats) -> Floats:
    """0 below 0, 1 above 1, 3x² - 2x³ between."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True)
class Rig:
    """The modes of one face.

    Attributes:
        unit: distance between the outer eye corners, in stage units.
        lips: displacement of (upper inner row, lower inner row) by each mode; (len(MODES), 2, 11, 2), stage units.
        eyes: displacement of (right, left) eye by each mode; (len(MODES), 2, 2), stage units.
        base: field of each mode over the stage, as seen from above the mouth; float32 (len(MODES), g, g, 2).
        below: what to add to ``base`` on the lower lip's side of the mouth; same shape, 0 away from the mouth.
    """

    points: Floats
    unit: float
    lips: Floats
    eyes: Floats
    base: NDArray[np.float32]
    below: NDArray[np.float32]


def to_cells(positions: Floats, cells: int) -> Floats:
    """Stage positions to positions on a grid of ``cells`` that covers the stage; the first cell's centre is 0."""
    return (positions + MARGIN) * (cells / (1 + 2 * MARGIN)) - 0.5


def sided_fields(
    points: Floats, controls: Floats, names: list[int], moves: Floats, cells: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Spread displacements of controls over the stage, once as seen from above the mouth and once from below it.

    The lips move apart, so no single smooth field can hold both; each side's field ignores the other side's lip.

    Returns:
        The field above and what to add to it below, 0 away from the mouth; float32 (k, cells, cells, 2), in cells.
    """
    scale = cells / (1 + 2 * MARGIN)
    where = (controls[:, :2] + MARGIN) / (1 + 2 * MARGIN)
    values = moves.transpose(1, 0, 2) * scale

    def without(rows: tuple[tuple[int, ...], ...]) -> NDArray[np.float32]:
        keep = ~np.isin(names, [i for row in rows for i in row[1:-1]])
        return spread(where[keep], values[keep], cells)

    above, below = without(LOWER_LIP), without(UPPER_LIP)
    x, y = _cell_positions(cells)
    unit = eye_distance(points)
    mouth = points[[13, 14], :2].mean(0)
    distance = np.hypot((x - mouth[0]) / 0.62, (y - mouth[1] - 0.1 * unit) / 0.5) / unit
    near = smoothstep(2.2 * (1 - distance))[..., None].astype(np.float32)
    return above, (below - above) * near


def build_rig(points: Floats, cells: int) -> Rig:
    """The modes of a face whose lips are closed.

    Args:
        points: FaceMesh points (468, 3) in stage units.
        cells: side of the fields' grid, which covers the stage from -MARGIN to 1 + MARGIN.
    """
    controls, names = face_controls(points)
    moves = face_moves(points, controls, names)
    base, below = sided_fields(points, controls, names, moves, cells)
    at = {name: i for i, name in enumerate(names)}

    def rows(pair: Iterable[tuple[int, ...]]) -> Floats:
        return np.stack([moves[:, [at[i] for i in row]] for row in pair], axis=1)

    return Rig(
        points=points,
        unit=eye_distance(points),
        lips=rows((UPPER_LIP[-1], LOWER_LIP[-1])),
        eyes=rows(UPPER_LID).mean(2),
        base=base,
        below=below,
    )


def _cell_positions(cells: int) -> Floats:
    """Stage coordinates of the cells' centres; (2, cells, cells): x, y."""
    axis = (np.arange(cells) + 0.5) * ((1 + 2 * MARGIN) / cells) - MARGIN
    return np.stack(np.meshgrid(axis, axis))


def face_controls(points: Floats) -> tuple[Floats, list[int]]:
    """Points that carry the modes: mesh points by their index, and anchors around the face named -1.

    Returns (n, 3) points in stage units and their n names.
    """
    unit = eye_distance(points)
    names: list[int] = sorted(
        {
            i
            for rows in (UPPER_LIP, LOWER_LIP, UPPER_LID, LOWER_LID, _SOCKET, BROWS)
            for row in rows
            for i in row
        }
        | {i for pair in _JAW_SHARE for i in pair}
        | set(_STILL)
    )
    outline = points[list(OVAL)]
    centre = outline[:, :2].mean(0)
    depth = outline[:, 2].max()
    anchors = []
    for factor in (1.3, 1.7):
        ring = centre + factor * (outline[::2, :2] - centre)
        # Below the chin the neck's own anchors rule.
        anchors.append(ring[ring[:, 1] < points[152, 1]])
    chin = points[152, :2]
    across = np.array([-0.7, -0.35, 0.0, 0.35, 0.7]) * unit
    anchors += [np.column_stack([chin[0] + across, np.full(5, chin[1] + k * unit)]) for k in (0.3, 0.55)]
    edge = np.linspace(-MARGIN, 1 + MARGIN, 9)
    anchors += [np.column_stack([edge, np.full(9, k)]) for k in (-MARGIN, 1 + MARGIN)]
    anchors += [np.column_stack([np.full(7, k), edge[1:-1]]) for k in (-MARGIN, 1 + MARGIN)]
    flat = np.concatenate(anchors)
    around = np.column_stack([flat, np.full(len(flat), depth)])
    return np.concatenate([points[names], around]), names + [-1] * len(around)


def face_moves(points: Floats, controls: Floats, names: list[int]) -> Floats:
    """Displacement of every control by every mode for a coefficient of 1; (len(MODES), n, 2), stage units."""
    unit = eye_distance(points)
    index = np.array(names)
    mesh = index >= 0
    x, y = controls[:, 0], controls[:, 1]
    lips = points[list(UPPER_LIP[-1])]
    middle, half = lips[[0, -1], 0].mean(), np.ptp(lips[[0, -1], 0]) / 2
    line = lip_line(points, x)
    u, v = (x - middle) / unit, (y - line) / unit
    lateral = np.clip((x - middle) / half, -1, 1)
    is_upper = np.isin(index, [i for row in UPPER_LIP for i in row[1:-1]])
    is_lower = np.isin(index, [i for row in LOWER_LIP for i in row[1:-1]])
    is_corner = np.isin(index, [i for row in UPPER_LIP for i in (row[0], row[-1])])
    is_lip = is_upper | is_lower | is_corner
    moves = np.zeros((len(MODES), len(controls), 2))
    mode = {name: moves[i] for i, name in enumerate(MODES)}

    # Opening: the lips part along a rounded profile; the chin goes along rigidly and the cheeks give way.
    profile = np.where(is_corner, 0.0, np.maximum(1 - np.abs(lateral) ** 2.2, 0.0) ** 0.75)
    share = np.zeros(len(controls))
    for group, value in _JAW_SHARE.items():
        share[np.isin(index, group)] = value * (1 - UPPER_SHARE)
    share[is_upper] = (-UPPER_SHARE * profile + _CORNER_SHARE * (1 - profile))[is_upper]
    share[is_lower] = ((1 - UPPER_SHARE) * profile + _CORNER_SHARE * (1 - profile))[is_lower]
    share[is_corner] = _CORNER_SHARE
    # The skin right under the chin is pulled along; the neck below it is not.
    below = ~mesh & (y > points[152, 1]) & (y < points[152, 1] + 0.4 * unit) & (np.abs(u) < 0.5)
    share[below] = 0.25
    mode["open"][:, 1] = share * unit
    near = np.exp(-((u / 0.55) ** 2) - (v / 0.35) ** 2)
    mode["open"][:, 0] = -0.32 * u * near * unit

    # Rounding and spreading act on the lips and fade in the skin around them.
    soft = np.exp(-((u / 0.5) ** 2) - (v / 0.26) ** 2)
    lip_height = np.exp(-((v / 0.16) ** 2)) * np.exp(-((u / 0.4) ** 2))
    mode["round"][:, 0] = -0.36 * u * soft * unit
    mode["round"][:, 1] = 0.10 * v * lip_height * unit
    mode["wide"][:, 0] = 0.24 * u * soft * unit
    mode["wide"][:, 1] = (-0.10 * v * lip_height - 0.03 * np.abs(lateral) * soft * (np.abs(u) > 0.05)) * unit
    mode["press"][:, 1] = -0.42 * v * lip_height * unit
    mode["press"][is_corner, 1] = 0.0
    mode["bite"][:, 1] = np.where(v > 0, -0.40, 0.05) * v * lip_height * unit

    mode["brow"][np.isin(index, [i for row in BROWS for i in row]), 1] = -0.055 * unit
    mode["brow"][np.isin(index, [i for row in _SOCKET for i in row]), 1] = -0.02 * unit
    mode["brow"][np.isin(index, (9, 8, 151, 69, 299, 104, 333)), 1] = -0.025 * unit

    # The head turns on the neck; shoulders follow a little.
    chin = points[152, 1]
    follow = 1 - 0.75 * smoothstep((y - chin + 0.1 * unit) / (0.8 * unit))
    # Where the face turns away from us its depth is too steep to be shifted; from there on nothing moves.
    pivot_depth = 0.5 * np.median(points[list(OVAL), 2])
    relief = np.maximum(pivot_depth - controls[:, 2], 0.0) * follow
    mode["yaw"][:, 0] = relief
    mode["pitch"][:, 1] = relief
    centre = np.array([points[1, 0], chin + 0.35 * unit])
    mode["roll"][:, 0] = -(y - centre[1]) * follow
    mode["roll"][:, 1] = (x - centre[0]) * follow
    mode["across"][:, 0] = follow
    mode["down"][:, 1] = follow
    mode["zoom"][:] = (controls[:, :2] - centre) * follow[:, None]
    moves[: MODES.index("yaw"), ~(mesh | below)] = 0.0
    moves[: MODES.index("brow"), mesh & ~is_lip & np.isin(index, [*UPPER_LID[0], *UPPER_LID[1]])] = 0.0
    return moves
