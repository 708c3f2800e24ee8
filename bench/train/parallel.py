"""Communication between several processes that train together.

Gradients are averaged explicitly after each backward pass, not by a wrapper around each network. So a stage may use its
networks in any order and any number of times, and compute a loss for some of them only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from bench.train.config import RunConfig

#: Elements that are averaged in one message.
BUCKET = 1 << 24


#: Environment variables in which launchers store the rank of a process; torch's first.
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def is_main_process() -> bool:
    """Whether this process is the one that writes; ``accelerate launch`` starts several."""
    found = [os.environ[name] for name in _RANKS if name in os.environ]
    return not found or int(found[0]) == 0


def make_accelerator(config: RunConfig) -> Accelerator:
    """The processes and the device given by the configuration and ``accelerate launch``.

    Raises:
        BenchError: CUDA is requested and not available.
    """
    device = config.runner.device
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("runner.device=cuda: no CUDA device is visible; use runner.device=auto or cpu")
    # Each stage has a precision of its own, see bench.train.precision.
    return Accelerator(mixed_precision="no", cpu=device == "cpu")


def average(accelerator: Accelerator | None, tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their mean over all processes, in place. All processes must pass the same tensors.

    Here and below, no accelerator means that this process is the only one.
    """
    if accelerator is None or accelerator.num_processes == 1:
        return
    for bucket in _buckets(tensors):
        flat = accelerator.reduce(_flatten_dense_tensors(bucket), "mean")
        for tensor, mean in zip(bucket, _unflatten_dense_tensors(flat, bucket), strict=True):
            tensor.copy_(mean)


def average_gradients(accelerator: Accelerator | None, parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over all processes. Parameters without one are skipped, the same in all processes."""
    average(accelerator, [p.grad for p in parameters if p.grad is not None])


def average_statistics(accelerator: Accelerator, networks: Iterable[nn.Module]) -> None:
    """Average the running statistics of normalisation layers, which every process computes from its own batches."""
    with torch.no_grad():
        average(accelerator, [b for network in networks for b in network.buffers() if b.is_floating_point()])


def any_of(accelerator: Accelerator | None, *flags: bool) -> tuple[bool, ...]:
    """Which of some flags are set in any process."""
    if accelerator is None or accelerator.num_processes == 1:
        return flags
    raised = torch.tensor(flags, dtype=torch.float32, device=accelerator.device)
    return tuple(value > 0 for value in accelerator.reduce(raised, "sum").tolist())


def exchange(accelerator: Accelerator) -> dict[str, Callable[[Tensor], Tensor]]:
    """The functions of :class:`models.base.Progress` by which a stage's processes exchange numbers.

    Returns:
        ``sum``, ``mean`` and ``first``; empty if this process is the only one.
    """
    if accelerator.num_processes == 1:
        return {}
    return {
        "sum": lambda tensor: accelerator.reduce(tensor, "sum"),
        "mean": lambda tensor: accelerator.reduce(tensor, "mean"),
        "first": lambda tensor: broadcast(tensor.clone(), from_process=0),
    }


def _buckets(tensors: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
