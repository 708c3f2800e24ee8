"""Embeddings of windows of consecutive pictures, computed as the pictures come."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

import numpy as np

from bench.metrics.base import Float, Image, Share

# Windows embedded at once. The groups start at the clip's first window, so no figure depends on how frames arrive.
_CHUNK = 32


class Windowed:
    """Gathers the pictures of a clip, and embeds every window of them.

    Args:
        frames: of a window.
        total: number of pictures that will come, at most.
        see: (n + frames - 1, H, W, 3) consecutive pictures → (n, D).
        whose: what embeds them: others share what it made of the same pictures.
    """

    def __init__(self, frames: int, total: int, see: Callable[[Image], Float], whose: Hashable) -> None:
        self._frames = frames
        self._total = total
        self._see = see
        self._whose = whose
        self.count = 0
        self._kept: list[Image] = []  # from the first frame of the next window on
        self._found: list[Float] = []

    def add(self, picture: Image, share: Share) -> None:
        """Take the next picture; ``share`` computes once for all that ask with one key."""
        self._kept.append(picture)
        self.count += 1
        if len(self._kept) == _CHUNK + self._frames - 1 or self.count == self._total:
            self._take(share)

    def finish(self) -> list[Float]:
        """The embeddings of all complete windows, (n, D) in parts; empty without any."""
        if self.count < self._total:
            self._take(lambda _, compute: compute())
        return self._found

    def _take(self, share: Share) -> None:
        n = len(self._kept) - self._frames + 1
        if n < 1:
            return
        pictures = np.stack(self._kept)
        # Identified by content: the windows of another method's video may be grouped differently.
        key = (self._whose, hashlib.blake2b(pictures.data).digest())
        self._found.append(share(key, lambda: self._see(pictures)))
        self._kept = self._kept[n:]
