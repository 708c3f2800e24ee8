"""Mouth shapes of the phonemes, and the transitions between them.

Every phoneme has a target for each channel of the mouth and a dominance, its weight in the blend; targets are
blended by dominance over time, as in Cohen and Massaro, "Modeling coarticulation in synthetic visual speech" (1993).
The closure of m, b and p must not be lost in the blend, so it is set afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from prep.toy.speech import Phoneme

Floats = NDArray[np.float64]

#: Channels, each from 0 to 1: how far the lips are parted; drawn together to a circle; spread; pressed on each other;
#: the lower lip under the upper teeth; the tongue behind the upper teeth.
CHANNELS = ("open", "round", "wide", "press", "bite", "tongue")

_VOWELS = {
    "ɑ": (1.00, 0.00, 0.00),
    "a": (1.00, 0.00, 0.10),
    "æ": (0.90, 0.00, 0.30),
    "ɐ": (0.70, 0.00, 0.05),
    "ʌ": (0.70, 0.00, 0.05),
    "ɒ": (0.80, 0.25, 0.00),
    "ɔ": (0.75, 0.45, 0.00),
    "o": (0.60, 0.70, 0.00),
    "ə": (0.42, 0.05, 0.05),
    "ᵻ": (0.35, 0.00, 0.25),
    "ɚ": (0.42, 0.30, 0.00),
    "ɜ": (0.48, 0.35, 0.00),
    "ɛ": (0.65, 0.00, 0.40),
    "e": (0.55, 0.00, 0.50),
    "ɪ": (0.42, 0.00, 0.40),
    "i": (0.32, 0.00, 0.80),
    "ʊ": (0.46, 0.65, 0.00),
    "u": (0.44, 0.90, 0.00),
}
# Channels open, round, wide, press, bite, tongue; dominance of the opening; dominance of round and wide.
_CONSONANTS: dict[str, tuple[tuple[float, ...], float, float]] = {
    **dict.fromkeys("mbp", ((0.0, 0.05, 0.0, 0.8, 0.0, 0.0), 3.0, 0.3)),
    **dict.fromkeys("fv", ((0.10, 0.0, 0.1, 0.0, 1.0, 0.0), 2.0, 0.5)),
    **dict.fromkeys("wʍ", ((0.30, 0.9, 0.0, 0.0, 0.0, 0.0), 1.5, 2.0)),
    **dict.fromkeys("ɹr", ((0.30, 0.55, 0.0, 0.0, 0.0, 0.1), 0.8, 1.0)),
    **dict.fromkeys("ʃʒ", ((0.24, 0.55, 0.0, 0.0, 0.0, 0.2), 1.2, 1.2)),
    **dict.fromkeys("sz", ((0.16, 0.0, 0.35, 0.0, 0.0, 0.3), 1.2, 0.6)),
    **dict.fromkeys("tdnɾ", ((0.22, 0.0, 0.15, 0.0, 0.0, 0.9), 0.7, 0.3)),
    **dict.fromkeys("lɫ", ((0.40, 0.0, 0.10, 0.0, 0.0, 1.0), 0.7, 0.3)),
    **dict.fromkeys("θð", ((0.26, 0.0, 0.15, 0.0, 0.0, 1.0), 1.2, 0.5)),
    **dict.fromkeys("j", ((0.26, 0.0, 0.55, 0.0, 0.0, 0.0), 0.8, 0.8)),
    **dict.fromkeys("kɡgŋx", ((0.34, 0.0, 0.05, 0.0, 0.0, 0.0), 0.5, 0.2)),
    **dict.fromkeys("hʔ", ((0.45, 0.0, 0.05, 0.0, 0.0, 0.0), 0.3, 0.1)),
}
_SILENCE = ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 1.0, 0.4)
_CLOSED = frozenset("mbp")
#: Seconds by which a sound has an effect before and after itself.
_REACH = 0.035
#: The mouth is ahead of the sound: shapes are taken up a little before they are heard.
_AHEAD = 0.012
#: A closure is complete this long before its sound and breaks up this long before the next one; forming and breaking
#: up take this long.
_CLOSE_BEFORE, _BREAK_BEFORE, _RAMP = 0.02, 0.012, 0.045


class _Piece(NamedTuple):
    """A mouth shape and when it is wanted: dominance of the opening, dominance of the rest, begin and end."""

    goal: tuple[float, ...]
    opening: float
    shape: float
    closed: bool
    start: float
    stop: float


def _pieces(phoneme: Phoneme) -> list[_Piece]:
    """The shapes of one phoneme, diphthongs and affricates taken apart."""
    stress = 1.08 if "ˈ" in phoneme.name else 1.0 if "ˌ" in phoneme.name else 0.92
    parts: list[tuple[tuple[float, ...], float, float, bool]] = []
    shares: list[float] = []
    for symbol in phoneme.name:
        if symbol in _VOWELS:
            opening, rounded, spread = _VOWELS[symbol]
            goal = (min(1.0, opening * stress), rounded, spread, 0.0, 0.0, 0.0)
            parts.append((goal, 1.0, 0.8, False))
            shares.append(1.0)
        elif symbol in _CONSONANTS:
            parts.append((*_CONSONANTS[symbol], symbol in _CLOSED))
            shares.append(1.0)
        elif symbol == "ː" and shares:
            shares[-1] *= 1.5
    if not parts:
        parts, shares = [(*_SILENCE, False)], [1.0]
    ends = phoneme.start + np.cumsum([0.0, *shares]) / sum(shares) * (phoneme.stop - phoneme.start)
    return [_Piece(*part, *span) for part, span in zip(parts, pairwise(ends.tolist()), strict=True)]


def articulate(phonemes: Sequence[Phoneme], times: Floats) -> Floats:
    """The mouth's channels at ``times`` (T,) seconds, while the phonemes are spoken; float64 (T, 6) in CHANNELS' order.

    Before the first phoneme and after the last one the mouth is at rest.
    """
    first, last = phonemes[0].start, phonemes[-1].stop
    around = (Phoneme("", first - 1, first), *phonemes, Phoneme("", last, last + 1))
    pieces = [piece for phoneme in around for piece in _pieces(phoneme)]
    goals = np.array([piece.goal for piece in pieces])
    start, stop, opening, shape = np.array([(p.start, p.stop, p.opening, p.shape) for p in pieces]).T
    # Each piece has the effect of a box of its length with smooth flanks.
    heard = times[:, None] + _AHEAD
    felt = expit(2.2 * (heard - start) / _REACH) * expit(2.2 * (stop - heard) / _REACH) + 1e-9
    blended = np.empty((len(times), len(CHANNELS)))
    for channel, name in enumerate(CHANNELS):
        weight = felt * (opening if name == "open" else np.maximum(shape, goals[:, channel]))
        blended[:, channel] = (weight @ goals[:, channel]) / weight.sum(1)
    for piece in pieces:
        if piece.closed:
            away = np.maximum(piece.start - _CLOSE_BEFORE - times, times - (piece.stop - _BREAK_BEFORE))
            ramp = np.clip(away / _RAMP, 0, 1)
            blended[:, 0] *= ramp * ramp * (3 - 2 * ramp)
    return blended
