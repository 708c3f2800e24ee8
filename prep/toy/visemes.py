"""Mouth shapes of the phonemes, and how they run into one another.

Every phoneme has a target for each channel of the mouth and a dominance that says how much it insists; targets are
blended by dominance over time, as in Cohen and Massaro, "Modeling coarticulation in synthetic visual speech" (1993).
What cannot be blended away, the closure of m, b and p, is imposed afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
    "ʊ": (0.40, 0.65, 0.00),
    "u": (0.30, 0.95, 0.00),
}
# Channels open, round, wide, press, bite, tongue; dominance of the opening; dominance of round and wide.
_CONSONANTS = {
    **dict.fromkeys("mbp", ((0.0, 0.05, 0.0, 0.8, 0.0, 0.0), 3.0, 0.3)),
    **dict.fromkeys("fv", ((0.10, 0.0, 0.1, 0.0, 1.0, 0.0), 2.0, 0.5)),
    **dict.fromkeys("wʍ", ((0.18, 1.0, 0.0, 0.0, 0.0, 0.0), 1.5, 2.0)),
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
#: Seconds by which a sound is felt before and after itself.
_REACH = 0.035
#: The mouth is ahead of the sound: shapes are taken up a little before they are heard.
_AHEAD = 0.012
#: A closure is complete this long before its sound and breaks up this long before the next one; forming and breaking
#: up take this long.
_CLOSE_BEFORE, _BREAK_BEFORE, _RAMP = 0.02, 0.012, 0.045
_GRID = 250


def _targets(name: str) -> list[tuple[tuple[float, ...], float, float, float]]:
    """(targets, dominance of the opening, dominance of the rest, share of the duration) of each part of a phoneme."""
    stress = 1.08 if "ˈ" in name else 1.0 if "ˌ" in name else 0.92
    parts = []
    for symbol in name:
        if symbol in _VOWELS:
            opening, rounded, spread = _VOWELS[symbol]
            parts.append(((min(1.0, opening * stress), rounded, spread, 0.0, 0.0, 0.0), 1.0, 0.8, 1.0))
        elif symbol in _CONSONANTS:
            parts.append((*_CONSONANTS[symbol], 1.0))
        elif symbol == "ː" and parts:
            *head, share = parts[-1]
            parts[-1] = (head[0], head[1], head[2], share * 1.5)
    if not parts:
        parts.append((*_SILENCE, 1.0))
    total = sum(part[3] for part in parts)
    return [(*part[:3], part[3] / total) for part in parts]


def articulate(phonemes: Sequence[Phoneme], times: Floats) -> Floats:
    """The mouth's channels at ``times`` (T,) seconds, while the phonemes are spoken; float64 (T, 6) in CHANNELS' order.

    Before the first phoneme and after the last one the mouth is at rest.
    """
    pieces: list[tuple[tuple[float, ...], float, float, float, float, bool]] = []
    edges = (phonemes[0].start, phonemes[-1].stop)
    for phoneme in (Phoneme("", edges[0] - 1, edges[0]), *phonemes, Phoneme("", edges[1], edges[1] + 1)):
        at = phoneme.start
        for targets, insist, shape, share in _targets(phoneme.name):
            length = share * (phoneme.stop - phoneme.start)
            closed = bool(phoneme.name) and targets is _CONSONANTS["m"][0]
            pieces.append((targets, insist, shape, at, at + length, closed))
            at += length
    targets = np.array([piece[0] for piece in pieces])
    start, stop = np.array([piece[3:5] for piece in pieces]).T
    # Each piece is felt as a box of its length with smooth flanks.
    heard = times[:, None] + _AHEAD
    before, after = (heard - start) / _REACH, (stop - heard) / _REACH
    felt = 1 / (1 + np.exp(-2.2 * before)) / (1 + np.exp(-2.2 * after)) + 1e-9
    insist, shape = np.array([piece[1:3] for piece in pieces]).T
    blended = np.empty((len(times), len(CHANNELS)))
    for channel in range(len(CHANNELS)):
        weight = felt * (insist if CHANNELS[channel] == "open" else np.maximum(shape, targets[:, channel]))
        blended[:, channel] = (weight @ targets[:, channel]) / weight.sum(1)
    for piece in pieces:
        if piece[5]:
            away = np.maximum(piece[3] - _CLOSE_BEFORE - times, times - (piece[4] - _BREAK_BEFORE))
            ramp = np.clip(away / _RAMP, 0, 1)
            blended[:, 0] *= ramp * ramp * (3 - 2 * ramp)
    return blended
