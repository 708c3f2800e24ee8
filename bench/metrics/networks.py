"""Pretrained networks: loading them from files of the registry, with a clear reason if a file does not fit, and
running them at full precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from bench.common.errors import BenchError, Unavailable
from bench.metrics.base import Context


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 on CUDA, whatever the settings of the process: its 10 bits would change the third digit."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def read_weights(context: Context, name: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Some tensors of a registered file, as float32 on the CPU; its other tensors are ignored.

    Args:
        context: finds weights.
        name: in the registry of weights.
        shapes: key → shape of the tensors needed.

    Raises:
        Unavailable: the file is missing or damaged, or is of another network; names the first key that is missing or
            has another shape.
    """
    from bench.weights.tensors import load_state_dict

    path = context.weights.path(name)
    remedy = context.weights.entries[name].remedy
    try:
        state = load_state_dict(path)
    except BenchError as error:
        raise Unavailable(str(error), remedy) from error
    for key, shape in shapes.items():
        if key not in state:
            raise Unavailable(f"{path} does not hold the weights {name}: it lacks {key}", remedy)
        if tuple(state[key].shape) != tuple(shape):
            found = f"{key} is {tuple(state[key].shape)}, not {tuple(shape)}"
            raise Unavailable(f"{path} does not hold the weights {name}: {found}", remedy)
    return {key: state[key].float() for key in shapes}
