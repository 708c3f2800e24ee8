"""Movements of a head during speech, apart from the mouth: sway, nod, raised brows, blinks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prep.toy.rig import MODES
from prep.toy.visemes import CHANNELS

Floats = NDArray[np.float64]

#: Largest swing of each mode of the head: radians, then shares of the stage.
_SWING = {"yaw": 0.065, "pitch": 0.045, "roll": 0.022, "across": 0.011, "down": 0.007, "zoom": 0.012}
#: A blink closes, rests and opens in these times (seconds); from one to the next it is this long.
_BLINK = (0.09, 0.05, 0.17)
_BETWEEN_BLINKS = (1.6, 4.2)


def head_motion(times: Floats, rng: np.random.Generator) -> dict[str, Floats]:
    """Slow irregular movement of the head; one array (T,) for each mode of the head."""
    motion = {}
    for name, swing in _SWING.items():
        hertz = rng.uniform((0.08, 0.25, 0.55), (0.2, 0.5, 0.9))
        share = np.array([0.55, 0.33, 0.12])
        phase = rng.uniform(0, 2 * np.pi, 3)
        motion[name] = swing * np.sin(2 * np.pi * times[:, None] * hertz + phase) @ share
    return motion


def blinking(times: Floats, rng: np.random.Generator) -> Floats:
    """How far the eyes are closed, 0 to 1; (T,)."""
    closing, rest, opening = _BLINK
    shut = np.zeros_like(times)
    at = rng.uniform(0.3, _BETWEEN_BLINKS[1])
    while at < times[-1]:
        x = times - at
        down, up = np.clip(x / closing, 0, 1), np.clip((x - closing - rest) / opening, 0, 1)
        shut = np.maximum(shut, np.sin(np.pi / 2 * down) * (1 - up * up * (3 - 2 * up)))
        at += rng.uniform(*_BETWEEN_BLINKS)
    return shut


def raised_brows(times: Floats, rng: np.random.Generator) -> Floats:
    """How far the brows are raised, 0 to 1; (T,)."""
    raised = np.zeros_like(times)
    for at in np.arange(rng.uniform(0, 2), times[-1] + 1, rng.uniform(1.6, 2.6)):
        raised += rng.uniform(0.2, 0.9) * np.exp(-(((times - at) / rng.uniform(0.16, 0.35)) ** 2))
    return np.minimum(raised, 1)


def coefficients(mouth: Floats, opening: float, head: dict[str, Floats], brows: Floats) -> Floats:
    """The rig's coefficients of every frame; (T, len(MODES)).

    Args:
        mouth: channels of the mouth (T, 6).
        opening: the lips' distance for channel ``open`` = 1.
        head: modes of the head.
        brows: height of the brows (T,).
    """
    channel = dict(zip(CHANNELS, mouth.T, strict=True))
    values = {
        "open": opening * channel["open"],
        **{name: channel[name] for name in ("round", "wide", "press", "bite")},
        "brow": brows,
        **head,
    }
    return np.stack([values[name] for name in MODES], axis=1)
