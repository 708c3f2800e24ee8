"""The hidden regions of several sizes, and the Gaussian-smoothed mask of each (section 3.2).

The paper names neither the sizes nor the kernel; the page of the method gives the reasons for those here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.mouth_square import MouthSquare

#: ``face``: everything, only to be supervised; ``half``: the lower half; ``square``: DINet's square around the mouth;
#: ``chin``: the square's columns down to the last row; ``lips``: where lips are, inside the square.
Region = Literal["face", "half", "square", "chin", "lips"]

#: Standard deviation of the smoothing as a share of the square's side. It ends inside the border around the square.
SIGMA = 1 / 40
# So many standard deviations the kernel reaches to either side.
_REACH = 2.0
# The lips of all clips of the toy corpus, with a margin: rows and columns in 16ths of the square's side.
_LIPS = ((11, 20), (5, 15))


class Masks(NamedTuple):
    """Hidden regions, of one size or of S.

    Attributes:
        hidden: (S, 1, H, W) float, 1 where the source is hidden, else 0.
        share: (S, 1, H, W) float, the painted face's part of the composite: 1 where hidden, falling to 0 around it.
    """

    hidden: Tensor
    share: Tensor

    def pick(self, index: Tensor) -> Masks:
        """Those of a batch: ``index`` (B,) int64, from 0 to S - 1, on the masks' device."""
        return Masks(self.hidden[index], self.share[index])

    def to(self, device: torch.device) -> Masks:
        """The same on a device."""
        return Masks(self.hidden.to(device), self.share.to(device))


def regions(square: MouthSquare, names: Sequence[Region]) -> Tensor:
    """Regions of a face as masks.

    Args:
        square: of the face.
        names: S of them.

    Returns:
        (S, 1, H, W) float32, 1 inside, else 0.
    """
    height, width = square.height, square.width
    every, below = slice(0, height), slice(square.rows.start, height)
    part, (rows, columns) = square.mouth / 16, _LIPS
    places = {
        "face": (every, slice(0, width)),
        "half": (slice(height // 2, height), slice(0, width)),
        "square": (square.rows, square.columns),
        "chin": (below, square.columns),
        "lips": (_scaled(rows, part), _scaled(columns, part)),
    }
    found = torch.zeros(len(names), 1, height, width)
    for mask, name in zip(found, names, strict=True):
        mask[(slice(None), *places[name])] = 1
    return found


def masks(square: MouthSquare, names: Sequence[Region], sigma: float = SIGMA) -> Masks:
    """What is hidden, and how it is put back.

    A region is widened by the reach of the kernel before it is smoothed, so that nothing of what is hidden shows
    through. Beyond the picture the region goes on as at its edge.

    Args:
        square: of the face.
        names: of the regions; ``face`` would hide everything.
        sigma: standard deviation of the Gaussian as a share of the square's side; 0: the composite has a hard edge.

    Raises:
        ValueError: ``face`` is among the names, or none is given.
    """
    if not names or "face" in names:
        raise ValueError(
            f"{', '.join(names) or 'no region'} cannot be hidden: something must remain to be seen"
        )
    hidden = regions(square, names)
    deviation = sigma * square.mouth
    reach = math.floor(_REACH * deviation)
    if not reach:
        return Masks(hidden, hidden)
    wide = F.max_pool2d(hidden, 2 * reach + 1, 1, reach)
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.softmax(-(at**2) / (2 * deviation**2), 0)
    smooth = F.pad(wide, (reach,) * 4, mode="replicate")
    smooth = F.conv2d(F.conv2d(smooth, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    # The sum of a kernel is 1 up to rounding.
    return Masks(hidden, torch.where(hidden > 0, 1.0, smooth.clamp(0, 1)))


def _scaled(span: tuple[int, int], by: float) -> slice:
    return slice(*(round(end * by) for end in span))
