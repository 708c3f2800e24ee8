"""Names: choosing by name, with a helpful message for an unknown one; and names of files in different Unicode forms."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from prep.errors import PrepError


def known(what: str, names: Sequence[str], registry: Collection[str]) -> tuple[str, ...]:
    """``names`` without spaces and repetitions, in their order.

    Raises:
        PrepError: one is not in ``registry``; the message proposes the nearest name, or lists all.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names))
    for name in chosen:
        if name not in registry:
            near = difflib.get_close_matches(name.lower(), registry, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(registry)}"
            raise PrepError(f"unknown {what} {name!r}: {hint}")
    return chosen


def composed(name: str) -> str:
    """A name in the form in which names of files and clips are compared: Unicode's composed form, NFC.

    Names from a Mac are often decomposed (``e`` and an accent), those from a keyboard composed (``é``).
    """
    return unicodedata.normalize("NFC", name)


def by_composed(names: Iterable[str], folder: object) -> dict[str, str]:
    """The composed form of each name → the name.

    Args:
        names: names of files, as they are on disk.
        folder: where they are, for the message.

    Raises:
        PrepError: two names are the same in the composed form.
    """
    listed = list(names)
    if "".join(listed).isascii():  # already composed, and most names are
        return dict(zip(listed, listed, strict=True))
    found: dict[str, str] = {}
    for name in listed:
        other = found.setdefault(composed(name), name)
        if other != name:
            raise PrepError(
                f"{folder} holds {other!a} and {name!a}, which look alike and differ only in how Unicode "
                "composes their letters: rename one"
            )
    return found
