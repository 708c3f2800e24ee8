"""Native code that prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence() -> Iterator[None]:
    """Discard what native code writes to file descriptor 2: MediaPipe's messages cannot be disabled otherwise."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # The process has no standard error.
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
