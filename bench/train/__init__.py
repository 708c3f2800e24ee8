"""Training: configuration, the runner, checkpoints, the records of a run.

``from bench.train import train`` trains a method from Python; see :func:`bench.train.training.train`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.train.run_set import RunSet
    from bench.train.runner import TrainResult
    from bench.train.training import train

__all__ = ["RunSet", "TrainResult", "train"]

_HOMES = {"RunSet": "run_set", "TrainResult": "runner", "train": "training"}


def __getattr__(name: str) -> Any:
    # Imported late: torch needs seconds, and the command line imports this package before it parses the command.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
