"""Videos that are read back exactly as they were written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np


def write_lossless(path: Path, frames: Iterable[np.ndarray]) -> Path:
    """A silent video of frames (H, W, 3) uint8 at 25 fps, RGB without loss; any size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = list(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.pix_fmt = "rgb24"
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def drifting(n: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    """Random pictures, no two alike."""
    return list(np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8))
