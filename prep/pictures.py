"""The crops of a training set: finds them in the shards, decodes them, scales them, and keeps them if there is room."""

from __future__ import annotations

import numpy as np

from prep.frame_cache import FrameCache, cache_size
from prep.index import ClipIndex
from prep.pages import MappedShards, binary_places, binary_value
from prep.planes import decode_planes, picture_size
from prep.views import VIEWS

#: Number of clips whose image positions a process caches, 4 bytes per frame.
MAX_REMEMBERED = 1 << 16


class Pictures:
    """Reads crops of one view.

    Args:
        index: of the clips.
        shards: that hold them.
        view: name of the view.
        size: to which crops are scaled, as in :class:`prep.sample_spec.SampleSpec`, or None.
    """

    def __init__(
        self, index: ClipIndex, shards: MappedShards, view: str, size: int | tuple[int, int] | None
    ) -> None:
        self._index = index
        self._shards = shards
        self._view = VIEWS[view]
        self._size = size
        # Finding them reads every page of a clip's images, possibly from disk.
        self._places: dict[int, np.ndarray] = {}
        self._cache: FrameCache | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one crop, channels first."""
        return 3, *picture_size(self._view.width, self._view.height, self._size)

    def read(self, clip: int, places: np.ndarray, count: int) -> np.ndarray:
        """Crops of a clip.

        Args:
            clip: its position in the index.
            places: (n,) positions among its stored crops.
            count: number of its stored crops.

        Returns:
            (n, 3, H, W) uint8 RGB.

        Raises:
            ValueError: the shard holds something else.
        """

        def decoded(wanted: np.ndarray) -> np.ndarray:
            return self._decoded(clip, wanted, count)

        return decoded(places) if self._cache is None else self._cache.take(clip, places, decoded)

    def size_of(self, frames: int) -> int:
        """Bytes that :meth:`keep` needs for a number of crops."""
        return cache_size(frames, self.shape)

    def keep(self, counts: np.ndarray) -> None:
        """From now on, keep decoded crops in memory that forked processes share; copies by pickle do without.

        Args:
            counts: (clips,) number of stored crops of each clip, 0 for clips that are not used.

        Raises:
            OSError: the system has no room for it.
        """
        self._cache = FrameCache(counts, self.shape)

    def forget(self) -> None:
        """Give the memory back."""
        self._cache = None

    @property
    def stopped(self) -> bool:
        """Whether crops are kept, but no more are added, because memory ran out."""
        return self._cache is not None and self._cache.closed

    def _decoded(self, clip: int, places: np.ndarray, count: int) -> np.ndarray:
        start, size = self._index.chunks[self._view.name][clip].tolist()
        chunk = self._shards.read(int(self._index.shard[clip]), start, size)
        known = self._places.get(clip)
        if known is None:
            if len(self._places) == MAX_REMEMBERED:
                self._places.clear()
            known = self._places[clip] = binary_places(chunk, count)
        encoded = [binary_value(chunk, place) for place in known[places].tolist()]
        return decode_planes(encoded, self._view.width, self._view.height, self._size)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": None}
