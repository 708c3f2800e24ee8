#!/bin/bash
# syncnet-python splits and doubles the tracks of two people when the detector lists them in another order.
#
# Software: syncnet-python 0.2.3, numpy 2.2.6, scipy 1.15.3.
# Input: boxes of two people who stand still, 400 px apart, both found in each of 200 frames. A detector lists faces by
#   confidence, so in some frames the right person comes first.
# Expected: SyncNetPipeline._track gives two tracks of 200 frames, as track_shot of run_pipeline.py in
#   joonson/syncnet_python does, which goes on to the next face of the frame if one does not overlap.
# Seen: it leaves the frame at the first face that does not overlap. With the order swapped in every third frame there
#   are three tracks, and one person is measured twice; with the order swapped every 30 frames there are five tracks of
#   60 frames, each with the gaps filled by interpolation.
# Why it matters: LSE of videos with two people depends on the order of a detector's list.
# The two methods are taken out of the installed module, so that torch and FFmpeg need not be installed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.2.6 scipy==1.15.3
"$folder/venv/bin/pip" install --quiet --no-deps --target "$folder/package" syncnet-python==0.2.3
"$folder/venv/bin/python" - "$folder/package/syncnet_python/syncnet_pipeline.py" <<'PY'
import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import interp1d

classes = {node.name: node for node in ast.parse(Path(sys.argv[1]).read_text()).body if isinstance(node, ast.ClassDef)}
pipeline = classes["SyncNetPipeline"]
pipeline.body = [node for node in pipeline.body if getattr(node, "name", "") in ("_track", "_iou")]
names = {"np": np, "interp1d": interp1d, "dataclass": dataclass, "Dict": dict, "Any": Any}
exec(compile(ast.Module([classes["PipelineConfig"], pipeline], []), sys.argv[1], "exec"), names)
tracker = object.__new__(names["SyncNetPipeline"])
tracker.cfg = names["PipelineConfig"]()

LEFT, RIGHT = [100, 100, 250, 250], [500, 100, 650, 250]


def tracks(swapped: Any) -> list[tuple[int, int, int]]:
    """First frame, frames and left edge of every track."""
    order = [(RIGHT, LEFT) if swapped(number) else (LEFT, RIGHT) for number in range(200)]
    found = tracker._track([[{"frame": n, "bbox": box} for box in boxes] for n, boxes in enumerate(order)])
    return [(int(t["frame"][0]), len(t["frame"]), round(float(t["bbox"][:, 0].mean()))) for t in found]


never = tracks(lambda number: False)
third = tracks(lambda number: number % 3 == 0)
runs = tracks(lambda number: number // 30 % 2 == 1)
print("order kept:               ", never)
print("swapped every third frame:", third)
print("swapped every 30 frames:  ", runs)
assert never == [(0, 200, 100), (0, 200, 500)]
assert len(third) == 3 and sorted(left for _, _, left in third) == [100, 500, 500]
assert len(runs) == 5 and max(length for _, length, _ in runs) == 60
PY
echo "as described"
