"""Faces of footage at the size that a generator of the view ``mouth416x320`` works at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from models.base import Crop, Footage
from models.layers.mouth_square import MouthSquare

#: The view, and the square of its pictures.
VIEW, WHOLE = "mouth416x320", MouthSquare(256)


def crops_at(footage: Footage, places: np.ndarray) -> list[Crop]:
    """The crops of (n,) frames with a face, in their order; a frame may come several times, and is read once."""
    crops = {}
    # One after the other: full frames of all of them could be gigabytes.
    for place in np.unique(places).tolist():
        (shot,) = footage.pick([place])
        crop = footage.crop(VIEW, shot)
        assert crop is not None
        crops[place] = crop
    return [crops[place] for place in places.tolist()]


def faces_of(crops: Sequence[Crop], square: MouthSquare) -> Tensor:
    """(n, 3, H, W) float32 in [0, 1], RGB: crops of :data:`VIEW` at another size, scaled as samples are in training."""
    size = (square.width, square.height)
    pictures = [crop.picture for crop in crops]
    if square != WHOLE:
        pictures = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255


def matrix_of(crop: Crop, square: MouthSquare) -> np.ndarray:
    """(2, 3) float64: full-frame pixels to those of such a face."""
    return crop.transform * (square.mouth / WHOLE.mouth)


def check_size(footage: Footage, square: MouthSquare, smallest: float) -> None:
    """See that the faces of footage are large enough.

    Args:
        footage: at least one frame has a face.
        square: of the faces that are generated.
        smallest: the least side of the square in a frame, as a share of the side at which it is generated.

    Raises:
        ValueError: they are not.
    """
    scales = footage.transforms(VIEW)[footage.detected, 0, 0]
    # The median: one frame may be odd.
    side, least = WHOLE.mouth / float(np.median(scales)), smallest * square.mouth
    if side < least:
        raise ValueError(
            f"the face is too small for {square.height}×{square.width}: the square round its mouth is {side:.0f} "
            f"pixels wide, and {least:.0f} are the least; take a larger video, or --set generate.smallest=0"
        )
