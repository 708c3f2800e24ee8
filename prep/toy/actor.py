"""Draws one person, frame by frame, from the coefficients of the rig's modes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.toy.heads import Head
from prep.toy.mouth import SMOOTH_ROW, Mouth
from prep.toy.portraits import MARGIN
from prep.toy.rig import (
    LOWER_LID,
    LOWER_LIP,
    MODES,
    UPPER_LID,
    UPPER_LIP,
    UPPER_SHARE,
    build_rig,
    to_cells,
)
from prep.toy.warp import invert
from prep.warping import sample

Floats = NDArray[np.float64]
_STAGE = 1 + 2 * MARGIN


class Actor:
    """A head that can be drawn with any expression.

    Args:
        head: the person.
        size: side of the square frames in pixels, even.
        zoom: enlargement of the stage's middle in the frame.
        lids: how much skin above the lids a blink stretches, in distances between the outer eye corners.
        light: brightness of the right edge of the person's stage against the left one, 0 for even light.
    """

    def __init__(
        self, head: Head, size: int, zoom: float = 1.0, lids: float = 0.14, light: float = 0.0
    ) -> None:
        self._size = size
        # Fields are smooth, half the frame's resolution holds them.
        self._cells = round(size * _STAGE / 2)
        self._rig = build_rig(head.points, self._cells)
        alpha = head.matte[..., None]
        slope = 1 + light * np.linspace(-0.5, 0.5, len(head.rgb), dtype=np.float32)[None, :, None]
        rgba = np.concatenate([np.minimum(head.rgb * slope, 255) * alpha, 255 * alpha], axis=2)
        self._texture = np.rint(rgba).astype(np.uint8)
        self._zoom = zoom
        self._unit = self._rig.unit * size * zoom
        self._mouth = Mouth(self._unit)
        self._eyes, self._eye_centres = [], []
        for upper, lower in zip(UPPER_LID, LOWER_LID, strict=True):
            rims = head.points[[upper, lower], :2]
            (xs, margin), below = to_cells(rims[0], self._cells).T, to_cells(rims[1], self._cells)
            self._eyes.append((xs, margin, np.interp(xs, below[:, 0], below[:, 1])))
            self._eye_centres.append(rims.mean((0, 1)))
        self._lid_reach = lids * self._rig.unit * self._cells / _STAGE
        n_modes = len(MODES)
        self._fields = self._rig.base.reshape(n_modes, -1)
        self._below = self._rig.below.reshape(n_modes, -1)

        # Half-resolution positions of the frame on the fields' grid, one cell more all around for the enlargement.
        half = size // 2 + 2
        axis = ((np.arange(half) - 0.5) * 2 / size - 0.5) / zoom + 0.5
        position = to_cells(axis, self._cells)
        self._targets = np.stack(np.meshgrid(position, position), axis=-1).astype(np.float32)

    def _pixels(self, stage: Floats) -> Floats:
        """Stage positions to frame pixels (continuous)."""
        return ((stage - 0.5) * self._zoom + 0.5) * self._size

    def draw(
        self, background: NDArray[np.uint8], modes: Floats, blink: float, tongue: float
    ) -> NDArray[np.uint8]:
        """One frame.

        Args:
            background: uint8 (size, size, 3).
            modes: coefficients in the order of ``rig.MODES``.
            blink: 0 eyes open, 1 closed.
            tongue: 0 lies low, 1 touches the upper teeth.

        Returns:
            uint8 (size, size, 3), RGB.
        """
        weights = modes.astype(np.float32)
        field = self._field(weights @ self._fields)
        maps = _enlarged(invert(field, self._targets))

        upper, lower = self._lips(modes)
        self._lower_lip(maps, field + self._field(weights @ self._below), upper, lower)
        person = self._sampled(maps)
        if blink > 0:
            self._lids(person, maps, modes, blink)
        through = 255 - person[..., 3:]
        behind = cv2.multiply(background, cv2.merge([through] * 3), scale=1 / 255)
        frame = cv2.add(person[..., :3], behind)

        drop = float(modes[0]) * (1 - UPPER_SHARE)
        self._mouth.paint(frame, upper, lower, self._pose(modes), drop, tongue)
        return frame

    def _sampled(self, maps: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The person at positions on the fields' grid; RGBA, premultiplied."""
        ratio = len(self._texture) / self._cells
        at = maps * np.float32(ratio) + np.float32(0.5 * ratio - 0.5)
        return sample(self._texture, at, cubic=True)

    def _field(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        return flat.reshape(self._cells, self._cells, 2)

    def _lips(self, modes: Floats) -> tuple[Floats, Floats]:
        """Inner contours of both lips in pixels, (11, 2) each."""
        rest = self._rig.points
        moves = np.tensordot(modes, self._rig.lips, axes=1)
        return (
            self._pixels(rest[list(UPPER_LIP[-1]), :2] + moves[0]),
            self._pixels(rest[list(LOWER_LIP[-1]), :2] + moves[1]),
        )

    def _pose(self, modes: Floats) -> Floats:
        """From mouth units at the middle of the closed lips to pixels, as the head is held; (2, 3)."""
        value = dict(zip(MODES, modes, strict=True))
        rest = self._rig.points
        middle = rest[[13, 14], :2].mean(0)
        held = [MODES.index(name) for name in ("yaw", "pitch", "roll", "across", "down", "zoom")]
        moved = middle + np.tensordot(modes[held], self._rig.lips[held, :, 5].mean(1), axes=1)
        grow = 1 + value["zoom"]
        linear = self._unit * np.array([[grow, -value["roll"]], [value["roll"], grow]])
        return np.column_stack([linear, self._pixels(moved)])

    def _region(self, points: Floats, pad: float) -> tuple[slice, slice] | None:
        """Half-resolution rows and columns around pixel positions, or None outside of the frame."""
        low = np.maximum(np.floor((points.min(0) - pad) / 2).astype(int), 0)
        high = np.minimum(np.ceil((points.max(0) + pad) / 2).astype(int), self._size // 2)
        if (high <= low).any():
            return None
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    def _lower_lip(
        self, maps: NDArray[np.float32], field: NDArray[np.float32], upper: Floats, lower: Floats
    ) -> None:
        """Under the line between the lips, replace ``maps`` by the inverse of the lower lip's ``field``."""
        region = self._region(np.concatenate([upper, lower]), 0.45 * self._unit)
        if region is None:
            return
        rows, columns = region
        wider = (slice(rows.start, rows.stop + 2), slice(columns.start, columns.stop + 2))
        other = _enlarged(invert(field, np.ascontiguousarray(self._targets[wider])))

        between = SMOOTH_ROW @ ((upper + lower) / 2)
        aside, down = self._unit * np.eye(2)
        outline = np.concatenate([[between[0] - aside], between, [between[-1] + aside]])
        outline = np.concatenate([outline, outline[[-1, 0]] + down])
        top, left = 2 * rows.start, 2 * columns.start
        mask = np.zeros(other.shape[:2], np.uint8)
        polygon = np.round((outline - (left, top) - 0.5) * 256).astype(np.int32)
        cv2.fillPoly(mask, [polygon], 255, cv2.LINE_AA, shift=8)
        at = maps[top : top + other.shape[0], left : left + other.shape[1]]
        at += (mask.astype(np.float32) / 255)[..., None] * (other - at)

    def _lids(
        self, person: NDArray[np.uint8], maps: NDArray[np.float32], modes: Floats, blink: float
    ) -> None:
        """Draw the skin between brow and lid, stretched down over the eyes, into ``person``."""
        moves = np.tensordot(modes, self._rig.eyes, axes=1)
        pixel = self._cells / (_STAGE * self._zoom * self._size)
        for (xs, margin, shut), rest, move in zip(self._eyes, self._eye_centres, moves, strict=True):
            region = self._region(self._pixels(rest + move)[None], 0.3 * self._unit)
            if region is None:
                continue
            rows, columns = (slice(2 * part.start, 2 * part.stop) for part in region)
            at = maps[rows, columns].copy()
            y = at[..., 1]
            edge = np.interp(at[..., 0], xs, margin).astype(np.float32)
            fall = np.float32(blink) * np.interp(at[..., 0], xs, shut - margin).astype(np.float32)
            top = edge - np.float32(self._lid_reach)
            covered = np.clip((edge + fall - y) / pixel + 0.5, 0, 1) * (y > top)
            y[:] = np.minimum(top + (y - top) * (edge - top) / (edge + fall - top), edge)
            eye = person[rows, columns]
            eye[:] = np.rint(eye + (self._sampled(at).astype(np.float32) - eye) * covered[..., None])


def _enlarged(half: NDArray[np.float32]) -> NDArray[np.float32]:
    """A half-resolution map, one cell wider all around than the frame, at full resolution."""
    full = cv2.resize(half, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(full[2:-2, 2:-2])
