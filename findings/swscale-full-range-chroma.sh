#!/bin/bash
# libswscale cuts off the fraction of chroma when it writes full-range video: colours shift by half a level each time.
#
# Software: PyAV 18.1.0 (FFmpeg 8, libswscale 9.5), numpy 2.2.6.
# Input: 200 flat RGB colours, converted to yuv444p of BT.709, with SWS_ACCURATE_RND and full chroma.
# Expected: luma and chroma rounded to the nearest code: mean error 0, at most half a code.
# Seen: so in limited range. In full range luma is right, and both chroma planes are 0.5 too low on average, up to 1.0.
# Why it matters: webcams and Motion JPEG record in full range; each pass of such a video through RGB shifts its colours
#   towards green, also where a method changes nothing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np

ACCURATE = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000  # bicubic, accurate, the same on every processor, full chroma
LIMITED, FULL = 1, 2


def errors(colour_range: int) -> np.ndarray:
    found = []
    for colour in np.random.default_rng(0).integers(0, 256, (200, 3)).astype(np.uint8):
        frame = av.VideoFrame.from_ndarray(np.tile(colour, (16, 16, 1)), format="rgb24")
        made = frame.reformat(
            format="yuv444p", dst_colorspace=1, dst_color_range=colour_range, interpolation=ACCURATE
        )
        red, green, blue = colour / 255
        y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        u, v = (blue - y) / 1.8556, (red - y) / 1.5748
        if colour_range == FULL:
            exact = 255 * y, 128 + 255 * u, 128 + 255 * v
        else:
            exact = 16 + 219 * y, 128 + 224 * u, 128 + 224 * v
        codes = [np.frombuffer(plane, np.uint8)[0] for plane in made.planes]
        found.append([float(code) - value for code, value in zip(codes, exact, strict=True)])
    return np.array(found)


limited, full = errors(LIMITED), errors(FULL)
for name, found in (("limited", limited), ("full", full)):
    print(name, "mean error of Y, U, V:", found.mean(axis=0).round(3), "largest:", np.abs(found).max(axis=0).round(2))
assert np.abs(limited.mean(axis=0)).max() < 0.1 and np.abs(limited).max() < 0.6
assert abs(full[:, 0].mean()) < 0.1 and (full[:, 1:].mean(axis=0) < -0.4).all()
PY
echo "as described"
