#!/bin/bash
# libswscale's 16-bit and float RGB of limited-range video is 0.4 % too dark: white is 65283 of 65535.
#
# Software: PyAV 18.1.0 (FFmpeg 8, libswscale 9.5), numpy 2.2.6.
# Input: one flat white frame of BT.2020, limited range, in 10, 12 and 16 bits (luma 940, 3760 and 60160).
# Expected: VideoFrame.reformat(format="gbrp16le") gives 65535, and "gbrpf32le" gives 1.0.
# Seen: 65283 and 0.99615 at every depth, with accurate rounding too; in 8 bits the same white is 255. Full range is
#   another scale again: luma 1023 of 10 bits becomes 65472.
# Why it matters: HDR video is converted through 16-bit RGB. A tone map that takes 65535 for full scale makes faces one
#   grey level too dark, by an amount that looks like a wrong reference white.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==18.1.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PY'
import av
import numpy as np

ACCURATE = 0x4 | 0x40000 | 0x80000 | 0x4000 | 0x2000  # bicubic, accurate, the same on every processor, full chroma


def white(pix_fmt: str, luma: int, chroma: int, full: bool, target: str) -> float:
    frame = av.VideoFrame(16, 16, pix_fmt)
    wide = "<u2" if "le" in pix_fmt else "u1"
    for plane, value in zip(frame.planes, (luma, chroma, chroma), strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(wide).itemsize, value, wide).tobytes())
    frame.colorspace, frame.color_range = 9, 2 if full else 1
    plane = frame.reformat(format=target, src_colorspace=9, interpolation=ACCURATE).planes[0]
    return float(np.frombuffer(plane, {"gbrp": "u1", "gbrp16le": "<u2", "gbrpf32le": "<f4"}[target])[0])


deep = {pix_fmt: (white(pix_fmt, luma, chroma, False, "gbrp16le"), white(pix_fmt, luma, chroma, False, "gbrpf32le"))
        for pix_fmt, luma, chroma in (
            ("yuv444p10le", 940, 512), ("yuv444p12le", 3760, 2048), ("yuv444p16le", 60160, 32768))}
eight = white("yuv444p", 235, 128, False, "gbrp")
full = white("yuv444p10le", 1023, 512, True, "gbrp16le")
print("limited-range white as 16-bit and float RGB:", deep)
print("as 8-bit RGB:", eight, "; full-range white of 10 bits as 16-bit RGB:", full)
assert all(value == 65283 and abs(real - 0.99615) < 1e-4 for value, real in deep.values())
assert eight == 255 and full == 65472
PY
echo "as described"
