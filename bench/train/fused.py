"""Optimizers in their fused form."""

from __future__ import annotations

import inspect

import torch
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

#: Those whose weights torch can change in one pass, on CPU and on CUDA.
_KINDS = (Adam, AdamW, SGD, Adagrad)


def fused(optimizer: Optimizer) -> Optimizer:
    """The same optimizer, before its first step, as one pass over weights, gradients and moments instead of a dozen.

    The result differs by rounding only. An optimizer of another kind, or with weights that are not float32, is returned
    as it is.

    Args:
        optimizer: without state.
    """
    kind = type(optimizer)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    suitable = all(w.dtype == torch.float32 and w.device.type in ("cpu", "cuda") for w in weights)
    if kind not in _KINDS or not suitable or optimizer.defaults.get("differentiable"):
        return optimizer
    chosen = {"fused": True, "foreach": None}
    names = inspect.signature(kind).parameters
    options = {name: value for name, value in optimizer.defaults.items() if name in names}
    groups = [{**group, **chosen} for group in optimizer.param_groups]
    return kind(groups, **{**options, **chosen})
