"""Videos as official code reads them: by OpenCV before 4.13, which decodes all by BT.601."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from packaging.version import Version

_UNSPECIFIED = 2


def opencv_frames(path: Path, folder: Path) -> list[np.ndarray]:
    """All frames, (H, W, 3) uint8 RGB.

    OpenCV follows the tags since 4.13; it then reads a lossless copy without tags, which is written to ``folder``.
    """
    if Version(cv2.__version__) >= Version("4.13"):
        path = _untagged(path, folder / f"{path.stem}-untagged.mkv")
    capture, frames = cv2.VideoCapture(str(path)), []
    while (found := capture.read())[0]:
        frames.append(cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB))
    return frames


def _untagged(path: Path, copy: Path) -> Path:
    copy.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path)) as source, av.open(str(copy), "w") as target:
        video = source.streams.video[0]
        stream: Any = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, video.pix_fmt
        for number, frame in enumerate(source.decode(video)):
            frame.colorspace, frame.pts, frame.time_base = _UNSPECIFIED, number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return copy
