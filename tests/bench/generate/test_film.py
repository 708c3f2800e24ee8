"""Dubbed films keep the frames and times of their source, with the generated mouth in every frame."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import bench.generate.film as film_module
from bench.generate.blend import patch, put, similarity
from bench.generate.film import Film
from bench.generate.film_times import GENERATED, constant_rate, film_times
from bench.generate.fit import BLOCK_FRAMES, Fit
from bench.generate.footage import VideoFootage
from prep.landmark_sets import FACE_OVAL, LIPS_OUTER
from prep.video_reading import frames, native_frames, native_times
from prep.video_writing import write_video
from tests.bench.fake_method import number_of, numbered

NTSC = Fraction(30_000, 1001)


def at_rate(fps: float | Fraction, n: int) -> list[Fraction]:
    return [number / Fraction(fps) for number in range(n)]


# When frames are shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fps", [24, Fraction(24_000, 1001), NTSC, 30, 48, 50, Fraction(60_000, 1001), 60, 120, 29.5]
)
def test_every_frame_of_the_source_is_shown_once_at_its_time(fps: Fraction) -> None:
    times = at_rate(fps, 90)
    found = film_times(times, Fit().order(int(90 / fps * 25), int(90 / fps * 25)))
    assert found.fps == Fraction(fps) and not found.variable
    shown = [moment.source for moment in found.moments]
    assert shown == list(range(len(shown))) and len(shown) >= 90 - fps / 25 - 1
    for moment in found.moments:
        assert moment.source is not None and moment.time == times[moment.source]
        # The generated frame is the nearest one; at the very end there is none after it.
        assert (
            abs(moment.time - Fraction(moment.slot, 25)) <= Fraction(1, 50) or moment.time > times[-1] - 0.04
        )


@pytest.mark.parametrize("longer", ["bounce", "loop"])
@pytest.mark.parametrize("fps", [60, NTSC, 24])
def test_what_the_video_repeats_is_repeated_in_its_own_frames(fps: Fraction, longer: Any) -> None:
    video, wanted = 20, 90
    order = Fit(longer=longer).order(video, wanted)
    found = film_times(at_rate(fps, int(video / 25 * fps)), order)
    assert len(found.moments) == -(-wanted * fps // 25)
    for moment in found.moments:
        assert moment.source is not None
        seen = order[moment.slot] / 25
        # As far from the generated frame as its time is, and half a frame more where the direction changes.
        assert abs(moment.source / fps - seen) <= 0.04 + 0.5 / fps + 1e-9
    steps = [abs((b.source or 0) - (a.source or 0)) for a, b in pairwise(found.moments)]
    jumps = sum(step > 1 for step in steps)
    assert jumps == (0 if longer == "bounce" else (wanted - 1) // video)
    assert sum(step == 0 for step in steps) <= wanted // video + 1


def test_a_variable_rate_keeps_its_times_and_its_gaps_get_generated_frames() -> None:
    rng = np.random.default_rng(0)
    steps = rng.choice([17, 33, 34, 42], 100)
    steps[50] = 400
    times = [Fraction(int(time), 1000) for time in np.cumsum(steps) - steps[0]]
    slots = int(times[-1] * 25)
    found = film_times(times, Fit().order(slots, slots))
    assert found.variable and found.fps == len(found.moments) / Fraction(slots, 25)
    kept = [moment for moment in found.moments if moment.source is not None]
    assert [moment.source for moment in kept] == list(range(len(kept))) and len(kept) >= 98
    assert all(moment.time == times[moment.source or 0] for moment in kept)
    added = [moment for moment in found.moments if moment.source is None]
    assert all(times[49] < m.time < times[50] and m.time == Fraction(m.slot, 25) for m in added)
    assert 8 <= len(added) <= 10
    gaps = [b.time - a.time for a, b in pairwise(found.moments)]
    assert min(gaps) > 0 and max(gaps) < Fraction(3, 50)


@pytest.mark.parametrize("gap", [0.05, 0.0666, 0.067, 0.1, 0.123, 0.5])
@pytest.mark.parametrize("before", [30, 37, 44, 51])
def test_no_gap_is_longer_than_a_fifteenth_of_a_second(gap: float, before: int) -> None:
    times = [
        Fraction(0),
        *(Fraction(before, 1000) + Fraction(gap) + number * Fraction(1, 33) for number in range(30)),
    ]
    times.insert(1, Fraction(before, 1000))
    found = film_times(times, Fit().order(25, 25))
    gaps = [b.time - a.time for a, b in pairwise(found.moments)]
    assert found.variable and max(gaps) <= Fraction(1, 15) and min(gaps) >= Fraction(1, 80)
    assert any(moment.source is None for moment in found.moments) == (gap > 1 / 15)


def test_a_variable_rate_is_played_backwards_too() -> None:
    times = [Fraction(time, 1000) for time in (0, 30, 45, 95, 120, 160)]
    found = film_times(times, Fit().order(5, 12))
    assert [m.source for m in found.moments if m.source is not None][:12] == [
        0,
        1,
        2,
        3,
        4,
        5,
        4,
        3,
        2,
        1,
        0,
        1,
    ]
    assert [float(m.time) for m in found.moments][:9] == [
        0,
        0.03,
        0.045,
        0.095,
        0.12,
        0.16,
        0.2,
        0.225,
        0.275,
    ]


@pytest.mark.parametrize(("fps", "n"), [(25, 50), (12.5, 30), (15, 30)])
def test_sources_of_25_frames_and_slow_ones_are_shown_as_generated(fps: float, n: int) -> None:
    assert film_times(at_rate(fps, n), Fit().order(40, 40)) == GENERATED


def test_a_single_frame_is_shown_as_generated() -> None:
    assert film_times([Fraction(0)], Fit().order(1, 40)) == GENERATED


def test_rounded_times_are_a_constant_rate_and_a_lost_frame_is_not() -> None:
    rounded = [Fraction(round(time * 1000), 1000) for time in at_rate(NTSC, 200)]
    assert constant_rate(rounded) == NTSC
    assert constant_rate(at_rate(29.5, 200)) == Fraction(59, 2)
    assert constant_rate([*rounded[:50], *rounded[51:]]) is None


# What is shown -------------------------------------------------------------------------------------------------------

SIZE = (240, 200)  # width, height
MOUTH = (60, 30)


def face_at(x: float) -> np.ndarray:
    """(478, 3), a face whose mouth has its middle at (x, 140)."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-45, 45, (478, 3)) + np.array([x, 110, 0])
    turn = np.linspace(0, 2 * np.pi, len(LIPS_OUTER), endpoint=False)
    points[LIPS_OUTER, :2] = np.stack([x + 28 * np.cos(turn), 140 + 13 * np.sin(turn)], axis=1)
    turn = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    points[FACE_OVAL, :2] = np.stack([x + 50 * np.cos(turn), 110 + 60 * np.sin(turn)], axis=1)
    return points


