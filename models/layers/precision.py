"""Where half precision ends: losses and what is compared are taken in float32 at least."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """Values of any shape: half precision and integers become float32, float32 and float64 stay as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def in_full(layer: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """What a layer makes of values in float32 at least, also under autocast.

    For layers that predict coordinates: bfloat16 has 8 bits, so that a motion of 20 pixels is up to 0.06 pixels off.
    """
    with torch.autocast(values.device.type, enabled=False):
        return layer(full(values))
