"""Generation with ATVGnet, untrained (``--benchmark-only``): memory over a minute, and speed beside the code's loop."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: By how much the peak over a minute may be above that over its first ten seconds, MiB; all its pictures are 70.
GROWTH = 48
#: How many times as fast as the loop at least, in processor time.
AT_LEAST = 1 / 1.03

_GENERATE = """
import json, re, sys, time
from pathlib import Path
import numpy as np, torch
from baselines.atvg.method import Atvg, AtvgConfig
from models.base import Crop, DataInfo, Drive, Shot

what, frames, noted, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
torch.set_num_threads(1)
torch.manual_seed(0)
train = {"batch_size": 1}
method = Atvg(AtvgConfig.model_validate({"at": {"width": width, "train": train}, "vg": {"width": width, "train": train},
    "space": {"identity": "kept"}}), DataInfo())
for network in method.networks.values():
    network.eval()
space, at, vg = (method.networks[name] for name in ("space", "at", "vg"))
rng = np.random.default_rng(0)

class Clip:
    n_frames, n_unique = frames, 1
    detected = np.ones(frames, bool)
    points = rng.uniform(0, 500, (1, 68, 3)).astype(np.float32).repeat(frames, 0)
    picture = rng.integers(0, 256, (128, 128, 3), np.uint8)
    rows = rng.normal(0, 10, (12, 4 * frames + 28)).astype(np.float32)
    def landmarks(self, name, depth=False):
        return self.points
    def pick(self, indices):
        return [Shot(index, self.picture) for index in indices]
    def crop(self, view, shot):
        return Crop(self.picture, np.eye(2, 3))
    def chunk(self, frame, sound):
        return self.rows[:, 4 * frame : 4 * frame + 28]

clip = Clip()

def ours():
    return method.generate(Drive(clip, clip, None))

def loop():
    \"\"\"As the code: the picture is encoded once, the sound and the frames one by one.\"\"\"
    points = torch.from_numpy(clip.points[:1])
    start, shown = space.coefficients(space.frontal(points)), space.flat(points)
    heard = [at.hear(torch.from_numpy(clip.chunk(frame, None).T[None].copy())) for frame in range(frames)]
    predicted = at.speak(start, torch.stack(heard, 1))[0]
    targets = shown + space.movement(predicted - start)
    image = torch.from_numpy(clip.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    shallow = vg.image_encoder1(image)
    deep = vg.image_encoder2(shallow)
    known = vg.landmark_encoder_stage2(vg.landmark_encoder(shown).view(1, 1, 8, 8))
    feature, state = vg.lmark_feature(known), None
    for target in targets[:, None]:
        asked = vg.landmark_encoder_stage2(vg.landmark_encoder(target).view(1, 1, 8, 8))
        followed = vg.lmark_att(torch.cat([asked, known], 1))
        given = vg.bottle_neck(torch.cat([deep, vg.lmark_feature(asked) - feature], 1))
        hidden, state = vg.convGRU(given[None], state)
        base = vg.base(shallow * (1 - followed) + vg.generator1(hidden[0]) * followed)
        colour, attention = vg.generator_color(base), vg.generator_attention(base)
        made = attention * colour + (1 - attention) * image
        yield ((made[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

found = {}
with torch.inference_mode():
    if what == "memory":
        for number, _ in enumerate(ours(), 1):
            if number == noted:
                found["early_mib"] = peak()
        found |= {"peak_mib": peak(), "frames": number}
    else:
        seconds, made = {"ours": [], "loop": []}, {}
        for turn in range(noted):
            for name, how in (("ours", ours), ("loop", loop)):
                begun = time.process_time()
                made[name] = np.stack(list(how()))
                seconds[name].append(time.process_time() - begun)
        apart = np.abs(made["ours"].astype(int) - made["loop"]).max()
        found = {name: min(times) for name, times in seconds.items()} | {"apart": int(apart)}
print(json.dumps(found))
"""


def generated(benchmark: Any, what: str, frames: int, noted: int, width: float) -> dict[str, float]:
    def work() -> dict[str, float]:
        words = [what, str(frames), str(noted), str(width)]
        done = subprocess.run([sys.executable, "-c", _GENERATE, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = benchmark.pedantic(work, rounds=1)
    benchmark.extra_info.update(found)
    return found


def test_a_portrait_is_as_fast_as_the_loop_of_the_code(benchmark: Any) -> None:
    """The paper's recurrence, at half of its channels; both make the same pictures, but for rounding."""
    found = generated(benchmark, "speed", 32, 3, 0.5)
    assert found["apart"] <= 1
    assert found["loop"] / found["ours"] > AT_LEAST


def test_memory_is_flat_over_a_minute(benchmark: Any) -> None:
    """A minute at 25 frames a second, with narrow networks: what is kept from frame to frame depends on no width."""
    found = generated(benchmark, "memory", 1500, 250, 0.05)
    assert found["frames"] == 1500
    assert found["peak_mib"] - found["early_mib"] < GROWTH