def moved(number: int) -> float:
    """The middle of the face in frame ``number`` of a source with 60 fps."""
    return 80 + 1.0 * number


def drawn(number: int) -> np.ndarray:
    """A frame of the source: its number above, and a dark mouth which the speech opens and closes."""
    frame = numbered(number, SIZE[1], SIZE[0], grey=120)
    middle, height = round(moved(number)), 4 + 2 * (number % 4)
    frame[140 - height // 2 : 140 + height // 2, middle - 25 : middle + 25] = 10
    return frame


def speaking(frame: np.ndarray, x: float, value: int) -> np.ndarray:
    """A generated frame: the mouth region in one colour."""
    made = frame.copy()
    middle = round(x)
    made[140 - 15 : 140 + 15, middle - 30 : middle + 30] = value
    return made


@pytest.fixture
def film(tmp_path: Path) -> tuple[Path, VideoFootage]:
    path = tmp_path / "in.mp4"
    write_video(path, (drawn(number) for number in range(72)), fps=60, crf=0)
    return path, footage_of(path, 30)


def footage_of(path: Path, wanted: int, fit: Fit | None = None) -> VideoFootage:
    source = list(frames(path))
    landmarks = np.stack([face_at(moved(number_of(frame))) for frame in source])
    return VideoFootage(
        lambda start, stop: frames(path, start, stop),
        landmarks,
        n_frames=wanted,
        fit=fit or Fit(),
        width=SIZE[0],
        height=SIZE[1],
    )


def generated(footage: VideoFootage) -> Iterator[np.ndarray]:
    for shot in footage.shots():
        yield speaking(shot.frame, moved(number_of(shot.frame)), 150 + 3 * (shot.index % 30))


@pytest.mark.parametrize("fit", [Fit(), Fit("loop")])
def test_the_background_is_the_source_s_and_the_mouth_the_generated_one(
    film: tuple[Path, VideoFootage], fit: Fit
) -> None:
    path, _ = film
    footage = footage_of(path, 75, fit)
    made = Film(path, footage)
    source = [frame for _, frame in native_frames(path)]
    shown = list(made.frames(generated(footage)))
    assert len(shown) == len(made.times.moments) == 180
    numbers = [number_of(frame) for frame in shown]
    assert numbers[:70] == list(range(70))  # sixty different frames a second, none twice
    assert numbers == [moment.source for moment in made.times.moments]
    for frame, moment in zip(shown, made.times.moments, strict=True):
        number = number_of(frame)
        x = round(moved(number))
        # Away from the mouth every pixel is the source's, bit for bit.
        away = np.ones((SIZE[1], SIZE[0]), bool)
        away[140 - 40 : 140 + 40, max(0, x - 60) : x + 60] = False
        np.testing.assert_array_equal(frame[away], source[number][away])
        # In the mouth there is the generated colour, at the place where the face is now, and no lips of the original.
        inside = frame[140 - 12 : 140 + 12, x - 26 : x + 26].astype(int)
        assert np.abs(inside - (150 + 3 * (moment.slot % 30))).max() <= 6


def test_frames_that_the_method_leaves_alone_are_the_source_s(film: tuple[Path, VideoFootage]) -> None:
    path, footage = film
    source = [frame for _, frame in native_frames(path)]
    shown = list(Film(path, footage).frames(shot.frame for shot in footage.shots()))
    assert len(shown) == 72
    for frame, native in zip(shown, source, strict=True):
        np.testing.assert_array_equal(frame, native)


def test_where_no_face_is_found_the_mouth_stays_where_it_was_generated(
    film: tuple[Path, VideoFootage],
) -> None:
    path, footage = film
    footage.source_landmarks[:] = np.nan
    shown = list(Film(path, footage).frames(generated(footage)))
    (third,) = [frame for frame in shown if number_of(frame) == 3]
    # Slot 1 shows number 2: the nearest generated frame, whose mouth is one pixel away.
    x = round(moved(2))
    assert np.abs(third[130:150, x - 24 : x + 24].astype(int) - 153).max() <= 3


#: The first frame of another shot. The generated frame that is nearest to frame 30 was made from frame 32.
CUT = 31


def test_a_mouth_is_not_carried_over_a_cut(tmp_path: Path) -> None:
    def shot(number: int) -> np.ndarray:
        frame = numbered(number, SIZE[1], SIZE[0], grey=120 if number < CUT else 60)
        frame[125:155, 50:110] = frame[125:155, 130:190] = 200 if number < CUT else 20
        return frame

    path = tmp_path / "in.mp4"
    write_video(path, (shot(number) for number in range(60)), fps=60, crf=0)
    source = list(frames(path))
    footage = VideoFootage(
        lambda start, stop: frames(path, start, stop),
        np.stack([face_at(80 if number_of(frame) < CUT else 160) for frame in source]),
        n_frames=25,
        fit=Fit(),
        width=SIZE[0],
        height=SIZE[1],
    )

    def made() -> Iterator[np.ndarray]:
        for each in footage.shots():
            yield speaking(each.frame, 80 if number_of(each.frame) < CUT else 160, 150)

    native = [frame for _, frame in native_frames(path)]
    untouched = []
    for number, frame in enumerate(Film(path, footage).frames(made())):
        old, new = frame[128:152, 54:106].astype(int), frame[128:152, 134:186].astype(int)
        before = number < CUT
        # The mouth is only ever on the side where the face is.
        side, other = (old, new) if before else (new, old)
        assert np.abs(other - (200 if before else 20)).max() <= 3, number
        if np.abs(side - 150).max() > 3:
            untouched.append(number)
            np.testing.assert_array_equal(frame, native[number])
    assert untouched == [30]


def test_few_frames_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = most = 0

    def gone() -> None:
        nonlocal live
        live -= 1

    def counted(path: Path, start: Fraction) -> Iterator[tuple[Fraction, np.ndarray]]:
        nonlocal live, most
        for time, frame in native_frames(path, start=start):
            live += 1
            most = max(most, live)
            weakref.finalize(frame, gone)
            yield time, frame
            del frame

    monkeypatch.setattr(film_module, "native_frames", counted)
    path = tmp_path / "in.mp4"
    write_video(path, (numbered(number, SIZE[1], SIZE[0]) for number in range(144)), fps=60)
    footage = footage_of(path, 125)
    numbers = [number_of(frame) for frame in Film(path, footage).frames(s.frame for s in footage.shots())]
    gc.collect()
    assert numbers == [*range(142), *range(141, -1, -1), *range(1, 17)]
    assert most <= BLOCK_FRAMES + 2 and live == 0


def test_a_source_frame_that_is_lost_is_replaced_by_the_one_before(
    film: tuple[Path, VideoFootage], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, footage = film
    lost = native_times(path)[11]
    every = native_frames
    monkeypatch.setattr(
        film_module,
        "native_frames",
        lambda path, start: (f for f in every(path, start=start) if f[0] != lost),
    )
    shown = [number_of(frame) for frame in Film(path, footage).frames(s.frame for s in footage.shots())]
    assert shown == [*range(11), 10, *range(12, 72)]


# The region ----------------------------------------------------------------------------------------------------------

NOWHERE = np.full((1, 2), np.nan)


def test_a_region_covers_all_that_changed_and_the_mouth_and_fades_outside() -> None:
    original = np.full((160, 200, 3), 90, np.uint8)
    made = original.copy()
    cv2.circle(made, (100, 80), 30, (200, 80, 90), -1)
    made[5, 5] = 255  # a speck
    found = patch(original, made, np.array([[100.0, 130.0], [np.nan, np.nan]]))
    assert found is not None
    share = np.zeros((160, 200), np.float32)
    height, width = found.share.shape
    share[found.y : found.y + height, found.x : found.x + width] = found.share
    assert share[(cv2.absdiff(original, made).max(axis=2) > 0) & (np.indices((160, 200))[0] > 20)].min() == 1
    assert share[120, 100] == 1 and share[5, 5] == 0 and share[:, :50].max() == 0
    assert 0 < share[80, 133] < 1


def test_nothing_changed_is_no_region() -> None:
    frame = np.random.default_rng(0).integers(0, 250, (60, 80, 3), np.uint8)
    assert patch(frame, frame + 3, NOWHERE) is None


def test_a_region_moves_with_the_face_in_continuous_pixels() -> None:
    x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(160) + 0.5)

    def blob(cx: float, cy: float, width: float) -> np.ndarray:
        value = 255 * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (2 * width**2)))
        return np.repeat(value[..., None], 3, axis=2).round().astype(np.uint8)

    made = blob(100, 80, 12)
    found = patch(np.zeros_like(made), made, NOWHERE)
    assert found is not None
    scale = 1.02
    motion = np.array([[scale, 0, 100.6 - 100 * scale], [0, scale, 79.3 - 80 * scale]])
    frame = np.zeros_like(made)
    put(found, frame, motion)
    assert np.abs(frame.astype(int) - blob(100.6, 79.3, 12 * scale)).max() <= 3
    still = np.zeros_like(made)
    put(found, still, np.eye(2, 3))
    assert np.array_equal(still[60:100, 80:120], made[60:100, 80:120])


def test_the_similarity_is_recovered() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=(30, 2)) * 40
    turn = 1.1 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    found = similarity(before, before @ turn.T + [3, -7])
    np.testing.assert_allclose(found, np.column_stack([turn, [3, -7]]), atol=1e-9)
    same = similarity(np.ones((4, 2)), np.full((4, 2), 3.0))
    np.testing.assert_allclose(same, [[1, 0, 2], [0, 1, 2]])
