"""The views of one clip: where their crops lie, in which frames all of them have one, and the encoded crops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from prep import images
from prep.errors import ClipError
from prep.options import PrepOptions
from prep.views import VIEWS
from prep.views.geometry import BoxView


def place_views(
    names: Iterable[str],
    landmarks: npt.ArrayLike,
    detected: np.ndarray,
    width: int,
    height: int,
    *,
    aligned: bool,
    min_detected: float,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The matrices of some views for a whole clip.

    Args:
        names: of the views.
        landmarks: (T, 478, 3), full-frame pixels; NaN where nothing was detected.
        detected: (T,) bool.
        width: of the frame, pixels.
        height: of the frame, pixels.
        aligned: the frames are already aligned by FFHQ's rule.
        min_detected: smallest share of frames, 0 to 1, that must remain.

    Returns:
        View → (T, 2, 3) float64; and (T,) bool, the detected frames in which every view has a crop.

    Raises:
        ClipError: step ``landmarks``; fewer frames remain.
    """
    transforms = {}
    for name in names:
        view = VIEWS[name]
        # A box of whole pixels is IP-LAP's to the bit in float64. Other views get the landmarks as they are stored, so
        # that one that is added later is the same to the bit.
        points = landmarks if isinstance(view, BoxView) else np.asarray(landmarks, np.float32)
        transforms[name] = view.transforms(points, detected, width, height, aligned=aligned)
    remaining = detected.copy()
    for matrices in transforms.values():
        remaining &= np.isfinite(matrices).all(axis=(1, 2))
    check_faces(remaining, min_detected)
    return transforms, remaining


def cut(
    frame: np.ndarray, index: int, transforms: Mapping[str, np.ndarray], options: PrepOptions
) -> dict[str, bytes]:
    """The encoded crop of each view from frame ``index`` of a clip, (height, width, 3) uint8."""
    return {
        name: images.encode(VIEWS[name].crop(frame, matrices[index]), options.encoding, options.quality)
        for name, matrices in transforms.items()
    }


def check_faces(detected: np.ndarray, least: float) -> None:
    """Check that enough frames show a face.

    Args:
        detected: (T,) bool.
        least: smallest share, 0 to 1.

    Raises:
        ClipError: step ``landmarks``; there are fewer.
    """
    seen, total = int(detected.sum()), len(detected)
    if seen == 0:
        raise ClipError("landmarks", f"no face in {total} frame{'' if total == 1 else 's'}")
    if seen < least * total:
        raise ClipError("landmarks", f"a face in {seen} of {total} frames, fewer than {least:.0%}")
