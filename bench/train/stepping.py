"""Optimizer steps from the losses that a method yields, for training and for adaptation to one person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bench.train.finite import DeferredCheck, NotFinite
from bench.train.parallel import any_of, average_gradients
from bench.train.precision import Precision, autocast
from models.base import Update

#: Called with the name of a part of a step, which runs inside the context that it returns.
Phases = Callable[[str], AbstractContextManager[None]]
_NOTHING = nullcontext()


def unmeasured(_: str) -> AbstractContextManager[None]:
    """The :data:`Phases` of ordinary training: parts of a step are not measured."""
    return _NOTHING


class Stepper:
    """Makes the optimizer steps of one stage, or of one adaptation.

    Args:
        optimizers: name → optimizer, each over its own parameters.
        schedulers: name → schedule of its learning rate, advanced at each of its steps.
        clip_norm: largest L2 norm of an optimizer's gradient; None: not clipped.
        accelerator: the processes; None: this one alone.
        precision: of the forward passes; ``fp16`` scales the losses as well.
        deferred: withholds steps after a loss that is not finite; its owner reads it. None: every loss is read before
            its step, which costs nothing on a CPU.
        phases: measures ``forward``, which includes losses, ``backward NAME`` and ``step NAME`` of each optimizer.

    Attributes:
        scaler: scales the losses; None: not scaled.
    """

    def __init__(
        self,
        optimizers: Mapping[str, Optimizer],
        schedulers: Mapping[str, LRScheduler] | None = None,
        *,
        clip_norm: float | None = None,
        accelerator: Accelerator | None = None,
        precision: Precision = "no",
        deferred: DeferredCheck | None = None,
        phases: Phases = unmeasured,
    ) -> None:
        self.optimizers = dict(optimizers)
        self.schedulers = dict(schedulers or {})
        self.scaler = torch.amp.GradScaler("cuda") if precision == "fp16" else None
        self._precision = precision
        self._deferred = deferred
        self._phase = phases
        self._clip_norm = clip_norm
        self._accelerator = accelerator
        self._parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in self.optimizers.items()
        }

    def steps(self, updates: Iterator[Update], *, parts: int = 1, last: bool = True) -> Iterator[Update]:
        """Make the step of each update, then yield the update.

        Nothing is computed before the result is iterated over.

        Args:
            updates: what :meth:`models.base.Stage.updates` returned for one micro-batch.
            parts: number of micro-batches per step; the step uses their mean gradient.
            last: whether this is the last of them. For the others, gradients are accumulated without a step.

        Raises:
            NotFinite: in all processes at the same time, before the step; not with ``deferred``.
        """
        device = self._device()
        while True:
            with self._phase("forward"), autocast(device, self._precision):
                update = next(updates, None)
            if update is None:
                break
            self._check(update)
            with self._phase(f"backward {update.optimizer}"):
                self._backward(update, parts)
            if last:
                with self._phase(f"step {update.optimizer}"):
                    self._apply(update.optimizer)
            yield update

        if self._deferred is not None and last:
            self._deferred.stepped()

    def _device(self) -> torch.device:
        return next(weight.device for weights in self._parameters.values() for weight in weights)

    def _check(self, update: Update) -> None:
        if self._deferred is not None:
            self._deferred.note(update)
            return
        (bad,) = any_of(self._accelerator, not bool(torch.isfinite(update.loss)))
        if bad:
            raise NotFinite(update.optimizer, float(update.loss.detach()))

    def _backward(self, update: Update, parts: int) -> None:
        loss = update.loss / parts if parts > 1 else update.loss
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward(inputs=self._parameters[update.optimizer])

    def _apply(self, name: str) -> None:
        optimizer, parameters = self.optimizers[name], self._parameters[name]
        average_gradients(self._accelerator, parameters)
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self._clip_norm)
        if self.scaler is not None:
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if name in self.schedulers:
            self.schedulers[name].step()
