#!/bin/bash
# mediapipe's FaceDetection ignores min_detection_confidence: its full-range graph keeps 0.6, its short-range graph 0.5.
#
# Software: mediapipe 0.10.21, opencv-contrib-python 4.11.0.86, numpy 1.26.4; the photograph that matplotlib 3.10.7
#   carries (grace_hopper.jpg).
# Input: 135 pictures: the photograph in three sizes, on grey, faded in 20 steps and covered from above in 25.
# Expected: FaceDetection(model_selection=..., min_detection_confidence=X) returns the faces whose score is X or more.
# Seen: 0.1, 0.5 and 0.9 give exactly the same detections, by either model: from 0.6 on by the full-range one
#   (model_selection=1), from 0.5 on by the short-range one. That the pictures have faces of other scores is shown by the
#   same graphs with the threshold set in the calculator that applies it: then 0.1, 0.5 and 0.9 give different faces, and
#   the full-range graph finds faces of 0.5 to 0.6, which FaceDetection with 0.5 did not.
# Why it matters: code that asks for 0.5 loses faces, and code that asks for 0.9 crops faces it meant to refuse.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mediapipe==0.10.21 matplotlib==3.10.7 \
    numpy==1.26.4 opencv-contrib-python==4.11.0.86
"$folder/venv/bin/python" - 2>"$folder/log" <<'PY' || { cat "$folder/log"; exit 1; }
import cv2
import matplotlib.cbook
import mediapipe
import numpy as np
from mediapipe.python.solution_base import SolutionBase

path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
photograph = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
pictures = []
for scale in (1, 0.5, 0.25):
    small = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    placed = np.full((600, 512, 3), 90, np.uint8)
    placed[: small.shape[0], : small.shape[1]] = small
    pictures += [np.uint8(np.rint(placed * (1 - part) + 90 * part)) for part in np.arange(0, 1, 0.05)]
    for rows in range(0, 300, 12):
        covered = placed.copy()
        covered[: int(rows * scale)] = 90
        pictures.append(covered)


def faces(solution: SolutionBase, images: list[object]) -> list[tuple[int, float, float, float, float]]:
    """Number of the picture, score, left, top, width."""
    found = []
    for number, image in enumerate(images):
        for face in solution.process(image).detections or []:
            box = face.location_data.relative_bounding_box
            found.append((number, face.score[0], box.xmin, box.ymin, box.width))
    return found


for model, name, kept in ((1, "full_range", 0.6), (0, "short_range", 0.5)):
    seen = {}
    for asked in (0.1, 0.5, 0.9):
        with mediapipe.solutions.face_detection.FaceDetection(asked, model) as detection:
            seen["asked", asked] = faces(detection, pictures)
        graph = f"mediapipe/modules/face_detection/face_detection_{name}_cpu.binarypb"
        calculator = f"facedetection{name.replace('_', '')}__facedetection__TensorsToDetectionsCalculator"
        parameters = {f"{calculator}.min_score_thresh": asked}
        with SolutionBase(binary_graph_path=graph, calculator_params=parameters, outputs=["detections"]) as detection:
            seen["set", asked] = faces(detection, [{"image": picture} for picture in pictures])
    for (way, threshold), found in seen.items():
        print(name, way, threshold, "faces:", len(found), "lowest score:", round(min(face[1] for face in found), 4))
        if way == "set":
            assert threshold <= min(face[1] for face in found) < threshold + 0.03
    assert seen["asked", 0.1] == seen["asked", 0.5] == seen["asked", 0.9]
    assert kept <= min(face[1] for face in seen["asked", 0.9]) < kept + 0.03
    assert len(seen["set", 0.1]) > len(seen["set", 0.5]) > len(seen["set", 0.9])
    assert any(0.5 <= face[1] < 0.6 for face in seen["set", 0.5])
PY
echo "as described"
