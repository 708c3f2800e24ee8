"""Where half precision ends: losses and what is compared are taken in float32 at least."""

from __future__ import annotations

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """Values of any shape: half precision and integers become float32, float32 and float64 stay as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
