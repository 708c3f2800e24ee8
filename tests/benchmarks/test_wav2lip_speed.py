"""Generation with Wav2Lip at its official size against a plain loop over the same generator (``--benchmark-only``).

The plain loop does what the official ``inference.py`` does with a batch: stack crops, black out the lower halves, join
the two, one forward pass, cut off to integers, enlarge each face and put it into its frame. Neither side looks for
faces, computes mel spectrograms or codes video. Ours does the same with soft edges and rounding. Both take turns; what
is compared is processor time, the lower quartile of several turns.
"""

from __future__ import annotations

import time
from statistics import quantiles
from typing import cast

import cv2
import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from baselines.wav2lip.inference import GenerateConfig, speak
from baselines.wav2lip.network import Generator
from models.base import Crop, Footage, Shot, Speech
from prep.sample_spec import Sound

FRAMES, BATCH, ROUNDS, SIDE = 16, 8, 6, 320
BOX = (80, 60, 240, 260)  # x0, y0, x1, y1
OVERHEAD = 1.05


class Clip:
    """A face that stands still in a frame of noise."""

    n_frames = n_unique = FRAMES
    width = height = SIDE

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pictures = rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
        x0, y0, x1, y1 = BOX
        sx, sy = 96 / (x1 - x0), 96 / (y1 - y0)
        self.matrix = np.array([[sx, 0, -x0 * sx], [0, sy, -y0 * sy]])
        self.crops = [cv2.resize(p[y0:y1, x0:x1], (96, 96)) for p in self.pictures]
        self.mels = rng.uniform(-4, 4, (FRAMES, 80, 16)).astype(np.float32)

    def shots(self):  # type: ignore[no-untyped-def]
        for i, picture in enumerate(self.pictures):
            yield Shot(i, picture.copy())

    def crop(self, view: str, shot: Shot) -> Crop:
        return Crop(self.crops[shot.index], self.matrix)

    def chunk(self, frame: int, sound: Sound) -> np.ndarray:
        return self.mels[frame]


def plain(generator: nn.Module, clip: Clip) -> list[np.ndarray]:
    x0, y0, x1, y1 = BOX
    made = []
    for begin in range(0, FRAMES, BATCH):
        part = slice(begin, begin + BATCH)
        faces = np.asarray(clip.crops[part])[..., ::-1]
        masked = faces.copy()
        masked[:, 48:] = 0
        both = np.concatenate([masked, faces], axis=3) / 255.0
        pictures = torch.FloatTensor(np.transpose(both, (0, 3, 1, 2)))
        mels = torch.from_numpy(clip.mels[part])
        painted = generator(mels, pictures).numpy().transpose(0, 2, 3, 1) * 255.0
        for picture, frame in zip(painted, clip.pictures[part], strict=True):
            frame = frame.copy()
            frame[y0:y1, x0:x1] = cv2.resize(picture.astype(np.uint8), (x1 - x0, y1 - y0))[..., ::-1]
            made.append(frame)
    return made


@pytest.mark.parametrize("how", ["lower", "box"])
def test_generation_costs_what_the_network_costs(benchmark: BenchmarkFixture, how: str) -> None:
    torch.manual_seed(0)
    generator, clip = Generator().eval(), Clip()
    config = GenerateConfig(paste=how, batch_size=BATCH)  # type: ignore[arg-type]

    def ours() -> list[np.ndarray]:
        return list(speak(config, generator, cast(Footage, clip), cast(Speech, clip)))

    def timed(work) -> float:  # type: ignore[no-untyped-def]
        begun = time.process_time()
        assert len(work()) == FRAMES
        return time.process_time() - begun

    def turns() -> list[tuple[float, float]]:
        with torch.inference_mode():
            ours(), plain(generator, clip)
            return [(timed(ours), timed(lambda: plain(generator, clip))) for _ in range(ROUNDS)]

    pairs = benchmark.pedantic(turns, rounds=1)
    mine, theirs = (quantiles(side, n=4)[0] for side in zip(*pairs, strict=True))
    benchmark.extra_info.update(paste=how, ratio=mine / theirs, frames_per_second=FRAMES / mine, pairs=pairs)
    assert mine / theirs < OVERHEAD
