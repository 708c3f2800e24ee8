"""Which device networks run on."""

from __future__ import annotations

from bench.common.errors import BenchError


def pick_device(name: str = "auto") -> str:
    """The device to use: ``auto`` is ``cuda`` if available, else ``cpu``; other names are kept.

    Args:
        name: ``auto``, or a device of torch such as ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        BenchError: there is no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):
        raise BenchError(f"there is no device {name!r} here: use --device cpu") from None
    return name
