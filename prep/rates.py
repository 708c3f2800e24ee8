"""The rates of all prepared data: 25 frames and 16,000 samples per second."""

from __future__ import annotations

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
