"""Every method by name: the papers' and the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from models.base import Method
from models.registry import Registry


def registry() -> Registry:
    """The methods of the papers, then the baselines."""
    import baselines
    import models
    from models.registry import Registry

    return Registry({**models.METHODS.entries, **baselines.METHODS.entries})


def get_method(name: str) -> type[Method]:
    """The class of a method, imported now.

    Raises:
        BenchError: there is none of that name; proposes the nearest.
    """
    try:
        return registry()[name]
    except KeyError as error:
        raise BenchError(error.args[0]) from None
