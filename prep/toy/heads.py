"""Heads to animate: a portrait with its lips closed, and the operations that make another person of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.toy.portraits import MARGIN, Portrait
from prep.toy.rig import (
    BROWS,
    LOWER_LIP,
    MODES,
    OVAL,
    UPPER_LIP,
    eye_distance,
    face_controls,
    face_moves,
    lip_line,
    sided_fields,
    smoothstep,
    to_cells,
)
from prep.toy.warp import invert, spread, thin_plate
from prep.warping import sample

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Head:
    """A cut-out person looking at us with closed lips; the attributes are those of :class:`Portrait`."""

    rgb: NDArray[np.uint8]
    matte: NDArray[np.float32]
    points: Floats


def _reshaped(head: Head, controls: Floats, names: list[int], move: Floats) -> Head:
    """The head with its controls displaced by ``move`` (n, 2) stage units, everything else following smoothly."""
    side = len(head.rgb)
    above, extra = sided_fields(head.points, controls, names, move[None], side)
    # The lips' contact line after the move divides the two fields.
    grid = np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2), axis=-1)
    moved = head.points.copy()
    moved[:, :2] += thin_plate(controls[:, :2], move, head.points[:, :2])
    known = np.array(names) >= 0
    moved[np.array(names)[known], :2] = (controls[:, :2] + move)[known]
    columns = (np.arange(side, dtype=np.float64) + 0.5) * ((1 + 2 * MARGIN) / side) - MARGIN
    line = to_cells(lip_line(moved, columns), side)
    is_below = np.clip(grid[..., 1] - line[None].astype(np.float32) + 0.5, 0, 1)[..., None]
    # Colours are mixed along the line, not positions: between two positions lies something else.
    up, down = invert(above[0], grid, 12), invert(above[0] + extra[0], grid, 12)
    upper, lower = (sample(head.rgb, maps, cubic=True) for maps in (up, down))
    rgb = _mixed(upper, lower, is_below)
    matte = sample(head.matte, up)
    return Head(rgb, matte, moved)


def _mixed(
    first: NDArray[np.uint8], second: NDArray[np.uint8], share: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """``share`` (n, n, 1) of the second picture over the first."""
    return np.rint(first + (second.astype(np.float32) - first) * share).astype(np.uint8)


def closed(portrait: Portrait, relax: float) -> Head:
    """Close the lips of a portrait, and take back a smile by ``relax`` (0: as it is)."""
    points = portrait.points.copy()
    if portrait.points[14, 1] - portrait.points[13, 1] > 0.02 * eye_distance(points):
        # Where teeth show, the mesh's contour runs along their shadow: leave it out.
        rim = 0.012 * eye_distance(points)
        points[list(UPPER_LIP[-1][1:-1]), 1] -= rim
        points[list(LOWER_LIP[-1][1:-1]), 1] += rim
    controls, names = face_controls(points)
    unit = eye_distance(points)
    index = np.array(names)
    gap = points[14, 1] - points[13, 1]
    mode = dict(zip(MODES, face_moves(points, controls, names), strict=True))
    # The chin comes up less than the lip does.
    move = -0.5 * gap / unit * mode["open"] - relax * mode["wide"]
    for rows, share in ((UPPER_LIP, 0.4), (LOWER_LIP, -0.6)):
        inner_upper, inner_lower = points[list(UPPER_LIP[-1]), 1], points[list(LOWER_LIP[-1]), 1]
        for row in rows:
            for column in range(1, 10):
                at = index == row[column]
                move[at, 1] = share * (inner_lower - inner_upper)[column] - relax * mode["wide"][at, 1]
    corners = np.isin(index, (61, 62, 78, 291, 292, 308))
    move[corners, 1] += 0.02 * relax * unit
    return _reshaped(Head(portrait.rgb, portrait.matte, points), controls, names, move)


@dataclass(frozen=True)
class Shape:
    """How a face differs from its portrait; every number is a share of the distance between the eyes' outer corners.

    Positive is wider, longer, higher, larger, fuller.
    """

    jaw: float = 0.0
    cheeks: float = 0.0
    chin: float = 0.0
    eyes_apart: float = 0.0
    eye_size: float = 0.0
    brows: float = 0.0
    nose_length: float = 0.0
    nose_width: float = 0.0
    mouth_width: float = 0.0
    lips: float = 0.0


def reshaped(head: Head, shape: Shape) -> Head:
    """The same head with a face of another shape."""
    points = head.points
    controls, names = face_controls(points)
    unit = eye_distance(points)
    x, y = controls[:, 0], controls[:, 1]

    def bump(at: Floats, width: float, height: float) -> Floats:
        return np.exp(-(((x - at[0]) / (width * unit)) ** 2) - ((y - at[1]) / (height * unit)) ** 2)

    middle = points[1, 0]
    mouth = points[[13, 14], :2].mean(0)
    chin, nose = points[152, :2], points[2, :2]
    eyes = points[[33, 133], :2].mean(0), points[[362, 263], :2].mean(0)
    u = (x - middle) / unit
    side = np.tanh(4 * u)
    move = np.zeros((len(controls), 2))
    move[:, 0] += (
        shape.jaw * side * bump(np.array([middle, (mouth[1] + chin[1]) / 2]), 0.9, 0.42) * np.abs(u) ** 0.5
    )
    move[:, 0] += (
        shape.cheeks * side * bump(np.array([middle, nose[1] - 0.1 * unit]), 0.9, 0.42) * np.abs(u) ** 0.5
    )
    move[:, 1] += shape.chin * bump(chin, 0.6, 0.35)
    for sign, eye in zip((-1, 1), eyes, strict=True):
        near = bump(eye, 0.24, 0.22)
        move[:, 0] += sign * shape.eyes_apart * near
        move += shape.eye_size * (controls[:, :2] - eye) / unit * bump(eye, 0.22, 0.12)[:, None] * 2
    for rows in BROWS:
        at = points[list(rows), :2].mean(0)
        move[:, 1] -= shape.brows * bump(at, 0.3, 0.12)
    move[:, 1] += shape.nose_length * bump(nose, 0.3, 0.2)
    move[:, 0] += shape.nose_width * side * bump(nose - (0, 0.06 * unit), 0.28, 0.16)
    move[:, 0] += shape.mouth_width * side * bump(mouth, 0.4, 0.22) * np.minimum(np.abs(u) / 0.25, 1)
    beyond = y - lip_line(points, x)
    move[:, 1] += shape.lips * np.tanh(beyond / (0.05 * unit)) * bump(mouth, 0.4, 0.18)
    return _reshaped(head, controls, names, move * unit)


def with_face_of(head: Head, other: Head, share: float) -> Head:
    """The head with another one's face, from the brows to the chin, in the light of its own.

    Below the eyes, where neither wears glasses, only ``share`` (0 to 1) of the skin is the other one's.
    """
    side = len(head.rgb)
    scale = side / (1 + 2 * MARGIN)
    # Closed lips have the same points twice.
    once = np.setdiff1d(np.arange(len(head.points)), LOWER_LIP[-1][1:-1])
    where = (head.points[once, :2] + MARGIN) / (1 + 2 * MARGIN)
    offset = spread(where, (other.points - head.points)[once, None, :2] * scale, side)[0]
    grid = np.stack(np.meshgrid(*[np.arange(side, dtype=np.float32)] * 2), axis=-1)
    face = sample(other.rgb, grid + offset, cubic=True)
    # Light is compared on the cheeks, nose and chin, without glasses and brows, and matched region by region.
    skin = face_mask(head, 0.8, 0.03)
    below_eyes = np.asarray(head.points[[33, 263], 1].mean() + 0.14 * eye_distance(head.points))
    skin[: int(to_cells(below_eyes, side))] = 0
    wide = 0.5 * eye_distance(head.points) * scale
    seen = cv2.GaussianBlur(skin, (0, 0), wide)[..., None] * 255 + 1e-3
    ours, theirs = (
        np.clip(cv2.GaussianBlur(x * skin[..., None], (0, 0), wide) / seen, 0.02, 0.98)
        for x in (head.rgb, face)
    )
    face = _lit(face, ours * (1 - theirs) / (theirs * (1 - ours)))
    lower = smoothstep(
        (_positions(side)[1] - head.points[[33, 263], 1].mean()) / eye_distance(head.points) * 3.3 - 0.6
    )
    cover = face_mask(head, 0.94, 0.06) * (1 - (1 - share) * lower).astype(np.float32)
    return Head(_mixed(head.rgb, face, cover[..., None]), head.matte, head.points)


def without_hinges(head: Head) -> Head:
    """Paint skin over what is dark at the temples: the ends of glasses that a new face does not wear."""
    side = len(head.rgb)
    unit = eye_distance(head.points)
    x, y = _positions(side)
    eyes = head.points[[33, 263], :2]
    beside = (x < eyes[0, 0] - 0.1 * unit) | (x > eyes[1, 0] + 0.1 * unit)
    band = beside & (np.abs(y - eyes[:, 1].mean() + 0.05 * unit) < 0.15 * unit)
    band &= (x > head.points[127, 0] - 0.02 * unit) & (x < head.points[356, 0] + 0.02 * unit)
    luma = cv2.cvtColor(head.rgb, cv2.COLOR_RGB2GRAY)
    dark = band & (luma < 0.75 * np.median(luma[face_mask(head, 0.7, 0.02) > 0.9]))
    reach = max(1, round(0.03 * unit * side / (1 + 2 * MARGIN)))
    mask = cv2.dilate(dark.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) * band
    return Head(
        cv2.inpaint(head.rgb, mask.astype(np.uint8), 3 * reach, cv2.INPAINT_TELEA), head.matte, head.points
    )


def _positions(side: int) -> Floats:
    """Stage coordinates of the pixels' centres; (2, n, n): x, y."""
    axis = (np.arange(side) + 0.5) * ((1 + 2 * MARGIN) / side) - MARGIN
    return np.stack(np.meshgrid(axis, axis))


