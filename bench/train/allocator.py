"""The memory allocator of a process that trains."""

from __future__ import annotations

import ctypes

#: Parameters of glibc's ``mallopt``.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Blocks below this size come from memory that the process keeps; at most this much of it lies unused.
_KEPT = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, for the next step; has an effect with glibc only.

    By default, large tensors are mapped anew, and the kernel clears their pages in every step: about 4 % of the time of
    a step of IP-LAP's renderer in float32, 6 to 13 % of Wav2Lip's, 3 to 10 % of the landmark generator's, on a CPU.

    Returns:
        Whether the allocator took the setting.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _KEPT)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
