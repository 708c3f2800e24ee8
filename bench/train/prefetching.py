"""Batches that are read, collated and brought to their device while the step before them is computed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress

import torch

from models.base import Batch


class Ahead:
    """Takes batches from an iterator in a thread of its own, in their order.

    On a GPU they are copied on a second stream, and the stream of training waits for the copy, not the processor.

    Args:
        source: of batches in the memory of the CPU, pinned where the copy should not wait either.
        device: where they are needed.
        depth: number of batches that wait for their use.
    """

    def __init__(self, source: Iterator[Batch], device: torch.device, depth: int = 1) -> None:
        self._source: Iterator[Batch] | None = source
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # A batch with the event of its copy, or why there are no more.
        self._ready: queue.Queue[tuple[Batch, torch.cuda.Event | None] | BaseException] = queue.Queue(depth)
        self._closed = False
        self._end: BaseException | None = None
        self._thread = threading.Thread(target=self._read, args=(source,), name="batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The next batch. Raises what reading it raised."""
        if self._end is None:
            taken = self._ready.get()
            if not isinstance(taken, BaseException):
                return self._arrived(*taken)
            self._end = taken
        raise self._end

    def close(self) -> None:
        """End the thread after the batch that it is reading, and let go of the source."""
        self._closed = True
        while self._thread.is_alive():
            # It may be waiting for room.
            with suppress(queue.Empty):
                self._ready.get(timeout=0.01)
        self._source = None
        self._end = self._end or StopIteration()

    def _read(self, source: Iterator[Batch]) -> None:
        try:
            for batch in source:
                self._ready.put(self._moved(batch))
                if self._closed:
                    return
            end: BaseException = StopIteration()
        except BaseException as error:  # raised again by the thread that asks for the batch
            end = error
        self._ready.put(end)

    def _moved(self, batch: Batch) -> tuple[Batch, torch.cuda.Event | None]:
        if self._stream is None:
            return to_device(batch, self._device), None
        with torch.cuda.stream(self._stream):
            return to_device(batch, self._device), self._stream.record_event()

    def _arrived(self, batch: Batch, copied: torch.cuda.Event | None) -> Batch:
        if copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(copied)
            for value in batch.values():
                if isinstance(value, torch.Tensor):
                    # Else its memory could be used again by the second stream while the step still reads it.
                    value.record_stream(current)
        return batch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
