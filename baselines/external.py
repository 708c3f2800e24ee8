"""The code of others as a baseline: the command line that makes one of its videos, as a template.

Nothing is run here; :mod:`bench.generate.external` fills the template for every pair and runs it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

#: What may stand in braces in a command → what it becomes.
PLACEHOLDERS: dict[str, str] = {
    "video": "the face: an MP4 at 25 frames a second, without sound",
    "audio": "the sound that drives it: WAV, 16 kHz, mono, 16 bit",
    "out": "the MP4 to write",
    "out_dir": "an empty folder, for code that names its file itself: the only video in it is taken",
    "name": "the name of the video to make: a clip id, or the number of a line",
    "worker": "the number of the worker, from 0: for a GPU, or a folder, of its own",
}

# ``{{word}}`` is the literal ``{word}``; braces around anything but a word mean nothing.
_BRACES = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")
_SHELL = "/bin/sh"


def placeholders(text: str) -> set[str]:
    """The words that stand in single braces."""
    return {found[2] for found in _BRACES.finditer(text) if found[2]}


def fill(text: str, values: Mapping[str, str]) -> str:
    """``text`` with every ``{word}`` replaced and every ``{{word}}`` made ``{word}``, in one pass.

    Raises:
        KeyError: a word has no value.
    """
    return _BRACES.sub(lambda found: f"{{{found[1]}}}" if found[1] else values[found[2]], text)


@dataclass(frozen=True)
class CommandTemplate:
    """A command with ``{video}``, ``{audio}`` and ``{out}`` or ``{out_dir}`` in it.

    Without a shell the text is split into words as a POSIX shell would split it, before anything is filled in: a
    value is never more than (a part of) one word, whatever it holds. With a shell the values are quoted; a placeholder
    must then not stand in quotes.

    Attributes:
        text: as the user wrote it.
        shell: leave it to ``/bin/sh``, for pipes, ``&&`` and the like.

    Raises:
        ValueError: in one line: no command, quotes that do not end, a placeholder that is not in :data:`PLACEHOLDERS`,
            or one missing without which no video can be made.
    """

    text: str
    shell: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("the command is empty")
        if not self.shell:
            try:
                shlex.split(self.text)
            except ValueError as error:
                raise ValueError(f"the command cannot be split into words: {error}") from None
        there = placeholders(self.text)
        unknown = sorted(there - PLACEHOLDERS.keys())
        if unknown:
            raise ValueError(
                f"unknown placeholder {{{unknown[0]}}} in the command: there are "
                f"{', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}; for the word itself write {{{{{unknown[0]}}}}}"
            )
        missing = [f"{{{name}}}" for name in ("video", "audio") if name not in there]
        if not there & {"out", "out_dir"}:
            missing.append("{out} or {out_dir}")
        if missing:
            raise ValueError(f"the command lacks {', '.join(missing)}")

    @property
    def names_output(self) -> bool:
        """Whether the command is told the file to write (``{out}``)."""
        return "out" in placeholders(self.text)

    @property
    def program(self) -> str:
        """The first word, unfilled: what is run."""
        return _SHELL if self.shell else shlex.split(self.text)[0]

    def arguments(self, values: Mapping[str, str]) -> list[str]:
        """The words to run, the program first.

        Args:
            values: for every key of :data:`PLACEHOLDERS`.
        """
        if self.shell:
            quoted = {name: shlex.quote(value) for name, value in values.items()}
            return [_SHELL, "-c", fill(self.text, quoted)]
        return [fill(word, values) for word in shlex.split(self.text)]
