"""Losses that are NaN or infinite, without waiting for the device in every step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from accelerate import Accelerator
from torch.optim import Optimizer

from bench.train.precision import Precision
from models.base import Update


class NotFinite(Exception):
    """A loss is NaN or infinite, in this process or in another. No optimizer has made a step with it or after it.

    Attributes:
        optimizer: the optimizer of this loss.
        loss: its value in this process.
        steps_ago: steps that were computed since, without any effect on weights.
    """

    def __init__(self, optimizer: str, loss: float, steps_ago: int = 0) -> None:
        super().__init__(f"the loss of {optimizer} is {loss}")
        self.optimizer = optimizer
        self.loss = loss
        self.steps_ago = steps_ago


class DeferredCheck:
    """Remembers on the device whether a loss was not finite; from then on, no optimizer makes a step.

    Reading a value makes the host wait until the device has finished all its work, and the device wait for the host
    afterwards. So the flag is given to the fused optimizers as ``found_inf``, by which they leave weights and state
    as they are, and the host reads it only now and then.

    Args:
        optimizers: name → optimizer; each must be fused.
        device: of the losses.
        accelerator: the processes, which share the flag.
    """

    def __init__(
        self, optimizers: Mapping[str, Optimizer], device: torch.device, accelerator: Accelerator | None
    ) -> None:
        self._names = list(optimizers)
        self._accelerator = accelerator
        self._steps = 0
        self._now = torch.zeros((), dtype=torch.float64, device=device)
        self._bad = torch.zeros((), device=device)
        #: Step, optimizer and loss of the first loss that was not finite.
        self._first = torch.zeros(3, dtype=torch.float64, device=device)
        for optimizer in optimizers.values():
            # Read by the step of torch's fused optimizers; its loss scaler sets it, too.
            optimizer.found_inf = self._bad  # type: ignore[attr-defined]

    @torch.no_grad()
    def note(self, update: Update) -> None:
        """Take note of a loss, before its optimizer's step."""
        loss = update.loss.detach()
        bad = (~torch.isfinite(loss)).float()
        if self._accelerator is not None and self._accelerator.num_processes > 1:
            bad = self._accelerator.reduce(bad, "sum").clamp(max=1)
        optimizer = torch.full_like(self._now, self._names.index(update.optimizer))
        now = torch.stack([self._now, optimizer, loss.double()])
        self._first.copy_(torch.where(bad > self._bad, now, self._first))
        self._bad.copy_(torch.maximum(self._bad, bad))

    def stepped(self) -> None:
        """All optimizers have made their step."""
        self._steps += 1
        self._now.add_(1)

    def read(self) -> None:
        """Wait for the device and read the flag, which is cleared.

        Raises:
            NotFinite: a loss was not finite.
        """
        if not bool(self._bad):
            return
        step, optimizer, loss = self._first.tolist()
        self._bad.zero_()
        raise NotFinite(self._names[int(optimizer)], loss, self._steps - int(step) - 1)


def deferred_check(
    optimizers: Mapping[str, Optimizer],
    device: torch.device,
    precision: Precision,
    accelerator: Accelerator | None,
) -> DeferredCheck | None:
    """A check for devices that work while the host goes on; None where losses are read at once.

    On a CPU reading costs nothing; the scaling of losses in ``fp16`` uses the flag itself; and only fused optimizers
    know it.
    """
    fits = device.type == "cuda" and precision != "fp16" and can_defer(optimizers.values())
    return DeferredCheck(optimizers, device, accelerator) if fits else None


def can_defer(optimizers: Iterable[Optimizer]) -> bool:
    """Whether all optimizers are fused, so that a flag on the device can withhold their steps."""
    return all(group.get("fused") for optimizer in optimizers for group in optimizer.param_groups)
