#!/bin/bash
# OpenCV reads 10-bit H.264 with other pixels in the bottom rows: black in some heights, another grey in others.
#
# Software: opencv-python-headless 4.11.0.86, numpy 1.26.4; the files are written by PyAV 16.0.1.
# Input: a flat grey picture of 844 pixels' width, lossless H.264 4:2:0, in 8 and in 10 bits, 844, 514 and 720 high.
# Expected: every row of the frame that cv2.VideoCapture returns is the same grey.
# Seen: so in 8 bits. In 10 bits the last rows differ from those above: they are black where the height is 844 or 514
#   (not a multiple of 16), and one level off where it is 720.
# Why it matters: phones and cameras record 10 bits, and most preprocessing code of this field reads with OpenCV.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==16.0.1 numpy==1.26.4 opencv-python-headless==4.11.0.86
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from fractions import Fraction

import av
import cv2
import numpy as np


def rows(height: int, pix_fmt: str) -> np.ndarray:
    """(height, 3) of one column, as OpenCV returns it."""
    path = f"{sys.argv[1]}/{height}-{pix_fmt}.mp4"
    with av.open(path, "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 844, height, pix_fmt
        for number in range(3):
            grey = av.VideoFrame.from_ndarray(np.full((height, 844, 3), 180, np.uint8), format="rgb24")
            frame = grey.reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    read, picture = cv2.VideoCapture(path).read()
    assert read
    return picture[:, 10].astype(int)


for height in (844, 514, 720):
    eight, ten = rows(height, "yuv420p"), rows(height, "yuv420p10le")
    print(height, "rows, the last four in 8 bits:", eight[-4:].tolist(), "in 10 bits:", ten[-4:].tolist())
    assert np.ptp(eight, axis=0).max() == 0
    assert np.abs(ten[:8] - 180).max() <= 3
    if height % 16:
        assert ten[-1].max() < 5
    else:
        assert 0 < np.abs(ten[-1] - ten[0]).max() < 5
PY
echo "as described"
