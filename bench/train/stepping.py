"""Optimizer steps from the losses that a method yields, for training and for adaptation to one person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bench.train.parallel import any_of, average_gradients
from models.base import Update


class NotFinite(Exception):
    """A loss is NaN or infinite, in this process or in another; its gradient was not computed.

    Attributes:
        optimizer: the optimizer of this loss.
        loss: its value in this process.
    """

    def __init__(self, optimizer: str, loss: float) -> None:
        super().__init__(f"the loss of {optimizer} is {loss}")
        self.optimizer = optimizer
        self.loss = loss


class Stepper:
    """Makes the optimizer steps of one stage, or of one adaptation.

    Args:
        optimizers: name → optimizer, each over its own parameters.
        schedulers: name → schedule of its learning rate, advanced at each of its steps.
        clip_norm: largest L2 norm of an optimizer's gradient; None: not clipped.
        accelerator: processes, precision and loss scaling; None: this process alone, in float32.
    """

    def __init__(
        self,
        optimizers: Mapping[str, Optimizer],
        schedulers: Mapping[str, LRScheduler] | None = None,
        *,
        clip_norm: float | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.optimizers = dict(optimizers)
        self.schedulers = dict(schedulers or {})
        self.scaler = accelerator.scaler if accelerator is not None else None
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
            NotFinite: in all processes at the same time.
        """
        while True:
            with self._autocast():
                update = next(updates, None)
            if update is None:
                return
            (bad,) = any_of(self._accelerator, not bool(torch.isfinite(update.loss)))
            if bad:
                raise NotFinite(update.optimizer, float(update.loss.detach()))
            self._backward(update, parts)
            if last:
                self._apply(update.optimizer)
            yield update

    def _autocast(self) -> AbstractContextManager[None]:
        return self._accelerator.autocast() if self._accelerator is not None else nullcontext()

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
