"""Peak memory of generation with LipFormer at the paper's size, 512², untrained (``--benchmark-only``).

Batches of 8 frames in a fresh process, so that the peak is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: As much memory as the smallest machine that is to run it has left for it, MiB.
ALLOWED = 12 * 1024

_GENERATE = """
import json, re, time
from pathlib import Path
import numpy as np, torch
from bench.train.config import load_config
from bench.common.methods import get_method
from models.base import Crop, DataInfo, Drive, Shot
from models.lipformer.inference import SIDE as VIEW_SIDE

FRAMES, SIDE = 12, 700
torch.set_num_threads(1)
torch.manual_seed(0)
rng = np.random.default_rng(0)
# Loss networks take no part in generation.
without = [f"{s}.{loss}_weight=0" for s in ("codebook", "lipformer") for loss in ("perceptual", "adversarial")]
config = load_config("lipformer", "paper", without, [Path("data")], Path("run"))
method = get_method("lipformer")(config.method_config, DataInfo())
for network in method.networks.values():
    network.eval()

class Clip:
    n_frames = n_unique = FRAMES
    width = height = SIDE
    detected = np.ones(FRAMES, bool)
    pictures = rng.integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
    crops = rng.integers(0, 256, (FRAMES, VIEW_SIDE, VIEW_SIDE, 3), np.uint8)
    mels = rng.uniform(-4, 4, (FRAMES, 80, 16)).astype(np.float32)
    def pick(self, indices):
        return [Shot(i, self.pictures[i].copy()) for i in indices]
    def crop(self, view, shot):
        return Crop(self.crops[shot.index], np.array([[1.0, 0, -90], [0, 1.0, -90]]))
    def shots(self):
        return iter(self.pick(range(FRAMES)))
    def chunk(self, frame, sound):
        return self.mels[frame]

clip = Clip()

with torch.inference_mode():
    begun = time.process_time()
    made = sum(1 for _ in method.generate(Drive(clip, clip, clip)))
    seconds = time.process_time() - begun
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
print(json.dumps({"peak_mib": peak, "frames": made, "s_per_frame": seconds / made}))
"""


def test_memory_at_the_papers_size(benchmark: Any) -> None:
    def work() -> dict[str, float]:
        done = subprocess.run([sys.executable, "-c", _GENERATE], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = benchmark.pedantic(work, rounds=1)
    benchmark.extra_info.update(found)
    assert found["peak_mib"] < ALLOWED
    assert found["frames"] == 12
