"""Every method by name: those of the papers, the baselines, and those of other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import baselines
import models
from bench.common.errors import BenchError
from models.registry import METHOD_GROUP, Registry

if TYPE_CHECKING:
    from models.base import Talker, Trainable


#: The methods of the papers, then the baselines, then those of other packages.
METHODS = Registry({**models.METHODS, **baselines.METHODS}, group=METHOD_GROUP)


def get_method(name: str) -> type[Trainable]:
    """The class of a method, imported now.

    Raises:
        BenchError: no method has that name (the message proposes the nearest), another package's cannot be imported, or
            the class has another name or no title.
    """
    try:
        found: type[Trainable] = METHODS[name]
    except (KeyError, ImportError) as error:
        raise BenchError(error.args[0]) from None
    own = getattr(found, "name", None)
    if own != name:
        raise BenchError(f"the method {name} calls itself {own}: it must be entered under its own name")
    if not hasattr(found, "title"):
        raise BenchError(
            f"the method {name} has no title: its class must set one, as models.base.Trainable says"
        )
    return found


def get_talker(name: str) -> type[Talker]:
    """The class of a method that generates videos.

    Raises:
        BenchError: as :func:`get_method`, or the method generates no videos.
    """
    from models.base import Talker

    found = get_method(name)
    if not issubclass(found, Talker):
        raise BenchError(
            f"{name} generates no videos: it is trained for other methods to use; see `bench ls methods`"
        )
    return found
