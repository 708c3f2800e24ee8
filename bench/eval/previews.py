"""A few preview images of every video of a clip."""

from __future__ import annotations

import cv2
import numpy as np

from bench.eval.parts import PartRow

#: Height of the images in pixels, and their JPEG quality.
PREVIEW_HEIGHT, PREVIEW_QUALITY = 256, 88
#: Positions in the clip, as shares of its length.
PREVIEW_PLACES = (1 / 6, 1 / 2, 5 / 6)
#: Method name for the images of the true video.
TRUTH = "truth"


class Previews:
    """Collects a few images of every video of a clip, as rows of its part."""

    def __init__(self, clip_id: str) -> None:
        self.clip_id = clip_id
        self.rows: list[PartRow] = []

    def keep(self, method: str, start: int, frames: list[np.ndarray], total: int) -> None:
        """Keep those of the given frames that are at :data:`PREVIEW_PLACES`.

        Args:
            method: name of the method.
            start: number of the first given frame in the clip.
            frames: (H, W, 3) uint8, RGB.
            total: frames of the whole video.
        """
        for place in sorted({int(share * total) for share in PREVIEW_PLACES}):
            if start <= place < start + len(frames):
                picture = _shrunk(frames[place - start])
                quality = [cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY]
                data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes()
                height, width = picture.shape[:2]
                self.rows.append(
                    PartRow(
                        "preview", self.clip_id, method, frame=place, width=width, height=height, data=data
                    )
                )


def _shrunk(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    if height <= PREVIEW_HEIGHT:
        return picture
    size = (max(1, round(width * PREVIEW_HEIGHT / height)), PREVIEW_HEIGHT)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
