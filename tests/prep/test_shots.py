"""Cuts are found; movement, flashes, exposure and fades are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest

from prep.shots import REACH, marked

N = 40


def scene(seed: int, grain: int = 12) -> np.ndarray:
    """A picture (270, 480, 3) uint8 of soft patches."""
    patches = np.random.default_rng(seed).integers(20, 230, (9 * grain // 12, grain, 3), np.uint8)
    return cv2.resize(patches, (480, 270), interpolation=cv2.INTER_CUBIC)


def shot(seed: int, n: int = N, speed: float = 2) -> list[np.ndarray]:
    """A head that moves before a background at rest, with noise."""
    background, head = scene(seed), scene(seed + 1000, 24)[:150, :120]
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(n):
        frame = background.copy()
        x = int(180 + 60 * np.sin(speed * i / 20))
        frame[80:230, x : x + 120] = head
        frames.append(np.clip(frame + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8))
    return frames


def cuts(frames: Iterable[np.ndarray]) -> list[int]:
    return [i for i, (_, cut) in enumerate(marked(frames)) if cut]


def lit(frame: np.ndarray, gain: float, offset: float = 0) -> np.ndarray:
    return np.clip(frame * gain + offset, 0, 255).astype(np.uint8)


def test_every_cut_is_found_and_nothing_else():
    frames = shot(1, 20) + shot(2, 15) + shot(3, 5) + shot(4, 20)
    assert cuts(frames) == [20, 35, 40]


def test_a_cut_before_the_same_background_is_found():
    a, b = shot(1, 20), shot(1, 20)
    other = scene(77, 24)[:150, :120]
    for frame in b:
        frame[80:230, 200:320] = other
    assert cuts(a + b) == [20]


@pytest.mark.parametrize("speed", [0, 2, 8, 20])
def test_movement_is_no_cut(speed):
    assert cuts(shot(1, 80, speed)) == []


def test_a_mouth_that_opens_suddenly_in_a_still_close_up_is_no_cut():
    still = cv2.resize(scene(5, 4), (128, 128))
    opened = still.copy()
    cv2.ellipse(opened, (64, 92), (16, 9), 0, 0, 360, (20, 10, 10), -1)
    assert cuts([still.copy() for _ in range(20)] + [opened.copy() for _ in range(20)]) == []


def test_light_is_no_cut():
    frames = shot(1, 60)
    flash = [lit(frame, 1.5, 100) if i in (20, 40, 41) else frame for i, frame in enumerate(frames)]
    exposure = [lit(frame, 0.6 if i >= 30 else 1, 10) for i, frame in enumerate(frames)]
    fade = [lit(frame, min(1, i / 15, (59 - i) / 15)) for i, frame in enumerate(frames)]
    assert cuts(flash) == cuts(exposure) == cuts(fade) == []


def test_repeated_frames_are_no_cut():
    assert cuts([frame for frame in shot(1, 40, 8) for _ in range(2)]) == []


def test_shots_are_told_apart_across_black_frames():
    black = [np.zeros((270, 480, 3), np.uint8)] * 10
    assert cuts(shot(1, 20) + black + shot(2, 20)) == [30]
    frames = shot(1, 40)
    assert cuts(frames[:20] + black + frames[20:]) == []


def test_every_frame_comes_back_in_order_and_few_are_held():
    frames = shot(1, 30)
    read = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal read
        for frame in frames:
            read += 1
            yield frame

    for number, (frame, _) in enumerate(marked(counted())):
        assert frame is frames[number] and read <= number + REACH
    assert number == 29
    assert cuts([]) == cuts(frames[:1]) == cuts([frames[0], shot(2, 1)[0]][:1]) == []
    assert cuts(np.zeros((3, 1, 1, 3), np.uint8)) == []
