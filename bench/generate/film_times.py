"""When the frames of a dubbed film are shown: at the times of its source, not at the 25 frames a second of methods.

The result is a list of moments. At each, a frame of the source is shown at its own time, and the generated frame
nearest in time gives its mouth. Where the video is played backwards or begins anew to last as long as the sound, the
source's frames are too.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bench.generate.fit import Order
from prep.rates import FPS

#: A source with fewer frames a second is written at 25: at its own rate a mouth could not be followed.
SLOWEST = 20
#: Longest time in seconds between two frames; in longer gaps of a variable rate, generated frames are added.
_LONGEST = Fraction(1, 15)
# Seconds between an added frame and its neighbours at least; so narrow that every longer gap has room for one.
_APART = (_LONGEST - Fraction(1, FPS)) / 2
#: Shortest time in seconds between two frames of a variable rate.
_SHORTEST = Fraction(1, 500)
#: Rates in use, in frames a second.
_RATES = (
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(48),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
    Fraction(100),
    Fraction(120000, 1001),
    Fraction(120),
)
# Seconds. A rate is constant if no time is off by more; containers that round to milliseconds are off by up to one.
_JITTER = 0.002
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Moment:
    """One frame of the result.

    Attributes:
        time: seconds from the first frame.
        slot: number of the generated frame that is nearest in time.
        source: number of the source's frame that is shown; None: the generated frame as it is.
    """

    time: Fraction
    slot: int
    source: int | None


@dataclass(frozen=True)
class FilmTimes:
    """The moments of a result.

    Attributes:
        fps: frames per second; for a variable rate, the average.
        variable: whether the rate is variable.
        moments: in order of time; empty: the generated frames are shown as they are, at 25 a second.
    """

    fps: Fraction
    variable: bool = False
    moments: tuple[Moment, ...] = ()


#: The generated frames as they are.
GENERATED = FilmTimes(Fraction(FPS))


def film_times(times: Sequence[Fraction], order: Order) -> FilmTimes:
    """Choose the moments of a result.

    Args:
        times: seconds of the source's frames after the first one, increasing.
        order: source frame, counted at 25 fps, of every generated frame: (n,) int64, n > 0.

    Returns:
        :data:`GENERATED` if the source has 25 fps or fewer than :data:`SLOWEST`, or the order a single frame.
    """
    if not order.any() or (len(times) - 1) / times[-1] < SLOWEST - 0.5:
        return GENERATED
    rate = constant_rate(times)
    if rate == FPS:
        return GENERATED
    if rate is not None:
        return FilmTimes(rate, moments=tuple(_regular(len(times), rate, order)))
    moments = tuple(_filled(_irregular(times, order), len(order)))
    return FilmTimes(len(moments) / Fraction(len(order), FPS), True, moments)


def constant_rate(times: Sequence[Fraction]) -> Fraction | None:
    """The rate in frames per second that all times follow, one of those in use if possible; None: it is variable."""
    seconds = np.array([float(time) for time in times])

    def off(rate: Fraction) -> float:
        return float(np.abs(seconds - np.arange(len(times)) / float(rate)).max())

    average = ((len(times) - 1) / times[-1]).limit_denominator(1001)
    for rates in (_RATES, (average,)):
        rate = min(rates, key=off)
        if off(rate) <= _JITTER:
            return rate
    return None


def _place(order: Order, slot: int, after: Fraction) -> Fraction:
    """The source's time, in seconds, at ``after`` seconds after a generated frame."""
    return Fraction(int(order[slot]), FPS) + _direction(order, slot) * after


def _direction(order: Order, slot: int) -> int:
    """1 if the source is played forwards after a generated frame, -1 if backwards."""
    for other in (slot + 1, slot):
        if 0 < other < len(order) and abs(step := int(order[other] - order[other - 1])) == 1:
            return step
    return 1


def _nearest(order: Order, time: Fraction) -> int:
    """The generated frame nearest in time, but none from beyond a place where the video begins anew."""
    slot, nearest = math.floor(time * FPS), math.floor(time * FPS + _HALF)
    beyond = nearest == len(order) or abs(int(order[nearest] - order[slot])) > 1
    return slot if beyond else nearest


def _regular(count: int, rate: Fraction, order: Order) -> Iterator[Moment]:
    for number in range(math.ceil(len(order) * rate / FPS)):
        time = number / rate
        slot = math.floor(time * FPS)
        source = math.floor(_place(order, slot, time - Fraction(slot, FPS)) * rate + _HALF)
        yield Moment(time, _nearest(order, time), min(max(source, 0), count - 1))


def _irregular(times: Sequence[Fraction], order: Order) -> Iterator[Moment]:
    last = -_SHORTEST
    for slot, place in enumerate(order.tolist()):
        begin, here = Fraction(slot, FPS), Fraction(place, FPS)
        if _direction(order, slot) == 1:
            shown = range(bisect_left(times, here), bisect_left(times, here + Fraction(1, FPS)))
        else:
            shown = range(bisect_right(times, here) - 1, bisect_right(times, here - Fraction(1, FPS)) - 1, -1)
        for number in shown:
            time = begin + abs(times[number] - here)
            if time - last >= _SHORTEST:
                last = time
                yield Moment(time, _nearest(order, time), number)


def _filled(moments: Iterator[Moment], slots: int) -> Iterator[Moment]:
    """With generated frames in gaps, and at the beginning and the end."""
    end = Moment(Fraction(slots, FPS), 0, None)
    before = Moment(-_LONGEST - 1, 0, None)
    for moment in (*moments, end):
        if moment.time - before.time > _LONGEST:
            first = math.ceil((before.time + _APART) * FPS) if before.time >= 0 else 0
            for slot in range(first, math.floor((moment.time - _APART) * FPS) + 1):
                yield Moment(Fraction(slot, FPS), slot, None)
        if moment is not end:
            yield moment
        before = moment
