"""Generates videos with trained methods or with external commands.

``from bench.generate import generate, dub, derive``: what ``bench generate``, ``bench dub`` and ``bench derive`` do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.generate.deriving import derive as derive
    from bench.generate.dubbing import dub as dub
    from bench.generate.over_data import generate as generate
    from bench.generate.pairing import GenerateOptions as GenerateOptions

#: Public name → its module. Modules are imported at first use, since torch needs seconds.
_HOMES = {"derive": "deriving", "GenerateOptions": "pairing", "dub": "dubbing", "generate": "over_data"}
__all__ = ["GenerateOptions", "derive", "dub", "generate"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