def _lit(rgb: NDArray[np.uint8], gain: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Each channel times its gain, the highlights bent so that none of them clips."""
    value = rgb.astype(np.float32) / 255
    # x → g·x / (1 + (g - 1)·x keeps 0 and 1 where they are and has the slope g at 0.
    bent = gain * value / (1 + (gain - 1) * value)
    return np.rint(255 * bent).astype(np.uint8)


def face_mask(head: Head, size: float, soft: float) -> NDArray[np.float32]:
    """From the brows down to the chin: the face's outline times ``size``, with edges ``soft`` units wide; (n, n)."""
    side = len(head.rgb)
    unit = eye_distance(head.points)
    outline = head.points[list(OVAL), :2]
    top = min(head.points[[*BROWS[0], *BROWS[1]], 1]) - 0.1 * unit
    outline = np.column_stack([outline[:, 0], np.maximum(outline[:, 1], top)])
    centre = outline.mean(0)
    polygon = to_cells(centre + size * (outline - centre), side)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round(polygon * 256).astype(np.int32)], 255, cv2.LINE_AA, shift=8)
    return cv2.GaussianBlur(mask, (0, 0), soft * unit * side / (1 + 2 * MARGIN)).astype(np.float32) / 255


Colour = tuple[float, float, float]


def recoloured(
    head: Head,
    skin: Colour = (1, 1, 1),
    hair: tuple[Colour, Colour] | None = None,
    cloth: Colour | None = None,
) -> Head:
    """The same person with other colours.

    Args:
        head: the person.
        skin: gain of red, green and blue where there is skin.
        hair: its darkest and its lightest colour, 0 to 255; None leaves it as it is.
        cloth: the colour, 0 to 255, of which dark clothes become shades; None leaves them.
    """
    side = len(head.rgb)
    unit = eye_distance(head.points)
    x, y = _positions(side)
    lab = cv2.cvtColor(head.rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
    inside = face_mask(head, 0.97, 0.03)
    crown = head.points[10, :2] - (0, 0.5 * unit)
    samples = inside > 0.95, np.hypot(x - crown[0], y - crown[1]) < 0.2 * unit
    to_skin, to_hair = (
        np.linalg.norm((lab - np.median(lab[at], axis=0)) * (0.3, 1, 1), axis=2) for at in samples
    )
    chin = head.points[152, 1]
    above_collar = np.clip((chin + 0.55 * unit - y) / (0.1 * unit), 0, 1)
    is_skin = np.clip(2 - to_skin / 14, 0, 1) / (1 + np.exp((to_skin - to_hair) / 3))
    # Below the mouth there is no hair, but shade: any brightness will do there.
    hue = np.linalg.norm((lab - np.median(lab[samples[0]], axis=0))[..., 1:], axis=2)
    in_shade = np.clip(2 - hue / 11, 0, 1) * np.clip((lab[..., 0] - 45) / 25, 0, 1)
    below_mouth = np.clip((y - head.points[14, 1]) / (0.2 * unit), 0, 1)
    is_skin = above_collar * (is_skin + below_mouth * (np.maximum(is_skin, in_shade) - is_skin))
    # Within the face everything but the eyes, brows and glasses belongs to the skin: lips, cheeks in shadow.
    is_skin = np.maximum(is_skin, inside * np.clip(2 - to_skin / 20, 0, 1))
    is_skin = cv2.GaussianBlur(is_skin.astype(np.float32), (0, 0), 0.008 * unit * side)
    rgb = _mixed(head.rgb, _lit(head.rgb, np.array(skin)), is_skin[..., None])
    luma = cv2.cvtColor(head.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] / 255
    if hair is not None:
        dark, light = np.array(hair, np.float32)
        dyed = np.clip(dark + (light - dark) * np.clip(luma * 1.25, 0, 1) ** 1.2, 0, 255)
        is_hair = (
            np.clip((head.points[14, 1] + 0.1 * unit - y) / (0.1 * unit), 0, 1) * (1 - is_skin) * (1 - inside)
        )
        rgb = _mixed(rgb, dyed.astype(np.uint8), is_hair[..., None].astype(np.float32))
    if cloth is not None:
        shade = np.clip(np.array(cloth, np.float32) * (0.55 + 1.6 * luma), 0, 255).astype(np.uint8)
        outside = 1 - face_mask(head, 1.06, 0.02)
        # Shade on skin is dark as well, but warm.
        warmth = cv2.GaussianBlur(lab[..., 2], (0, 0), 0.04 * unit * side)
        is_cloth = np.clip((0.3 - luma[..., 0]) / 0.1, 0, 1) * outside * (1 - is_skin)
        is_cloth *= np.clip((141 - warmth) / 4, 0, 1)
        if hair is not None:
            is_cloth = is_cloth * np.clip((y - head.points[14, 1]) / (0.1 * unit), 0, 1)
        rgb = _mixed(rgb, shade, is_cloth[..., None].astype(np.float32))
    return Head(rgb, head.matte, head.points)
