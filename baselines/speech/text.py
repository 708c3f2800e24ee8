"""The 29 symbols of DeepSpeech, texts as numbers, greedy decoding, and the error rate of characters."""

from __future__ import annotations

import unicodedata

import numpy as np
import torch
from torch import Tensor

#: In the order of DeepSpeech's ``alphabet.txt``; the blank of CTC follows as the last of 29.
LETTERS = " abcdefghijklmnopqrstuvwxyz'"
BLANK = len(LETTERS)
SYMBOLS = BLANK + 1
_NUMBER = {letter: number for number, letter in enumerate(LETTERS)}


def spelt(text: str) -> str:
    """A text in the letters of the alphabet: lower case, accents removed, everything else a space, single spaces."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'")).lower()
    kept = (c if c in _NUMBER else " " for c in plain if not unicodedata.combining(c))
    return " ".join("".join(kept).split())


def numbers(text: str) -> Tensor:
    """(n,) int64 of what :func:`spelt` gives, each from 0 to 27."""
    return torch.tensor([_NUMBER[letter] for letter in spelt(text)], dtype=torch.int64)


def greedy(logits: np.ndarray | Tensor) -> str:
    """The most likely symbol of each column, repetitions and blanks removed (Graves et al., ICML 2006, section 3.2).

    Args:
        logits: (t, 29).
    """
    best = torch.as_tensor(logits).argmax(dim=1)
    kept = torch.unique_consecutive(best)
    return " ".join("".join(LETTERS[number] for number in kept.tolist() if number != BLANK).split())


def edits(heard: str, said: str) -> int:
    """Levenshtein's distance: insertions, deletions and replacements that turn one text into the other."""
    row = np.arange(len(said) + 1)
    letters = np.array(list(said), dtype="<U1")
    for number, letter in enumerate(heard, 1):
        # Without insertions; then each place may be reached by insertions after any place before it.
        best = np.minimum(row[1:] + 1, row[:-1] + (letters != letter))
        row = np.concatenate([[number], best])
        row = np.minimum.accumulate(row - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])


def error_rate(heard: list[str], said: list[str]) -> float:
    """Character error rate: edits of all texts over the letters of all that was said; 0 is best, above 1 possible."""
    pairs = zip(heard, map(spelt, said), strict=True)
    return sum(edits(*pair) for pair in pairs) / max(1, sum(len(spelt(text)) for text in said))
