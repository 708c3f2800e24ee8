"""An evaluation's peak memory does not grow with the number of clips (``--benchmark-only``).

FID's network is replaced by random numbers of 512 instead of 2048 values: what must not pile up in memory is the
features, and those of 100 clips are 60 MB. Each evaluation is a fresh process, so that the peak is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prep.video_writing import write_video
from tests.bench.metrics.fake_syncnet import moving_pictures, voice

FRAMES, SIDE = 150, 48
FEW, MANY = 10, 100
#: MiB by which the peak may differ: what the allocator keeps differs that much between two equal runs.
ALLOWED = 25

_EVALUATE = """
import json, re, sys
from pathlib import Path
import numpy as np
from bench.eval import EvalOptions, evaluate_inputs
from bench.clips.inputs import from_folders
from bench.metrics import fid
from bench.weights.store import WeightStore

def features(self, pictures):
    return np.random.default_rng(int(pictures[0, 0, 0, 0])).standard_normal((len(pictures), 512), np.float32)

fid.FidPytorchFid.__init__ = lambda self, context: setattr(self, "key", "random")
fid.FidPytorchFid.features = features
fid.FidPytorchFid.spec.__dict__["weights"] = ()
pred, truth, out = map(Path, sys.argv[1:])
metrics = ("psnr.frame", "mse", "fid.pytorch_fid")
result = evaluate_inputs(
    from_folders({"mine": pred}, truth), out, EvalOptions(metrics, regions=("full",)), WeightStore({}, [])
)
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024
print(json.dumps({"peak_mib": peak, "scored": [f.scored for f in result.methods[0].figures]}))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, Path]]:
    """Number of clips → predictions and truths, all of them links to one video of 150 frames."""
    base = tmp_path_factory.mktemp("memory")
    truth = moving_pictures(FRAMES, SIDE, SIDE)
    write_video(base / "truth.mp4", truth, samples=voice(FRAMES))
    write_video(base / "pred.mp4", [np.roll(f, 1, axis=0) for f in truth], samples=voice(FRAMES))
    found = {}
    for count in (FEW, MANY):
        found[count] = base / f"{count}-pred", base / f"{count}-truth"
        for folder in found[count]:
            folder.mkdir()
            for i in range(count):
                (folder / f"{i:03d}.mp4").hardlink_to(base / f"{folder.name.split('-')[1]}.mp4")
    return found


def test_the_peak_is_that_of_few_clips(
    benchmark: Any, folders: dict[int, tuple[Path, Path]], tmp_path: Path
) -> None:
    def peak(count: int) -> float:
        command = [sys.executable, "-c", _EVALUATE, *map(str, folders[count]), str(tmp_path / str(count))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        assert set(found["scored"]) == {count}
        return float(found["peak_mib"])

    few = peak(FEW)
    many = benchmark.pedantic(peak, args=(MANY,), rounds=1)
    benchmark.extra_info["peak_mib"] = {f"{FEW} clips": round(few), f"{MANY} clips": round(many)}
    assert many - few < ALLOWED, (few, many)
