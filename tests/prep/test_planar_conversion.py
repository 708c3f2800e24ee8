"""What is fast in the conversion of frames, against libswscale's plain code."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from prep.conversion import Converter, Painter
from prep.pixels import Colour

# SWS_BICUBIC, SWS_ACCURATE_RND, SWS_BITEXACT, SWS_FULL_CHR_H_INP, SWS_FULL_CHR_H_INT
EXACT = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p", "yuv420p10le", "nv12", "gray", "rgb24"])
@pytest.mark.parametrize("size", [(64, 48), (75, 61), (1, 1)])
def test_planes_give_the_bytes_of_packed_rgb(pix_fmt: str, size: tuple[int, int]) -> None:
    frame = VideoFrame(*size, pix_fmt)
    values = np.random.default_rng(0)
    for plane in frame.planes:
        plane.update(
            values.integers(0, 4 if "10" in pix_fmt else 256, plane.buffer_size, dtype=np.uint8).tobytes()
        )
    packed = VideoReformatter().reformat(
        frame, format="rgb24", src_colorspace=5, interpolation=EXACT, threads=1
    )
    found = Converter()(frame)
    np.testing.assert_array_equal(found, packed.to_ndarray())
    assert found.flags.c_contiguous and found.flags.writeable


WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}


def filled(size: tuple[int, int], space: int, full: bool, smooth: bool = False) -> VideoFrame:
    frame = VideoFrame(*size, "yuv420p")
    values = np.random.default_rng(0)
    for plane in frame.planes:
        noise = values.integers(0, 256, (plane.height, plane.line_size), dtype=np.uint8)
        plane.update((cv2.GaussianBlur(noise, (0, 0), 2) if smooth else noise).tobytes())
    frame.colorspace, frame.color_range = space, 2 if full else 1
    return frame


def keys(x: np.ndarray) -> np.ndarray:
    """Cubic convolution with a = -0.6."""
    x, a = np.abs(x), -0.6
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def interpolation(pixels: int, samples: int) -> np.ndarray:
    """(pixels, samples): chroma sample j lies between pixels 2 j and 2 j + 1; the last one is repeated."""
    matrix = np.zeros((pixels, samples))
    for pixel in range(pixels):
        for sample in range(-3, samples + 3):
            weight = keys(np.array((pixel + 0.5) / 2 - (sample + 0.5)))
            matrix[pixel, min(max(sample, 0), samples - 1)] += weight
    return matrix


def exact(frame: VideoFrame, space: int, full: bool) -> np.ndarray:
    """(height, width, 3) float64, not rounded, from the definitions of ITU-R BT.601, BT.709 and BT.2020."""
    y, u, v = (
        np.array(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)
        for plane in frame.planes
    )
    rows, columns = interpolation(y.shape[0], u.shape[0]), interpolation(y.shape[1], u.shape[1])
    u, v = (rows @ (plane - 128) @ columns.T / (255 if full else 224) for plane in (u, v))
    y = y / 255 if full else (y - 16) / 219
    kr, kb = WEIGHTS[space]
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.stack([red, green, blue], axis=2).clip(0, 1)


@pytest.mark.parametrize("size", [(64, 48), (75, 61), (2, 2), (1, 1), (1, 7), (9, 1)])
@pytest.mark.parametrize("space", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
def test_420_is_rounded_from_the_exact_values(size: tuple[int, int], space: int, full: bool) -> None:
    frame = filled(size, space, full)
    found = Converter()(frame)
    assert np.abs(found - exact(frame, space, full)).max() < 0.501
    assert found.shape == (size[1], size[0], 3) and found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize("space", WEIGHTS)
def test_420_is_within_one_level_of_libswscale(space: int) -> None:
    frame = filled((320, 240), space, full=False, smooth=True)
    packed = VideoReformatter().reformat(
        frame, format="rgb24", src_colorspace=space, interpolation=EXACT, threads=1
    )
    difference = Converter()(frame).astype(int) - packed.to_ndarray()
    assert np.abs(difference).max() <= 1 and abs(difference.mean()) < 0.01


@pytest.mark.parametrize(
    ("pix_fmt", "full"),
    [
        *((f"yuv{form}p", full) for form in ("420", "422", "444") for full in (False, True)),
        ("yuvj420p", True),
    ],
)
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_what_is_written_is_rounded_from_the_exact_values(pix_fmt: str, matrix: str, full: bool) -> None:
    kr, kb = WEIGHTS[{"bt709": 1, "bt601": 5, "bt2020": 9}[matrix]]
    paint = Painter(pix_fmt, Colour(matrix, full=full))
    errors = []
    for colour in np.random.default_rng(0).integers(0, 256, (60, 3), dtype=np.uint8):
        red, green, blue = colour / 255
        y = kr * red + (1 - kr - kb) * green + kb * blue
        u, v = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
        scale, black, chroma = (255, 0, 255) if full else (219, 16, 224)
        wanted = black + scale * y, 128 + chroma * u, 128 + chroma * v
        frame = paint(np.full((14, 22, 3), colour))
        planes = [
            np.array(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
            for plane in frame.planes
        ]
        assert all((plane == plane[0, 0]).all() for plane in planes)
        errors.append(
            [
                float(plane[0, 0]) - min(max(value, 0), 255)
                for plane, value in zip(planes, wanted, strict=True)
            ]
        )
    assert np.abs(errors).max() < 0.56
    assert np.abs(np.mean(errors, axis=0)).max() < 0.12
