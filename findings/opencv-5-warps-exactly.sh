#!/bin/bash
# OpenCV 5 interpolates a warp of bytes where it is asked to; OpenCV 4 rounds each position to 1/32 pixel first.
#
# Software: opencv-python-headless 4.13.0.92, 4.14.0.94 and 5.0.0.93, numpy 2.2.6; the photograph that matplotlib 3.10.7
#   carries (grace_hopper.jpg).
# Input: noise of 320x240 bytes, a black and white edge, and the photograph; cv2.warpAffine and cv2.remap, INTER_LINEAR.
# Expected: the same bytes in every version, within one level of exact bilinear interpolation.
# Seen: 5.0 gives exact bilinear interpolation, rounded (at most 0.51 level off). 4.13 and 4.14 agree with each other and
#   are up to 5.8 levels off in the noise. An edge that moves by 0.11 to 0.14 pixel gets one and the same value in 4.x, and
#   four values in 5.0. 4.14 and 5.0 differ in 40 % of the noise by up to 6 levels, and in 5.6 % of the bytes of the
#   photograph, turned by 7.3 degrees at a scale of 0.8, by up to 4. INTER_CUBIC differs too, INTER_LANCZOS4 does not.
# Why it matters: faces are aligned with cv2.warpAffine, so prepared data and metrics depend on the version of OpenCV.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.2.6
"$folder/venv/bin/pip" install --quiet --no-deps --target "$folder/pictures" matplotlib==3.10.7
for version in 4.13.0.92 4.14.0.94 5.0.0.93; do
    "$folder/venv/bin/pip" install --quiet --no-deps --target "$folder/cv-$version" "opencv-python-headless==$version"
done
cat >"$folder/warp.py" <<'PY'
import sys

import cv2
import numpy as np

noise = np.random.default_rng(0).integers(0, 256, (240, 320), dtype=np.uint8)
edge = np.zeros((4, 64), np.uint8)
edge[:, 32:] = 255
photograph = cv2.imread(f"{sys.argv[1]}/pictures/matplotlib/mpl-data/sample_data/grace_hopper.jpg")
turn = cv2.getRotationMatrix2D((160, 120), 7.3, 0.8)
inverse = cv2.invertAffineTransform(turn)
x, y = inverse @ np.stack([*np.meshgrid(np.arange(320.0), np.arange(240.0)), np.ones((240, 320))]).reshape(3, -1)
shifts = [np.float64([[1, 0, shift], [0, 1, 0]]) for shift in (0.11, 0.12, 0.13, 0.14)]
np.savez(
    f"{sys.argv[1]}/{sys.argv[2]}.npz",
    noise=noise,
    photograph=photograph,
    x=x.reshape(240, 320),
    y=y.reshape(240, 320),
    warped=cv2.warpAffine(noise, turn, (320, 240), flags=cv2.INTER_LINEAR),
    remapped=cv2.remap(noise, *np.float32([x, y]).reshape(2, 240, 320), cv2.INTER_LINEAR),
    edge=[int(cv2.warpAffine(edge, shift, (64, 4), flags=cv2.INTER_LINEAR)[2, 32]) for shift in shifts],
    face=cv2.warpAffine(photograph, cv2.getRotationMatrix2D((256, 300), 7.3, 0.8), (512, 600), flags=cv2.INTER_LINEAR),
    cubic=cv2.warpAffine(noise, turn, (320, 240), flags=cv2.INTER_CUBIC),
    lanczos=cv2.warpAffine(noise, turn, (320, 240), flags=cv2.INTER_LANCZOS4),
)
PY
for version in 4.13.0.92 4.14.0.94 5.0.0.93; do
    PYTHONPATH="$folder/cv-$version" "$folder/venv/bin/python" "$folder/warp.py" "$folder" "$version"
done
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys

import numpy as np

seen = {version: dict(np.load(f"{sys.argv[1]}/{version}.npz")) for version in ("4.13.0.92", "4.14.0.94", "5.0.0.93")}
older, old, new = seen.values()
for name in ("noise", "photograph", "x", "y"):
    assert (old[name] == new[name]).all(), f"not the same input: {name}"
for name in old:
    assert (older[name] == old[name]).all(), f"4.13 and 4.14 differ: {name}"
x, y, source = old["x"], old["y"], old["noise"].astype(float)
inside = (x > 0) & (y > 0) & (x < 319) & (y < 239)
x, y = x[inside], y[inside]
left, top = x.astype(int), y.astype(int)
right, down = x - left, y - top
above = source[top, left] * (1 - right) + source[top, left + 1] * right
below = source[top + 1, left] * (1 - right) + source[top + 1, left + 1] * right
exact = above * (1 - down) + below * down
for version, result in seen.items():
    off = [round(float(np.abs(result[name][inside] - exact).max()), 2) for name in ("warped", "remapped")]
    print(f"{version}: warpAffine and remap are at most {off} levels off; the edge, moved by 0.11, 0.12, 0.13 and 0.14:",
          result["edge"].tolist())
    assert max(off) < 0.52 if result is new else min(off) > 5
    assert len(set(result["edge"].tolist())) == (4 if result is new else 1)
for name, share, levels in (("warped", 0.40, 6), ("face", 0.056, 4), ("cubic", 0.42, 7), ("lanczos", 0, 0)):
    apart = np.abs(old[name].astype(int) - new[name])
    print(f"4.14 and 5.0, {name}: {100 * (apart > 0).mean():.1f} % of the bytes differ, by up to {apart.max()} levels")
    assert apart.max() == levels and abs((apart > 0).mean() - share) < 0.01
PY
echo "as described"
