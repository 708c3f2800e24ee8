"""Less memory for more time: what a module computed on the way to its result is computed again in the backward pass.

Gradient checkpointing (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module) -> Callable[[], None]:
    """Keep only arguments and results of a module for the backward pass, from now on; see :func:`recomputed`.

    Args:
        module: its ``forward`` is replaced on this object, so that its hooks, its keys and its class stay. A forward
            pass must change nothing but the statistics of batch normalisation; spectral normalisation does.

    Returns:
        A function that undoes it.
    """
    forward = module.forward
    counting = [
        each for each in module.modules() if isinstance(each, _BatchNorm) and each.track_running_stats
    ]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _CountedOnce(counting)

    def forward_with_less(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    module.forward = forward_with_less

    def undo() -> None:
        del module.forward

    return undo


@contextmanager
def recomputed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """:func:`recompute` for some modules while a block runs.

    Results, gradients and running statistics are the same, bit for bit; so are dropout and autocast. A second
    derivative and several backward passes through the same graph are possible.
    """
    undo = [recompute(module) for module in modules]
    try:
        yield
    finally:
        for each in undo:
            each()


def names_of(networks: Mapping[str, nn.Module], *kinds: type[nn.Module]) -> tuple[str, ...]:
    """Dotted names of the modules of some classes, as :attr:`models.base.Stage.recomputed` takes them.

    Args:
        networks: name → network.
        kinds: classes of which none contains another.
    """
    return tuple(
        f"{network}.{name}" if name else network
        for network, whole in networks.items()
        for name, module in whole.named_modules()
        if isinstance(module, kinds)
    )


class _CountedOnce:
    """While it is entered, batch normalisation takes no note of a batch; it can be entered several times."""

    def __init__(self, norms: list[_BatchNorm]) -> None:
        self._norms = norms
        self._noted: list[tuple[float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        self._noted = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            # The statistics stay what they were, times 1 plus 0 times the batch's.
            norm.momentum = 0.0
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked = norm.num_batches_tracked.clone()

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, batches) in zip(self._norms, self._noted, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
