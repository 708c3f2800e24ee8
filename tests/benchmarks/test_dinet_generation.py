"""Peak memory of generation with DINet, untrained (``--benchmark-only``): at the paper's size, and over a minute.

Each in a fresh process, so that the peak is its own; the full frames have 1280×720 pixels.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: For the networks of the paper with batches of 8 frames, MiB.
ALLOWED = 4 * 1024
#: By how much the peak over a minute may be above that over its first ten seconds, MiB. What the allocator holds goes
#: up and down by 60; if every frame were kept, 3300 would be added, and 480 if every crop were.
GROWTH = 64

_GENERATE = """
import json, re, sys, time
from pathlib import Path
import numpy as np, torch
from baselines.dinet.inference import GenerateConfig, speak
from baselines.dinet.network import Generator
from baselines.dinet.sound import HEARD
from models.base import Crop, Shot
from models.layers.mouth_square import MouthSquare
from prep.views import VIEWS

frames, noted, width, heard = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), HEARD["speech"]
torch.set_num_threads(1)
torch.manual_seed(0)
network = Generator(width).eval()
# A crop of radius 104 in a frame of 1280×720.
matrix = np.array([[416 / 338, 0, -500 * 416 / 338], [0, 416 / 338, -200 * 416 / 338]])
matrix[0] *= 338 / 416 * 320 / 260

class Clip:
    n_frames = n_unique = frames
    detected = np.ones(frames, bool)
    picture = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    def transforms(self, view):
        return np.broadcast_to(matrix, (frames, 2, 3))
    def pick(self, indices):
        return [Shot(i, self.picture.copy()) for i in indices]
    def crop(self, view, shot):
        return Crop(VIEWS[view].crop(shot.frame, matrix), matrix)
    def shots(self):
        return (Shot(i, self.picture.copy()) for i in range(frames))
    def chunk(self, frame, sound):
        return np.full((heard.shape[0], sound.columns), frame / frames, np.float32)

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

clip, peaks, begun = Clip(), {}, time.process_time()
with torch.inference_mode():
    for number, _ in enumerate(speak(GenerateConfig(), network, MouthSquare(256), clip, clip, heard), 1):
        if number == noted:
            peaks["early_mib"] = peak()
seconds = time.process_time() - begun
print(json.dumps({"peak_mib": peak(), **peaks, "frames": number, "s_per_frame": seconds / number}))
"""


def generated(benchmark: Any, frames: int, noted: int, width: float) -> dict[str, float]:
    def work() -> dict[str, float]:
        command = [sys.executable, "-c", _GENERATE, str(frames), str(noted), str(width)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = benchmark.pedantic(work, rounds=1)
    benchmark.extra_info.update(found)
    assert found["frames"] == frames
    return found


def test_memory_at_the_papers_size(benchmark: Any) -> None:
    assert generated(benchmark, 12, 12, 1.0)["peak_mib"] < ALLOWED


def test_memory_is_flat_over_a_minute(benchmark: Any) -> None:
    """A minute at 25 frames a second, with narrow networks: what is kept from frame to frame depends on no width."""
    found = generated(benchmark, 1500, 250, 0.02)
    assert found["peak_mib"] - found["early_mib"] < GROWTH
