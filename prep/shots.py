"""Cuts inside a video: the first frames of its shots, found by a rule of our own on thumbnails.

Two frames differ by what is left of one after its contrast and brightness are fitted to the other, so that flashes,
exposure and fades are no difference. A cut lasts, unlike a flash, and is sudden, unlike a movement: the two frames
before differ from the two after by more than :data:`DIFFERENCE`, and either several times as much as neighbouring
frames of one shot do (:data:`SUDDEN`) unless the pictures are nearly the same (:data:`SAME`), or the pictures have
nothing in common (:data:`ALIKE`). Slow dissolves are not found. Frames without contrast (black) belong to no shot:
those on either side of them are compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

#: Width and height of a thumbnail, and how many samples of the frame its pixels average in each direction.
SIZE, SAMPLES = (64, 36), 3
#: Frames looked at behind and, with the frame itself, ahead.
REACH = 4
#: Smallest difference at a cut, in grey levels (root mean square).
DIFFERENCE = 5.0
#: How many times larger it is than between neighbouring frames.
SUDDEN = 3.5
#: Correlation below which two pictures have nothing in common.
ALIKE = 0.5
#: Correlation from which on two pictures are of one shot: a mouth that opens suddenly in a still close-up.
SAME = 0.93
#: A picture has at least this standard deviation, in grey levels.
CONTRAST = 3.0


class Thumbnail:
    """A frame made small.

    Attributes:
        small: (36, 64, 3) uint8.
        contrast: (3,) float32, standard deviation of each channel, grey levels.
    """

    def __init__(self, small: Image) -> None:
        self.small = small
        _, deviation = cv2.meanStdDev(small)
        self.contrast = deviation[:, 0].astype(np.float32)

    @cached_property
    def values(self) -> npt.NDArray[np.float32]:
        """(pixels, 3) with mean 0 and variance 1."""
        values = self.small.reshape(-1, 3).astype(np.float32)
        values -= values.mean(axis=0)
        return values / np.maximum(self.contrast, 1e-3)


def thumbnail(frame: Image) -> Thumbnail | None:
    """Of a frame (H, W, 3) uint8; None if it has hardly any contrast."""
    samples = SIZE[0] * SAMPLES, SIZE[1] * SAMPLES
    if frame.shape[1] > samples[0] and frame.shape[0] > samples[1]:
        frame = cv2.resize(frame, samples, interpolation=cv2.INTER_NEAREST)
    thumb = Thumbnail(cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA))
    return thumb if thumb.contrast.mean() >= CONTRAST else None


# Neighbouring frames are compared for several places in turn.
@lru_cache(maxsize=32)
def _compare(a: Thumbnail, b: Thumbnail) -> tuple[float, float]:
    """Difference in grey levels, and correlation."""
    alike = np.einsum("ij,ij->j", a.values, b.values) / len(a.values)
    left = np.sqrt(1 - np.clip(alike, 0, 1) ** 2) * np.minimum(a.contrast, b.contrast)
    return float(left.mean()), float(alike.mean())


def _differ(a: Thumbnail, b: Thumbnail) -> bool:
    """Whether two frames differ by more than :data:`DIFFERENCE`."""
    # No fit of contrast and brightness leaves more difference than there was.
    return cv2.norm(a.small, b.small) > DIFFERENCE * a.small.size**0.5 and _compare(a, b)[0] > DIFFERENCE


def is_cut(before: list[Thumbnail], after: list[Thumbnail]) -> bool:
    """Whether a shot ends between the last frames ``before`` and the first frames ``after``, both in their order."""
    pairs = [(a, b) for a in reversed(before[-2:]) for b in after[:2]]
    if not pairs or not all(_differ(a, b) for a, b in pairs):
        return False
    across = [_compare(a, b) for a, b in pairs]
    least = min(difference for difference, _ in across)
    within = [_compare(a, b)[0] for part in (before, after) for a, b in pairwise(part)]
    usual = max(within, default=0.0)
    alike = max(correlation for _, correlation in across)
    sudden = least > SUDDEN * usual and alike < SAME
    return sudden or (alike < ALIKE and least > usual)


def marked(frames: Iterable[Image]) -> Iterator[tuple[Image, bool]]:
    """Every frame with whether a shot begins with it; the first frame is never marked.

    At most :data:`REACH` frames are held. The result is a function of the frames alone.
    """
    before: deque[Thumbnail] = deque(maxlen=REACH)
    ahead: deque[tuple[Image, Thumbnail | None]] = deque()

    def first() -> tuple[Image, bool]:
        after = [thumb for _, thumb in ahead if thumb is not None]
        frame, own = ahead.popleft()
        cut = own is not None and is_cut(list(before), after)
        if cut:
            before.clear()
        if own is not None:
            before.append(own)
        return frame, cut

    for frame in frames:
        ahead.append((frame, thumbnail(frame)))
        if len(ahead) == REACH:
            yield first()
    while ahead:
        yield first()
