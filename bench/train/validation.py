"""Figures and images of the held-out windows while a stage is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from bench.train.averages import Averages
from bench.train.loading import reading, validation_loader
from bench.train.parallel import average_statistics
from bench.train.precision import Precision, autocast
from models.base import Batch, Stage
from prep.dataset import WindowDataset

#: Samples shown in a grid of pictures.
SHOWN = 6


class Validation:
    """Runs a stage over held-out windows: in evaluation mode, with averaged weights if these are kept.

    Args:
        stage: with its networks on their device.
        dataset: the held-out windows.
        averages: of its networks, or None.
        accelerator: of the run.
        precision: of the stage.
        workers: worker processes of the data loader.
    """

    def __init__(
        self,
        stage: Stage,
        dataset: WindowDataset,
        averages: Averages | None,
        accelerator: Accelerator,
        precision: Precision,
        workers: int,
    ) -> None:
        self._stage = stage
        self._dataset = dataset
        self._averages = averages
        self._accelerator = accelerator
        self._precision = precision
        self._workers = workers

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Name → mean over the validation windows, the same in all processes."""
        sums: dict[str, float] = {}
        count = 0
        limit = self._stage.train.validate_samples
        with self._evaluated(), self._reading(limit, self._workers) as batches:
            for batch in batches:
                size = len(batch["clip"])
                with autocast(self._accelerator.device, self._precision):
                    means = self._stage.validate(batch)
                for name, value in means.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * size
                count += size
        shares = gather_object([(sums, count)])
        total = sum(share for _, share in shares)
        return {name: sum(s.get(name, 0.0) for s, _ in shares) / total for s, _ in shares for name in s}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Column → (at most :data:`SHOWN`, 3, H, W) float32 on the CPU, of the first windows; may be empty."""
        with self._evaluated(), self._reading(SHOWN * self._accelerator.num_processes, 0) as batches:
            shown = []
            for batch in islice(batches, 1):
                with autocast(self._accelerator.device, self._precision):
                    shown.append(self._stage.samples(batch))
        return {name: value[:SHOWN].float().cpu() for name, value in (shown[0] if shown else {}).items()}

    def _reading(self, limit: int | None, workers: int) -> AbstractContextManager[Iterator[Batch]]:
        loader = validation_loader(
            self._dataset,
            self._stage,
            rank=self._accelerator.process_index,
            world_size=self._accelerator.num_processes,
            workers=workers,
            limit=limit,
        )
        return reading(loader, self._accelerator.device)

    @contextmanager
    def _evaluated(self) -> Iterator[None]:
        average_statistics(self._accelerator, self._stage.networks.values())
        if self._averages is not None:
            self._averages.swap()
        for network in self._stage.networks.values():
            network.eval()
        try:
            yield
        finally:
            if self._averages is not None:
                self._averages.swap()
