"""The clock of everything that is prepared: 25 frames and 16,000 samples a second."""

from __future__ import annotations

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
