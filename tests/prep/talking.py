"""Prepared clips of a face whose lips follow its sound by a known linear rule, with head motion and noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from prep import landmark_sets as sets
from prep.schema import Clip
from tests.prep.fakes import fake_clip


def talking_clip(
    person: str, number: int = 0, split: str = "train", n_frames: int = 60, noise: float = 0.3, late: int = 0
) -> Clip:
    """A clip whose lips open with the level of the lower half of the bands and widen with that of the upper half.

    Args:
        person: folder in its id.
        number: its name in that folder.
        split: its split.
        n_frames: its frames.
        noise: standard deviation of what the lips do besides, where their movement has 1.
        late: frames by which the sound is late.
    """
    made = fake_clip(f"{person}/{number:02d}", n_frames, split=split, views=())
    rng = np.random.default_rng([number, *person.encode()])
    # Two independent signals, a value for each frame; half a second of more frames at each end.
    signals = rng.normal(size=(2, n_frames + 24))
    open_, wide = signals + noise * rng.normal(size=signals.shape)
    landmarks = np.repeat(made.landmarks[made.detected][:1], n_frames, axis=0).astype(np.float64)
    lips = landmarks[:, sets.LIPS, :2] - landmarks[:, sets.LIPS, :2].mean(axis=1, keepdims=True)
    here = slice(12, 12 + n_frames)
    landmarks[:, sets.LIPS, 1] += 0.05 * open_[here, None] * lips[..., 1]
    landmarks[:, sets.LIPS, 0] += 0.05 * wide[here, None] * lips[..., 0]
    angle, size = 0.2 * np.sin(np.arange(n_frames) / 9), 1 + 0.1 * np.cos(np.arange(n_frames) / 11)
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1).reshape(-1, 2, 2)
    landmarks[..., :2] = np.einsum("tni,tij->tnj", landmarks[..., :2] - 100, size[:, None, None] * turn) + 100
    landmarks[~made.detected] = np.nan
    frame_of = (
        np.minimum(((np.arange(1 + 640 * n_frames // 200) + 0.5) / 3.2).astype(int), n_frames - 1) - late + 12
    )
    mel = np.repeat(signals[:, frame_of].T, 40, axis=1) * 0.5
    return replace(made, landmarks=landmarks.astype(np.float32), mel=mel.astype(np.float32))


def talking_clips(persons: int = 4, clips: int = 2, held_out: int = 2, **options: float) -> list[Clip]:
    """Clips of persons in ``train``, and as many of others in ``val``."""
    return [
        talking_clip(f"{split}{person}", number, split, **options)
        for split, count in (("train", persons), ("val", held_out))
        for person in range(count)
        for number in range(clips)
    ]
