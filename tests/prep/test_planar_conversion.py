"""Frames are converted in planes, which libswscale has vector code for; the bytes are those of its plain code."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from prep.conversion import Converter

# SWS_BICUBIC, SWS_ACCURATE_RND, SWS_BITEXACT, SWS_FULL_CHR_H_INP, SWS_FULL_CHR_H_INT
EXACT = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12", "gray", "rgb24"]
)
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
