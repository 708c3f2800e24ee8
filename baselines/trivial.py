"""Rows without any network, with which every table compares.

All of them are made from the true video. Frames are uint8 (H, W, 3), RGB, one at a time; sound is int16, mono, 16 kHz.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

#: Name of the row → what it is, and which end of which scale it shows.
TRIVIAL: dict[str, str] = {
    "ground_truth": "the true video with its own sound: what a perfect method would reach",
    "reencoded": "the true video, coded as the predictions are: what a perfect method would reach in such files",
    "shifted": "the true video, its landmarks detected after a shift by one pixel and shifted back: what the landmark "
    "detector adds by itself",
    "still": "the first true frame throughout, with the true sound: perfect pictures of a mouth that never moves",
    "wrong_audio": "the true video with the sound of another clip: perfect pictures with wrong lip sync",
}

#: Pixels by which ``shifted`` moves a frame, to the right and downwards.
SHIFT = 1
#: Samples a frame: 16,000 a second at 25 frames a second.
SAMPLES_PER_FRAME = 640

Frames = Iterable[np.ndarray]
Samples = npt.NDArray[np.int16]


def ground_truth(frames: Frames) -> Iterator[np.ndarray]:
    """The frames as they are."""
    yield from frames


def shifted(frames: Frames) -> Iterator[np.ndarray]:
    """The frames, moved by :data:`SHIFT` to the right and downwards; the first row and column are repeated."""
    for frame in frames:
        yield np.pad(frame[:-SHIFT, :-SHIFT], ((SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")


def shifted_back(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (…, 2 or 3) of frames of :func:`shifted`, in pixels of the frames that these were made from."""
    found = landmarks.copy()
    found[..., :2] -= SHIFT
    return found


def still(frames: Frames) -> Iterator[np.ndarray]:
    """The first frame as often as there are frames; every time the very same array."""
    first = None
    for frame in frames:
        first = frame if first is None else first
        yield first


def reencoded(frames: Frames, roundtrip: Callable[[Frames], Iterable[np.ndarray]]) -> Iterator[np.ndarray]:
    """The frames after ``roundtrip``, which codes them as the predictions are coded and decodes them again."""
    yield from roundtrip(frames)


def wrong_audio(clip_ids: Iterable[str], seed: int) -> dict[str, str]:
    """For every clip another one, whose sound it gets; every clip gives its sound once.

    The clips are sorted by SHA-256 of seed and id, and each takes the sound of the next one, the last that of the
    first. The choice depends on nothing but the seed and the set of ids, and a clip that is missing changes one other
    clip's sound.

    Args:
        clip_ids: in any order.
        seed: any integer.

    Returns:
        clip id → the other clip's id; empty where there are fewer than two clips.
    """

    def place(clip_id: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}\0{clip_id}".encode()).digest(), clip_id

    circle = sorted(set(clip_ids), key=place)
    if len(circle) < 2:
        return {}
    return dict(zip(circle, [*circle[1:], circle[0]], strict=True))


def fit_audio(samples: Samples, n_frames: int) -> Samples:
    """Sound of another length, repeated from its beginning or cut, so that it lasts ``n_frames``.

    Args:
        samples: (n,) int16, 16 kHz.
        n_frames: at 25 a second.

    Returns:
        (640 n_frames,) int16.

    Raises:
        ValueError: there are no samples.
    """
    if not len(samples):
        raise ValueError("there is no sound to fit")
    return np.resize(samples, n_frames * SAMPLES_PER_FRAME)
