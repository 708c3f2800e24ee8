"""Pretrained networks: loading them out of the registry's files, with one clear reason where a file does not fit, and
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
    """No TF32 on CUDA, whatever the process chose: its 10 bits would move the third digit of a distance."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def read_weights(context: Context, name: str, shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Some tensors of a registered file, as float32 on the CPU; what else it holds is left out.

    Args:
        context: where weights are found.
        name: in the registry of weights.
        shapes: key → shape of what is needed.

    Raises:
        Unavailable: the file is missing or damaged, or is of another network; it names the first key that is
            lacking or has another shape.
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
