"""Convolution and batch normalisation computed as one convolution, where statistics are fixed.

What it saves is small, and depends on the network: see ``tests/benchmarks/test_folding.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class _Folded:
    """Weights of the one convolution, and what they were made from, which is kept so that no address is used twice."""

    weight: Tensor
    bias: Tensor
    sources: tuple[Tensor, ...]
    versions: tuple[int, ...]

    def made_from(self, sources: tuple[Tensor, ...]) -> bool:
        return self.versions == tuple(tensor._version for tensor in sources) and all(
            kept.data_ptr() == tensor.data_ptr() for kept, tensor in zip(self.sources, sources, strict=True)
        )


# By normalisation; a copy of a network starts without.
_folded: WeakKeyDictionary[nn.Module, _Folded] = WeakKeyDictionary()


def normalised(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """``norm(conv(x))``, as one convolution where that is the same function.

    This is so in evaluation mode; and it is done if none of their weights asks for a gradient: in generation, and in
    frozen networks of training. The weights of the one convolution are made at the first call and again after any
    change to what they are made from, such as :meth:`torch.nn.Module.load_state_dict`, or after a call in which they
    asked for a gradient. Changes through ``Tensor.data`` are not seen. Nothing is added to the state dict.

    Args:
        conv: of any padding, stride and groups.
        norm: with weights and running statistics, as many channels as ``conv`` puts out.
        x: (B, C, H, W) float, input of ``conv``.

    Returns:
        (B, C', H', W') float, output of ``norm``; equal up to rounding.
    """
    sources = _sources(conv, norm)
    if not foldable(norm, sources):
        # They may be trained from here on, and a fused optimizer does not count its changes.
        _folded.pop(norm, None)
        return norm(conv(x))
    found = _folded.get(norm)
    if found is None or not found.made_from(sources):
        found = _folded[norm] = _fold(conv, norm, sources)
    return conv._conv_forward(x, found.weight, found.bias)


def foldable(norm: nn.BatchNorm2d, sources: Sequence[Tensor]) -> bool:
    """Whether folded weights are used, of a normalisation and all that they depend on."""
    return not (
        norm.training
        or torch.compiler.is_compiling()
        # Their changes are not counted.
        or any(tensor.is_inference() or tensor.requires_grad for tensor in sources)
    )


def _sources(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, ...]:
    """All that the folded weights depend on. Running statistics change unseen, but the counter with them."""
    tensors = (
        norm.running_mean,
        norm.running_var,
        norm.num_batches_tracked,
        norm.weight,
        norm.bias,
        conv.weight,
        conv.bias,
    )
    return tuple(tensor for tensor in tensors if tensor is not None)


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, sources: tuple[Tensor, ...]) -> _Folded:
    assert norm.running_mean is not None and norm.running_var is not None
    # Under inference mode the results could not take part in a backward pass later.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(conv.weight.device.type, enabled=False):
        factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - norm.running_mean * factor
        if conv.bias is not None:
            bias = bias + conv.bias * factor
        kept = tuple(tensor.detach() for tensor in sources)
        versions = tuple(tensor._version for tensor in sources)
        return _Folded(conv.weight * factor.view(-1, 1, 1, 1), bias, kept, versions)
