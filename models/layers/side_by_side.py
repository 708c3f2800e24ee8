"""Shares of a batch computed side by side, each in a thread of its own.

Where networks are small, the threads of one operation wait for each other longer than they compute. Here each thread
makes a whole forward or backward pass of some of the samples, and the threads meet at batch normalisations alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import BrokenBarrierError
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

#: Works for the calling thread, of which there is one less than shares. None: batches are not divided.
_helpers: _Helpers | None = None


class _Here(threading.local):
    """What a thread is computing: its share, while it computes one."""

    share: _Share | None = None


_here = _Here()


@contextmanager
def sharing(networks: Iterable[nn.Module], threads: int | None) -> Iterator[None]:
    """Limit the threads of an operation on the CPU while a block runs, and let :func:`side_by_side` use all others.

    Args:
        networks: in which batch normalisation is to take a whole batch's statistics; none: batches are not divided.
        threads: of an operation; None, or as many as torch has: nothing is changed.
    """
    global _helpers
    before = torch.get_num_threads()
    if threads is None or threads >= before:
        yield
        return
    networks = list(networks)
    norms = [part for network in networks for part in network.modules() if isinstance(part, _BatchNorm)]
    torch.set_num_threads(threads)
    try:
        if networks and before // threads > 1:
            for norm in norms:
                norm.forward = _over_all_shares(norm, norm.forward)  # type: ignore[method-assign, assignment]
            _helpers = _Helpers(before // threads, threads)
        yield
    finally:
        if _helpers is not None:
            _helpers.close()
            _helpers = None
            for norm in norms:
                del norm.forward
        torch.set_num_threads(before)


def side_by_side(module: nn.Module, *inputs: Tensor) -> Any:
    """``module(*inputs)``, in shares of the batch inside :func:`sharing`; equal up to rounding.

    Args:
        module: treats samples apart, but for batch normalisation, and draws no random numbers. It returns a tensor or
            a named tuple of tensors, floating-point, samples first.
        inputs: samples first.

    Returns:
        What the module returns. A second derivative cannot be taken.
    """
    shares = 1 if _helpers is None or _here.share is not None else min(_helpers.shares, len(inputs[0]))
    if shares <= 1:
        return module(*inputs)
    assert _helpers is not None
    work = _Work(_helpers, module, shares)
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    found = _SideBySide.apply(work, len(inputs), *inputs, *weights)
    return found[0] if work.kind is None else work.kind(*found)


class _Helpers:
    """Threads, each of which computes one share at a time beside the calling thread."""

    def __init__(self, shares: int, threads: int) -> None:
        self.shares = shares
        # The number of threads of an operation belongs to the thread that starts it.
        self._pool = ThreadPoolExecutor(shares - 1, "share", torch.set_num_threads, (threads,))

    def close(self) -> None:
        self._pool.shutdown()

    def all(self, tasks: list[Callable[[], Any]]) -> list[Any]:
        """Results of tasks, of which the first is done by the calling thread; raises what one of them raised."""
        waiting = [self._pool.submit(task) for task in tasks[1:]]
        problems: list[BaseException] = []
        results = []
        for get in (tasks[0], *(one.result for one in waiting)):
            try:
                results.append(get())
            except BaseException as problem:  # all threads must have ended before it goes on
                problems.append(problem)
        # The others raise this when one of them has failed.
        if problems:
            raise next((one for one in problems if not isinstance(one, BrokenBarrierError)), problems[0])
        return results


class _Meeting:
    """Where threads that compute shares of one batch exchange tensors."""

    def __init__(self, shares: int) -> None:
        self.barrier = threading.Barrier(shares)
        # A thread is at most one exchange ahead of another, which may still read what the last one gave.
        self.given: tuple[list[Any], list[Any]] = ([None] * shares, [None] * shares)


class _Share:
    """One share of a batch.

    Args:
        meeting: of the batch.
        index: of the share, from 0.
    """

    def __init__(self, meeting: _Meeting, index: int) -> None:
        self.meeting, self.index = meeting, index
        self._exchanges = 0

    def exchange(self, value: Any) -> list[Any]:
        """What each share gave here, in their order. All must call it, equally often."""
        given = self.meeting.given[self._exchanges % 2]
        self._exchanges += 1
        given[self.index] = value
        self.meeting.barrier.wait()
        return list(given)


class _Work:
    """A module's passes over one batch.

    Attributes:
        kind: the class of the named tuple that the module returned; None: a tensor.
    """

    def __init__(self, helpers: _Helpers, module: nn.Module, shares: int) -> None:
        self._helpers, self._module = helpers, module
        self._meeting = _Meeting(shares)
        self._shares = [_Share(self._meeting, index) for index in range(shares)]
        self._graphs: list[tuple[list[Tensor], tuple[Tensor, ...]]] = []
        self._sizes: list[int] = []
        self.kind: Any = None

    def forward(self, inputs: tuple[Tensor, ...], gradient: bool) -> tuple[Tensor, ...]:
        """The module's outputs, without gradient; with ``gradient``, shares remember how they came about."""
        device = inputs[0].device.type
        kept = torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        parts = list(zip(*(value.tensor_split(len(self._shares)) for value in inputs), strict=True))
        self._sizes = [len(part[0]) for part in parts]

        def compute(part: tuple[Tensor, ...]) -> tuple[list[Tensor], tuple[Tensor, ...]]:
            # The cache of cast weights would be one for all threads.
            with torch.set_grad_enabled(gradient), torch.autocast(device, *kept, cache_enabled=False):
                given = [
                    piece.detach().requires_grad_(whole.requires_grad and gradient)
                    for piece, whole in zip(part, inputs, strict=True)
                ]
                found = self._module(*given)
            if isinstance(found, Tensor):
                return given, (found,)
            self.kind = type(found)
            return given, tuple(found)

        graphs = self._all([partial(compute, part) for part in parts])
        self._graphs = graphs if gradient else []
        return tuple(
            torch.cat([one.detach() for one in pieces])
            for pieces in zip(*(g[1] for g in graphs), strict=True)
        )

    def backward(
        self, gradients: tuple[Tensor | None, ...], weights: list[Tensor]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Gradients of the inputs and of weights."""
        nothing = [None] * len(self._sizes)
        pieces = (nothing if g is None else g.split(self._sizes) for g in gradients)
        parts = zip(*pieces, strict=True)

        def compute(graph: tuple[list[Tensor], tuple[Tensor, ...]], part: tuple[Tensor | None, ...]) -> Any:
            given, found = graph
            ends = [
                (one, g) for one, g in zip(found, part, strict=True) if g is not None and one.requires_grad
            ]
            begins = [*(one for one in given if one.requires_grad), *weights]
            return torch.autograd.grad(
                [one for one, _ in ends], begins, [g for _, g in ends], allow_unused=True
            )

        graphs, self._graphs = self._graphs, []
        results = self._all([partial(compute, *pair) for pair in zip(graphs, parts, strict=True)])
        asked = [one.requires_grad for one in graphs[0][0]]
        columns = [None if one[0] is None else one for one in zip(*results, strict=True)]
        of_inputs = iter(columns[: sum(asked)])
        found = [next(of_inputs) if one else None for one in asked]
        return (
            [None if one is None else torch.cat(one) for one in found],
            [None if one is None else _sum(one) for one in columns[sum(asked) :]],
        )

    def _all(self, tasks: list[Callable[[], Any]]) -> list[Any]:
        def run(share: _Share, task: Callable[[], Any]) -> Any:
            _here.share = share
            try:
                return task()
            except BaseException:
                self._meeting.barrier.abort()
                raise
            finally:
                _here.share = None

        pairs = zip(self._shares, tasks, strict=True)
        return self._helpers.all([partial(run, *pair) for pair in pairs])


class _SideBySide(torch.autograd.Function):
    """:func:`side_by_side`; weights are arguments, too, so that they receive a gradient."""

    @staticmethod
    def forward(ctx: Any, work: _Work, inputs: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.work, ctx.inputs, ctx.weights = work, inputs, list(tensors[inputs:])
        ctx.set_materialize_grads(False)
        return work.forward(tensors[:inputs], any(ctx.needs_input_grad))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        of_inputs, of_weights = ctx.work.backward(gradients, ctx.weights)
        return None, None, *of_inputs, *of_weights


def _sum(values: Iterable[Tensor]) -> Tensor:
    first, *others = values
    for other in others:
        first = first + other
    return first


def _over_all_shares(norm: _BatchNorm, plain: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The ``forward`` of a batch normalisation, whose statistics are of all shares while they are computed."""

    def forward(x: Tensor) -> Tensor:
        share = _here.share
        if share is None or not (norm.training or norm.running_mean is None):
            return plain(x)
        found, mean, variance, count = cast(
            tuple[Tensor, Tensor, Tensor, int], _Normalised.apply(x, norm.weight, norm.bias, norm.eps, share)
        )
        if share.index == 0 and norm.training and norm.running_mean is not None:
            _note(norm, mean, variance * (count / (count - 1)))
        return found

    return forward


@torch.no_grad()
def _note(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Bring a batch's statistics into the running ones."""
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


class _Normalised(torch.autograd.Function):
    """Batch normalisation by the statistics of all shares."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, share: _Share
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        zeros = torch.zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
        # With statistics to update, it gives those of half precision in float32.
        own = torch.batch_norm_update_stats(x, zeros, torch.ones_like(zeros), 0.0)
        sizes, means, variances = zip(*share.exchange((x.numel() // x.shape[1], *own)), strict=True)
        count = sum(sizes)
        mean = _sum(size / count * one for size, one in zip(sizes, means, strict=True))
        variance = _sum(
            size / count * (spread + (one - mean).square())
            for size, one, spread in zip(sizes, means, variances, strict=True)
        )
        found, _, _ = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.share, ctx.count = eps, share, count
        ctx.mark_non_differentiable(mean, variance)
        return found, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: object) -> tuple[Any, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        scaled, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # What statistics contribute depends on all samples.
        weights, biases = zip(*ctx.share.exchange((of_weight, of_bias)), strict=True)
        deviation = torch.rsqrt(variance + ctx.eps)
        factor = (deviation if weight is None else deviation * weight) / -ctx.count
        slope = factor * deviation * _sum(weights)
        offset = factor * _sum(biases) - slope * mean
        shape = (-1, *[1] * (x.dim() - 2))
        of_x = scaled + torch.addcmul(offset.view(shape), x, slope.view(shape))
        asked = ctx.needs_input_grad
        return of_x.to(x.dtype), of_weight if asked[1] else None, of_bias if asked[2] else None, None, None
