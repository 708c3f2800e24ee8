"""High dynamic range to standard range: recordings in HLG and PQ (ITU-R BT.2100) as they look in BT.709.

The rule is that of ITU-R BT.2408: reference white, 203 cd/m2, becomes the white of SDR. HLG is shown on its nominal
display of 1000 cd/m2 (system gamma 1.2). Light is brought from the primaries of BT.2020 to those of BT.709, clipped to
the range of SDR (highlights become white), and coded for the display of BT.1886 (gamma 2.4). Tables and float32
operations give the same bytes on every processor.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np

#: Reference white in cd/m2, and the peak of HLG's nominal display.
WHITE, HLG_PEAK = 203.0, 1000.0
#: ITU-T H.273's number of the primaries of BT.709.
BT709_PRIMARIES = 1
# ITU-R BT.2087: linear light with the primaries of BT.2020 → BT.709.
_TO_709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    np.float32,
)
_STEPS = 1 << 14  # of the tables whose index is a square root

_compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


def hlg_scene(signal: np.ndarray) -> np.ndarray:
    """Light of the scene, 0 to 1, of an HLG signal, 0 to 1: the inverse OETF of BT.2100."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def pq_light(signal: np.ndarray) -> np.ndarray:
    """Light of the display in cd/m2 of a PQ signal, 0 to 1: the EOTF of BT.2100 (SMPTE ST 2084)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


@lru_cache
def _tables(light: str, full_scale: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """16-bit signal → linear light; square root of luminance → gain; square root of light → 8-bit code."""
    signal, root = np.minimum(np.arange(1 << 16) / full_scale, 1), np.arange(_STEPS + 1) / _STEPS
    if light == "hlg":
        # OOTF: the light of the display is that of the scene times its luminance to the power of 0.2.
        linear, gains = hlg_scene(signal), HLG_PEAK / WHITE * root**0.4
    else:
        linear, gains = pq_light(signal) / WHITE, np.ones(_STEPS + 1)
    codes = np.floor(255 * (root**2) ** (1 / 2.4) + 0.5).astype(np.uint8)
    return linear.astype(np.float32), gains.astype(np.float32), codes


def standard_range(planes: list[Any], width: int, full_scale: int, light: str, primaries: int) -> np.ndarray:
    """Convert a frame.

    Args:
        planes: green, blue and red as (rows, line length) uint16.
        width: pixels; lines may be longer.
        full_scale: the value of the signal 1.
        light: ``hlg`` or ``pq``.
        primaries: ITU-T H.273's number; all but BT.709's count as those of BT.2020, with which HDR is recorded.

    Returns:
        (rows, width, 3) uint8, RGB.
    """
    out = np.empty((planes[0].shape[0], 3 * width), np.uint8)
    matrix = np.eye(3, dtype=np.float32) if primaries == BT709_PRIMARIES else _TO_709
    _convert(*planes, *_tables(light, full_scale), matrix, out)
    return out.reshape(len(out), width, 3)


@_compiled
def _convert(green, blue, red, linear, gains, codes, matrix, out):  # type: ignore[no-untyped-def]
    steps, zero, one, half = np.float32(codes.size - 1), np.float32(0), np.float32(1), np.float32(0.5)
    of_red, of_green, of_blue = np.float32(0.2627), np.float32(0.6780), np.float32(0.0593)
    for row in range(out.shape[0]):
        for i in range(out.shape[1] // 3):
            r, g, b = linear[red[row, i]], linear[green[row, i]], linear[blue[row, i]]
            luminance = min(of_red * r + of_green * g + of_blue * b, one)
            gain = gains[np.int32(np.sqrt(luminance) * steps + half)]
            r, g, b = r * gain, g * gain, b * gain
            for channel in range(3):
                value = matrix[channel, 0] * r + matrix[channel, 1] * g + matrix[channel, 2] * b
                value = min(max(value, zero), one)
                out[row, 3 * i + channel] = codes[np.int32(np.sqrt(value) * steps + half)]
