"""A small prepared data set, made without media files and detectors, whose content is known exactly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from prep import images
from prep import landmark_sets as sets
from prep.detectors import DEFAULT, identity
from prep.schema import Clip, make_schema
from prep.shards import MANIFEST, SHARDS, Failure, ShardWriter, write_failures, write_json
from prep.sound.mel import melspectrogram
from prep.views import VIEWS


def fake_clip(
    clip_id: str,
    n_frames: int = 40,
    *,
    split: str = "train",
    views: Sequence[str] = ("box128",),
    undetected: Collection[int] = (),
    width: int = 160,
    height: int = 200,
    landmarks68: bool = False,
    still: bool = False,
) -> Clip:
    """A clip with smooth random landmarks, crops cut by the views' own geometry, noise for sound.

    Everything follows from ``clip_id`` and the arguments. ``still``: as FFHQ's rows, without fps and sound.
    """
    rng = np.random.default_rng(list(clip_id.encode()))
    detected = np.ones(n_frames, bool)
    detected[list(undetected)] = False
    landmarks = _landmarks(rng, n_frames, width, height)
    landmarks[~detected] = np.nan
    transforms = {
        v: VIEWS[v].transforms(landmarks.astype(np.float64), detected, width, height) for v in views
    }
    background = cv2.resize(
        rng.integers(0, 256, (9, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC
    )
    crops: dict[str, list[bytes | None]] = {v: [] for v in views}
    for t in range(n_frames):
        # No two frames look the same.
        frame = np.roll(background, 3 * t, axis=1)
        for view in views:
            crop = VIEWS[view].crop(frame, transforms[view][t]) if detected[t] else None
            crops[view].append(None if crop is None else images.encode(crop, "jpeg", 90))
    audio = None if still else (3000 * rng.standard_normal(640 * n_frames)).astype(np.int16)
    return Clip(
        clip_id=clip_id,
        dataset="fake",
        split=split,
        source=f"{clip_id}.{'png' if still else 'mp4'}",
        n_frames=n_frames,
        width=width,
        height=height,
        landmarks=landmarks,
        detected=detected,
        n_faces=detected.astype(np.uint8),
        speaker=clip_id.split("/")[0],
        text="" if still else "HELLO WORLD",
        stop=0.0 if still else n_frames / 25,
        fps=0.0 if still else 25.0,
        source_fps=0.0 if still else 25.0,
        landmarks68=landmarks[:, :68, :2] + np.float32(1) if landmarks68 else None,
        transforms=transforms,
        images=crops,
        audio=audio,
        mel=None if audio is None else melspectrogram(audio),
    )


def write_fake_dataset(
    folder: Path,
    clips: Sequence[Clip],
    *,
    clips_per_shard: int = 4,
    failures: Mapping[str, Sequence[Failure]] | None = None,
) -> None:
    """Write ``clips`` (all with the same views), and failures by split, as ``bench prep`` would.

    The manifest holds what the shards say; of the options it has the detector only, since there was no preprocessing.
    """
    (folder / SHARDS).mkdir(parents=True)
    views = list(clips[0].images)
    infos = []
    failures = failures or {}
    for split in sorted({clip.split for clip in clips} | failures.keys()):
        members = [clip for clip in clips if clip.split == split]
        for number, begin in enumerate(range(0, max(len(members), 1), clips_per_shard)):
            with ShardWriter(folder / SHARDS / f"{split}-{number:05d}.parquet", make_schema(views)) as writer:
                for clip in members[begin : begin + clips_per_shard]:
                    writer.add(clip)
                for failure in failures.get(split, ()) if number == 0 else ():
                    writer.fail(failure)
                infos.append(writer.finish(split))
    write_failures(folder, [failure for group in failures.values() for failure in group])
    detector = identity(DEFAULT)
    options = {"detector": detector["name"], "detector_digest": detector["digest"]}
    write_json(
        folder / MANIFEST, {"complete": True, "options": options, "shards": [asdict(info) for info in infos]}
    )


def fake_dataset(
    folder: Path,
    splits: Mapping[str, int] | None = None,
    *,
    views: Sequence[str] = ("box128",),
    n_frames: int = 40,
    clips_per_shard: int = 4,
) -> list[Clip]:
    """Write and return a data set of several splits; every third clip has undetected frames, lengths vary."""
    clips = []
    for split, count in (splits or {"train": 9, "val": 3, "test": 3}).items():
        for i in range(count):
            undetected = (5, 6, 20) if i % 3 == 2 else ()
            clip_id = f"speaker{i % 4}/{split}{i:05d}"
            clips.append(
                fake_clip(clip_id, n_frames + i % 5, split=split, views=views, undetected=undetected)
            )
    write_fake_dataset(folder, clips, clips_per_shard=clips_per_shard)
    return clips


#: Contours of the mesh: centre and radii in units of the frame, first and last angle in turns, 0 at the right.
_CONTOURS = [
    (sets.FACE_OVAL, 0.50, 0.50, 0.25, 0.32, 0.55, -0.33),
    (sets.RIGHT_BROW[:5], 0.40, 0.38, 0.07, 0.03, 0.5, 1.0),
    (sets.RIGHT_BROW[5:], 0.40, 0.40, 0.06, 0.02, 1.0, 0.5),
    (sets.LEFT_BROW[:5], 0.60, 0.38, 0.07, 0.03, 0.5, 1.0),
    (sets.LEFT_BROW[5:], 0.60, 0.40, 0.06, 0.02, 0.5, 1.0),
    (sets.RIGHT_EYE, 0.40, 0.44, 0.04, 0.02, 0.5, 1.4),
    (sets.LEFT_EYE, 0.60, 0.44, 0.04, 0.02, 0.5, 1.4),
    (sets.NOSE_BRIDGE, 0.50, 0.50, 0.01, 0.07, 0.75, 0.3),
    (sets.NOSE_WINGS, 0.50, 0.58, 0.05, 0.02, 0.5, 1.0),
    (sets.LIPS_OUTER, 0.50, 0.68, 0.08, 0.04, 0.5, 1.45),
    (sets.LIPS_INNER, 0.50, 0.68, 0.06, 0.02, 0.5, 1.45),
]


def _landmarks(rng: np.random.Generator, n_frames: int, width: int, height: int) -> np.ndarray:
    """(T, 478, 3) float32: a face of ellipses at the frame's centre that drifts and speaks smoothly."""
    shape = np.concatenate([rng.uniform(0.4, 0.6, (478, 2)), rng.uniform(-0.1, 0.1, (478, 1))], axis=1)
    for points, x, y, across, down, first, last in _CONTOURS:
        angle = 2 * np.pi * np.linspace(first, last, len(points))
        shape[points, :2] = np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)
    time = np.arange(n_frames)[:, None, None]
    drift = np.cumsum(rng.normal(0, 0.002, (n_frames, 1, 3)), axis=0)
    wobble = 0.003 * np.sin(time / 3 + 6 * rng.uniform(0, 1, (1, 478, 3)))
    points = shape + drift + wobble
    points[:, sets.LIPS, 1] += 0.02 * np.sin(time[..., 0] / 2) * np.sign(shape[sets.LIPS, 1] - 0.68)
    return (points * [width, height, width]).astype(np.float32)
