"""The ``bench`` command: one file per subcommand; slow imports are inside the functions."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command. Errors that the user can fix are one line on stderr, with exit code 1."""
    from bench.cli.failing import one_line

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal in ASCII shows ? where it has no letter
    try:
        _run(sys.argv[1:])
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (line := one_line(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def _run(words: list[str]) -> None:
    try:
        from bench.cli.app import app
    except ImportError:
        if words[:1] != ["doctor"]:
            raise
        # `bench doctor` says what is missing, even if it is what the other commands need to read their options.
        from bench.cli.diagnosis import examine, find_weights
        from bench.cli.doctor_text import show

        sys.exit(show(examine(find_weights())))
    app()
