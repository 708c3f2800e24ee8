#!/bin/bash
# The same BT.709 video has other pixels in OpenCV 4.11 than in OpenCV 4.13.
#
# Software: opencv-python-headless 4.11.0.86, 4.12.0.88 and 4.13.0.92, numpy 2.2.6; the file is made by PyAV 16.0.1.
# Input: a flat red H.264 picture of 1280x720 pixels, BT.709, and tagged so (as phones, cameras and HDTF's videos are).
# Expected: cv2.VideoCapture returns the red that was stored, in every version, by the tag of the file.
# Seen: 4.11 and 4.12 decode by BT.601 and return another red; 4.13 returns the stored one. On an untagged copy all
#   versions agree.
# Why it matters: landmarks, crops and PSNR of one and the same clip change with the version of OpenCV.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet av==16.0.1 numpy==2.2.6
for version in 4.11.0.86 4.12.0.88 4.13.0.92; do
    "$folder/venv/bin/pip" install --quiet --no-deps --target "$folder/cv-$version" "opencv-python-headless==$version"
done
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from fractions import Fraction

import av
import numpy as np

KR, KB = 0.2126, 0.0722  # BT.709
red, green, blue = (np.array([200, 40, 30]) / 255).tolist()
luma = KR * red + (1 - KR - KB) * green + KB * blue
planes = [16 + 219 * luma, 128 + 112 * (blue - luma) / (1 - KB), 128 + 112 * (red - luma) / (1 - KR)]
for name, tagged in (("tagged", True), ("untagged", False)):
    with av.open(f"{sys.argv[1]}/{name}.mp4", "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        if tagged:
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
        for number in range(5):
            frame = av.VideoFrame(1280, 720, "yuv420p")
            for plane, value in zip(frame.planes, planes, strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            if tagged:
                frame.colorspace, frame.color_range = 1, 1
            frame.pts, frame.time_base = number, Fraction(1, 25)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
PY
read_first() {
    PYTHONPATH="$folder/cv-$1" "$folder/venv/bin/python" -c \
        "import cv2, sys; ok, bgr = cv2.VideoCapture(sys.argv[1]).read(); print(*bgr[360, 640, ::-1])" "$folder/$2.mp4"
}
declare -A seen
for version in 4.11.0.86 4.12.0.88 4.13.0.92; do
    for name in tagged untagged; do
        seen[$version-$name]=$(read_first "$version" "$name")
        echo "$version $name: ${seen[$version-$name]} (stored: 200 40 30)"
    done
done
[ "${seen[4.11.0.86-tagged]}" = "${seen[4.12.0.88-tagged]}" ]
[ "${seen[4.11.0.86-tagged]}" = "${seen[4.11.0.86-untagged]}" ]
[ "${seen[4.11.0.86-tagged]}" != "${seen[4.13.0.92-tagged]}" ]
[ "${seen[4.11.0.86-untagged]}" = "${seen[4.13.0.92-untagged]}" ]
echo "as described"
