"""What the command says of an error: one line if the user can mend it."""

from __future__ import annotations

from bench.common.errors import BenchError
from prep.errors import PrepError
from prep.installing import explain


def one_line(error: Exception) -> str | None:
    """One line that names what is wrong and the remedy; None for an error that only a programmer can mend."""
    text = str(error)
    if isinstance(error, PrepError | BenchError):
        # A registry passes on what an import said: the remedy is known here.
        cause = error.__cause__ or error.__context__
        passed_on = isinstance(cause, ImportError) and str(cause) == text
        return (explain(cause) if passed_on and cause else None) or text
    if found := explain(error):
        return found
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or text}"
    return None
