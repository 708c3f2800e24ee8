"""Runs a :class:`~prep.facemesh.plan.Plan` on one picture: the operators of the networks, compiled by numba.

Values lie in one array of float32, in the layout (H, W, C) with a border of zeros, C a multiple of
:data:`~prep.facemesh.vectors.LANES`. A step is a row of whole numbers; their names are the fields of
:class:`~prep.facemesh.plan.Step`.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from prep.facemesh.vectors import LANES, depthwise, largest, tile

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")

_TILES = {(pixels, vectors): tile(pixels, vectors) for pixels in (6, 4, 2, 1) for vectors in (2, 1)}
_tile_6_2, _tile_6_1 = _TILES[6, 2], _TILES[6, 1]
_tile_4_2, _tile_4_1 = _TILES[4, 2], _TILES[4, 1]
_tile_2_2, _tile_2_1 = _TILES[2, 2], _TILES[2, 1]
_tile_1_2, _tile_1_1 = _TILES[1, 2], _TILES[1, 1]
_four_close, _four_apart = depthwise(4, 1), depthwise(4, 2)
_one_close, _one_apart = depthwise(1, 1), depthwise(1, 2)
_VECTOR_BYTES = 4 * LANES

(CONVOLUTION, BLOCK, DEPTHWISE, POOL, UPSAMPLE, SPACE, ROWS, REGION, SAMPLE, SCALE, MOVE, ADD) = range(12)


@_compiled
def run(steps, first, numbers, weights, values):  # type: ignore[no-untyped-def]
    """Compute all steps for some pictures.

    The ``first`` steps are computed picture by picture, so that their large values stay in the cache; each other one
    for all pictures in turn, so that its weights do.

    Args:
        steps: (S, fields) int64.
        first: number of steps.
        numbers: int64, tables of indices.
        weights: float32.
        values: (B, size) float32, in which the inputs lie and the outputs are written.
    """
    for picture in range(len(values)):
        for number in range(first):
            _run(steps[number], numbers, weights, values[picture])
    for number in range(first, len(steps)):
        for picture in range(len(values)):
            _run(steps[number], numbers, weights, values[picture])


@_compiled
def _run(step, numbers, weights, values):  # type: ignore[no-untyped-def]
    """Compute one step for one picture."""
    here, parameters = values.ctypes.data, weights.ctypes.data
    (operator, source, line, channels, stride, height, width, out_channels, out, out_line, at_weights, at_bias,
     at_slopes, added, added_line, added_channels, taps, length, at_depth, at_depth_bias, at_depth_slopes,
     scratch) = step  # fmt: skip
    if operator in (CONVOLUTION, BLOCK):
        for y in range(height):
            top = here + 4 * (source + y * stride * line)
            pixel, tap = 4 * stride * channels, 4 * line
            if operator == BLOCK:
                _depthwise_line(top, 4 * line, channels, stride, width, parameters + 4 * at_depth,
                                parameters + 4 * at_depth_bias, parameters + 4 * at_depth_slopes,
                                here + 4 * scratch)  # fmt: skip
                top, pixel, tap = here + 4 * scratch, 4 * channels, 0
            more = here + 4 * (added + y * added_line) if added >= 0 else 0
            _line(top, pixel, length, taps, tap, width, parameters + 4 * at_weights, out_channels,
                  parameters + 4 * at_bias, more, added_channels, parameters + 4 * at_slopes,
                  here + 4 * (out + y * out_line))  # fmt: skip
    elif operator == DEPTHWISE:
        for y in range(height):
            _depthwise_line(here + 4 * (source + y * stride * line), 4 * line, channels, stride, width,
                            parameters + 4 * at_depth, parameters + 4 * at_depth_bias,
                            parameters + 4 * at_depth_slopes, here + 4 * (out + y * out_line))  # fmt: skip
    elif operator == ADD:
        for y in range(height):
            _add(values, source + y * line, added + y * added_line, weights, at_slopes, width * channels,
                 channels, out + y * out_line)  # fmt: skip
    elif operator == POOL:
        for y in range(height):
            for c in range(0, channels, LANES):
                largest(here + 4 * (source + y * stride * line + c), 4 * line, 4 * channels,
                        here + 4 * (out + y * out_line + c), width)  # fmt: skip
    elif operator == UPSAMPLE:
        _upsample(values, source, line, channels, height, width, out, out_line)
    elif operator == SPACE:
        _space(values, source, line, channels, stride, height, width, out_channels, out, out_line)
    elif operator == ROWS:
        for y in range(height):
            for x in range(width):
                for c in range(length):
                    values[out + (y * width + x) * length + c] = values[source + y * line + x * channels + c]
    elif operator == REGION:
        _region(values, source, numbers[length : length + taps], weights[at_weights : at_weights + 3], out)
    elif operator == SAMPLE:
        _sample(values, source, line, channels, taps, length, added, height, width, out, out_line)
    elif operator == SCALE:
        for i in range(length):
            values[out + i] = values[source + i] * weights[at_weights + (i if taps > 1 else 0)]
    elif operator == MOVE:
        _move(values, source, added, length, out)


@_compiled
def _line(  # type: ignore[no-untyped-def]
    source, pixel, length, taps, tap, width, weights, channels, bias, added, added_channels, slopes, out
):
    """A convolution of one line of ``width`` pixels."""
    row, out_pixel, added_pixel = 4 * channels, 4 * channels, 4 * added_channels
    x = 0
    while x < width:
        left = width - x
        pixels = 6 if left >= 6 else 4 if left >= 4 else 2 if left >= 2 else 1
        start, to = source + x * pixel, out + x * out_pixel
        c = 0
        while c < channels:
            # Two vectors, unless the channels or those that are added end after one.
            both = channels - c >= 2 * LANES and (added == 0 or c + LANES != added_channels)
            more = added + x * added_pixel + 4 * c if added != 0 and c < added_channels else 0
            w, b, s, o = weights + 4 * c, bias + 4 * c, slopes + 4 * c, to + 4 * c
            if both:
                if pixels == 6:
                    _tile_6_2(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                elif pixels == 4:
                    _tile_4_2(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                elif pixels == 2:
                    _tile_2_2(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                else:
                    _tile_1_2(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                c += 2 * LANES
            else:
                if pixels == 6:
                    _tile_6_1(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                elif pixels == 4:
                    _tile_4_1(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                elif pixels == 2:
                    _tile_2_1(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                else:
                    _tile_1_1(start, pixel, length, taps, tap, w, row, b, more, added_pixel, s, o, out_pixel)
                c += LANES
        x += pixels


@_compiled
def _depthwise_line(source, line, channels, stride, width, weights, bias, slopes, out):  # type: ignore[no-untyped-def]
    pixel = 4 * channels
    fours, rest = width // 4, width % 4
    done = 4 * fours * pixel
    for c in range(0, pixel, _VECTOR_BYTES):
        s, w, b, p, o = source + c, weights + c, bias + c, slopes + c, out + c
        if stride == 1:
            if fours:
                _four_close(s, line, pixel, w, b, p, o, fours)
            if rest:
                _one_close(s + done, line, pixel, w, b, p, o + done, rest)
        else:
            if fours:
                _four_apart(s, line, pixel, w, b, p, o, fours)
            if rest:
                _one_apart(s + 2 * done, line, pixel, w, b, p, o + done, rest)


@_compiled
def _add(values, one, other, weights, slopes, count, channels, out):  # type: ignore[no-untyped-def]
    for i in range(0, count, channels):
        for c in range(channels):
            total = values[one + i + c] + values[other + i + c]
            values[out + i + c] = total if total > 0 else total * weights[slopes + c]


@_compiled
def _upsample(values, source, line, channels, height, width, out, out_line):  # type: ignore[no-untyped-def]
    """To twice the size (``height`` × ``width`` pixels): weights 3/4 and 1/4, at the border the nearest."""
    for y in range(height):
        near = y // 2
        far = min(max(near + (1 if y % 2 else -1), 0), height // 2 - 1)
        for x in range(width):
            left = x // 2
            other = min(max(left + (1 if x % 2 else -1), 0), width // 2 - 1)
            to = out + y * out_line + x * channels
            a, b = source + near * line + left * channels, source + near * line + other * channels
            c, d = source + far * line + left * channels, source + far * line + other * channels
            for k in range(channels):
                upper = np.float32(0.75) * values[a + k] + np.float32(0.25) * values[b + k]
                lower = np.float32(0.75) * values[c + k] + np.float32(0.25) * values[d + k]
                values[to + k] = np.float32(0.75) * upper + np.float32(0.25) * lower


@_compiled
def _space(values, source, line, channels, block, height, width, out_channels, out, out_line):  # type: ignore[no-untyped-def]
    """Channels to space: ``height`` × ``width`` pixels become ``block`` times as many in both directions."""
    for y in range(height * block):
        for x in range(width * block):
            at = source + y // block * line + x // block * channels
            at += (y % block * block + x % block) * out_channels
            to = out + (y * width * block + x) * out_channels
            for c in range(out_channels):
                values[to + c] = values[at + c]


@_compiled
def _region(values, points, table, form, out):  # type: ignore[no-untyped-def]
    """The matrix of the rotated box about some points (Landmarks2TransformMatrix, version 2).

    ``table`` holds the two points that give its horizontal axis, then the points; ``form`` the factors of width and
    height and the side of the sample.
    """
    left, right = points + 3 * table[0], points + 3 * table[1]
    x, y = values[right] - values[left], values[right + 1] - values[left + 1]
    length = np.float32(math.sqrt(x * x + y * y))
    cosine, sine = x / length, y / length
    low_x, low_y, high_x, high_y = (
        np.float32(np.inf),
        np.float32(np.inf),
        -np.float32(np.inf),
        -np.float32(np.inf),
    )
    for i in table[2:]:
        px, py = values[points + 3 * i], values[points + 3 * i + 1]
        along, aside = px * cosine + py * sine, py * cosine - px * sine
        low_x, high_x = min(low_x, along), max(high_x, along)
        low_y, high_y = min(low_y, aside), max(high_y, aside)
    half, side = np.float32(0.5), form[2]
    along, aside = (low_x + high_x) * half, (low_y + high_y) * half
    across, down = form[0] * (high_x - low_x) / side, form[1] * (high_y - low_y) / side
    a, b, c, d = cosine * across, -sine * down, sine * across, cosine * down
    values[out], values[out + 1] = a, b
    values[out + 2] = along * cosine - aside * sine - (a + b) * side * half
    values[out + 3], values[out + 4] = c, d
    values[out + 5] = along * sine + aside * cosine - (c + d) * side * half


@_compiled
def _sample(values, source, line, channels, rows, columns, matrix, height, width, out, out_line):  # type: ignore[no-untyped-def]
    """A bilinear sample (TransformTensorBilinear, version 2); 0 outside of the middles of the border's pixels."""
    half, one = np.float32(0.5), np.float32(1)
    m = values[matrix : matrix + 6]
    for y in range(height):
        for x in range(width):
            across = m[0] * (x + half) + m[1] * (y + half) + m[2] - half
            down = m[3] * (x + half) + m[4] * (y + half) + m[5] - half
            to = out + y * out_line + x * channels
            if not (0 <= across <= columns - 1 and 0 <= down <= rows - 1):
                values[to : to + channels] = 0
                continue
            left, top = math.floor(across), math.floor(down)
            right, below = np.float32(across - left), np.float32(down - top)
            at = source + top * line + left * channels
            for c in range(channels):
                upper = (one - right) * values[at + c] + right * values[at + channels + c]
                lower = (one - right) * values[at + line + c] + right * values[at + line + channels + c]
                values[to + c] = below * lower + (one - below) * upper


@_compiled
def _move(values, points, matrix, count, out):  # type: ignore[no-untyped-def]
    """Points by a matrix (TransformLandmarks, version 2)."""
    m = values[matrix : matrix + 6]
    for i in range(count):
        x, y = values[points + 2 * i], values[points + 2 * i + 1]
        values[out + 2 * i] = m[0] * x + m[1] * y + m[2]
        values[out + 2 * i + 1] = m[3] * x + m[4] * y + m[5]
