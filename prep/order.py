"""The order of samples, divided among ranks and workers, which training can resume.

There are two ways, for training loops that count epochs or steps::

    DataLoader(dataset, batch_size, sampler=ResumableSampler(dataset, rank=rank, world_size=world_size))
    DataLoader(WindowStream(dataset, batch_size, rank=rank, world_size=world_size), batch_size)

Data loaders read ahead, so only the loop knows which samples were used: after each batch it calls ``advance(n)`` on
the sampler or stream. Training can be resumed from the ``state_dict()`` of the sampler or stream.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, Sampler, get_worker_info

from prep.dataset import Sample, WindowDataset
from prep.errors import PrepError
from prep.sampling import epoch_order


class ResumableSampler(Sampler[int]):
    """The order of an epoch's clips for one of several ranks, and the position in it.

    All ranks draw the same permutation from (seed, epoch), and each uses every ``world_size``-th clip. So together they
    use each clip once. The saved state counts samples of all ranks, so the number of ranks may change.

    Args:
        dataset: gives length and seed; the sampler sets its epoch.
        rank: 0 … world_size - 1.
        world_size: number of ranks.
        shuffle: shuffle the clips; otherwise they are in the order of the shards.
        drop_last: leave out the last ``len(dataset) % world_size`` clips of the order (different ones in each epoch),
            so all ranks get the same number. Otherwise some ranks get one more, and no clip is left out.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        *,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        _check_rank(rank, world_size)
        self._dataset = dataset
        self._rank = rank
        self._world_size = world_size
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._consumed = 0
        self.epoch = 0
        dataset.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``; if it is already the current epoch, keep the position in it."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._consumed = 0
        self._dataset.set_epoch(epoch)

    def advance(self, n: int) -> None:
        """Note that this rank has used ``n`` samples, and each other rank as many."""
        self._consumed += n * self._world_size

    def _indices(self) -> np.ndarray:
        n = len(self._dataset)
        end = n - n % self._world_size if self._drop_last else n
        order = epoch_order(n, self._dataset.seed, self.epoch, self._shuffle)
        return order[self._consumed + self._rank : end : self._world_size]

    def __iter__(self) -> Iterator[int]:
        """This rank's clips of the current epoch that have not been used."""
        return iter(self._indices().tolist())

    def __len__(self) -> int:
        """The number of these clips."""
        return len(self._indices())

    def state_dict(self) -> dict[str, Any]:
        """The place in training; the same on every rank."""
        return {"fingerprint": self._dataset.fingerprint, "epoch": self.epoch, "consumed": self._consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved place. Raises :class:`PrepError` if it was saved with other clips, spec or seed."""
        _check_state(state, self._dataset)
        self.set_epoch(state["epoch"])
        self._consumed = state["consumed"]


class WindowStream(IterableDataset[Sample]):
    """An endless stream of epochs, for training that counts steps: a batch may contain samples of two epochs.

    Clips have the order of :class:`ResumableSampler`, each once per epoch over all ranks. Batches do not depend on the
    number of data-loader workers.

    Args:
        dataset: the data set.
        batch_size: that of the ``DataLoader``, which takes whole batches from the workers in turn.
        rank: 0 … world_size - 1.
        world_size: number of ranks.
        shuffle: shuffle the clips; otherwise they are in the order of the shards.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
    ) -> None:
        _check_rank(rank, world_size)
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}")
        self._dataset = dataset
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._shuffle = shuffle
        # Not shared: a worker starts at the stream's position at the time when the worker was created.
        self._consumed = 0
        self._begun_in_worker = False

    @property
    def epoch(self) -> float:
        """Epochs consumed, with the fraction of the current one."""
        return self._consumed / len(self._dataset)

    def advance(self, n: int) -> None:
        """Note that this rank has used ``n`` samples, and each other rank as many."""
        self._consumed += n * self._world_size

    def __iter__(self) -> Iterator[Sample]:
        """Samples after the consumed ones; in a data-loader worker, only those of this worker.

        Raises:
            RuntimeError: a worker iterates a second time (``persistent_workers``): it does not have the number of
                samples consumed since it was created.
        """
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        again, self._begun_in_worker = self._begun_in_worker, info is not None
        return self._samples(worker, workers, self._consumed + self._rank, again)

    def _samples(self, worker: int, workers: int, first: int, again: bool) -> Iterator[Sample]:
        if again:  # Raised here, because the loader passes this error to the main process.
            raise RuntimeError("a stream never ends: use a new DataLoader, without persistent_workers")
        current, order = -1, np.empty(0, np.int64)
        for batch in itertools.count(worker, workers):
            for place in range(batch * self._batch_size, (batch + 1) * self._batch_size):
                epoch, offset = divmod(first + place * self._world_size, len(self._dataset))
                if epoch != current:
                    current = epoch
                    order = epoch_order(len(self._dataset), self._dataset.seed, epoch, self._shuffle)
                yield self._dataset.sample(epoch, int(order[offset]))

    def state_dict(self) -> dict[str, Any]:
        """The place in training; the same on every rank."""
        return {"fingerprint": self._dataset.fingerprint, "consumed": self._consumed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved place. Raises :class:`PrepError` if it was saved with other clips, spec or seed."""
        _check_state(state, self._dataset)
        self._consumed = state["consumed"]


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}")


def _check_state(state: dict[str, Any], dataset: WindowDataset) -> None:
    if state["fingerprint"] != dataset.fingerprint:
        raise PrepError(
            "this training cannot be resumed here: it was saved with other clips, another seed or other samples; "
            "use the same data set and options, or start a new run"
        )
