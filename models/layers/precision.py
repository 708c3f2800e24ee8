"""Where half precision ends: losses, and modules that a stage names, are computed in float32 at least."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def full(values: Tensor) -> Tensor:
    """Values of any shape: half precision and integers become float32, float32 and float64 stay as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def in_full(layer: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """What a layer makes of values in float32 at least, also under autocast.

    For layers that predict coordinates: bfloat16 has 8 bits, so that a motion of 20 pixels is up to 0.06 pixels off.
    """
    with torch.autocast(values.device.type, enabled=False):
        return layer(full(values))


class _Entered(threading.local):
    """Regions without autocast that a thread has entered: several may compute a module at the same time."""

    def __init__(self) -> None:
        self.regions: list[torch.autocast] = []


def keep_full(module: nn.Module) -> Callable[[], None]:
    """Compute a module without autocast, from now on: its half-precision arguments become float32.

    It holds where the module is called; other methods of it, which do not call it, are not changed.

    Args:
        module: its weights are float32.

    Returns:
        A function that undoes it.
    """
    entered = _Entered()

    def before(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        off = torch.autocast(given[0].device.type if given else "cpu", enabled=False)
        off.__enter__()
        entered.regions.append(off)
        return tuple(_floated(value) for value in args), {
            key: _floated(value) for key, value in kwargs.items()
        }

    def after(*_: object) -> None:
        # A module that failed before it was entered has nothing to leave.
        if entered.regions:
            entered.regions.pop().__exit__(None, None, None)

    handles = (
        module.register_forward_pre_hook(before, with_kwargs=True, prepend=True),
        module.register_forward_hook(after, always_call=True),
    )

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


@contextmanager
def kept_full(modules: Iterator[nn.Module]) -> Iterator[None]:
    """:func:`keep_full` for some modules while a block runs."""
    undo = [keep_full(module) for module in modules]
    try:
        yield
    finally:
        for each in undo:
            each()


def _floated(value: Any) -> Any:
    halved = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if halved else value
