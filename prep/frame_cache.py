"""Memory for what is computed once per frame, such as decoded crops, shared by the workers of a data loader."""

from __future__ import annotations

import math
import mmap
import multiprocessing
from collections.abc import Callable

import numpy as np

from prep.memory import free_memory

#: Bytes that the cache leaves free; when less is left, it takes nothing more.
RESERVE = 512 << 20

#: Bytes that a process adds before it looks again how much memory is free.
_LOOK_EVERY = 32 << 20


def cache_size(frames: int, shape: tuple[int, ...]) -> int:
    """Bytes of a :class:`FrameCache` for a number of frames: one more than the values of each, whether it is there."""
    return frames * (math.prod(shape) + 1)


class FrameCache:
    """Keeps an array of bytes for each of some frames, made when it is first asked for.

    Processes that are forked share it: what one of them has made, the others find. The memory is anonymous, so
    nothing is left behind, however the processes end; and only what was filled occupies memory.

    Args:
        counts: (clips,) int, number of frames of each clip; 0 for clips that are not used.
        shape: of the array of a frame.

    Raises:
        OSError: the system has no room for it.
    """

    def __init__(self, counts: np.ndarray, shape: tuple[int, ...]) -> None:
        self._first = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        frames, each = int(self._first[-1]), math.prod(shape)
        # One byte more: whether the cache is closed.
        memory = np.frombuffer(mmap.mmap(-1, cache_size(frames, shape) + 1), np.uint8)
        self._values = memory[: frames * each].reshape(frames, *shape)
        self._there = memory[frames * each : -1]
        self._closed = memory[-1:]
        # Not for exclusion, but for order: whoever sees that a frame is there must also see its values.
        self._lock = multiprocessing.get_context("fork").Lock()
        self._unseen = _LOOK_EVERY

    @property
    def filled(self) -> int:
        """Number of frames that are there."""
        return int(np.count_nonzero(self._there))

    @property
    def closed(self) -> bool:
        """Whether memory ran out: what is there stays, and no more is added."""
        return bool(self._closed[0])

    def take(self, clip: int, frames: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The arrays of some frames of a clip.

        Args:
            clip: its position.
            frames: (n,) positions among its frames; some may be the same.
            make: (m,) positions of those that are not there → their arrays (m, \\*shape) uint8.

        Returns:
            (n, \\*shape) uint8, a copy.
        """
        slots = self._first[clip] + frames
        with self._lock:
            there = self._there[slots] > 0
        if there.all():
            return self._values[slots]
        missing = np.flatnonzero(~there)
        made = make(frames[missing])
        self._add(slots[missing], made)
        if len(missing) == len(slots):
            return made
        found = np.empty((len(slots), *made.shape[1:]), np.uint8)
        found[missing] = made
        found[there] = self._values[slots[there]]
        return found

    def _add(self, slots: np.ndarray, values: np.ndarray) -> None:
        self._unseen += values.nbytes
        if self._unseen >= _LOOK_EVERY:
            self._unseen = 0
            if free_memory() < RESERVE:
                self._closed[:] = 1
        if not self.closed:
            # Two processes may add the same frame: they write the same bytes.
            self._values[slots] = values
            with self._lock:
                self._there[slots] = 1
