"""Listing and planning 150,000 clips stay far below a minute and a gigabyte (run with ``--benchmark-only``)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

N_SPEAKERS = 5_000
CLIPS_EACH = 30
N_CLIPS = N_SPEAKERS * CLIPS_EACH

# A fresh process, so that the peak is that of the listing alone; VmHWM, because ru_maxrss is inherited from
# the process that started this one. Between the clocks is all that `bench prep` does before its first task.
MEASURE = """
import json, sys, time
from pathlib import Path
from prep.options import PrepOptions, fingerprint
from prep.pipeline import plan_shards, select
from prep.sources.gather import gather

start = time.perf_counter()
clips = select(gather(sys.argv[1], Path(sys.argv[2])).clips, None)
plans = plan_shards(clips)
fingerprint(PrepOptions(source=sys.argv[1], name=sys.argv[1], views=("box128",)), clips)
seconds = time.perf_counter() - start
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({
    "clips": len(clips),
    "problems": sum(bool(clip.problem) for clip in clips),
    "texts": sum(bool(clip.text_file) for clip in clips),
    "seconds": seconds,
    "peak_mib": int(status["VmHWM"].split()[0]) / 1024,
}))
"""


@pytest.fixture(scope="module")
def lrs2_stubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """LRS2's layout with empty files: 150,000 clips, each with its text, in 5,000 folders."""
    root = tmp_path_factory.mktemp("lrs2")
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for speaker in range(N_SPEAKERS):
        folder = root / "mvlrs_v1" / "main" / f"{speaker:019d}"
        folder.mkdir(parents=True)
        lines = lists["val" if speaker % 50 == 0 else "test" if speaker % 50 == 1 else "train"]
        for clip in range(1, CLIPS_EACH + 1):
            (folder / f"{clip:05d}.mp4").touch()
            (folder / f"{clip:05d}.txt").touch()
            lines.append(f"{folder.name}/{clip:05d}")
    for split, lines in lists.items():
        tag = " NF" if split == "test" else ""
        (root / f"{split}.txt").write_text("".join(f"{line}{tag}\n" for line in lines))
    yield root
    shutil.rmtree(root)


@pytest.mark.parametrize("source", ["lrs2", "folder"])
def test_listing_and_planning_150_000_clips(benchmark: Any, lrs2_stubs: Path, source: str) -> None:
    root = lrs2_stubs if source == "lrs2" else lrs2_stubs / "mvlrs_v1"

    def measure() -> dict[str, float]:
        command = [sys.executable, "-c", MEASURE, source, str(root)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    result = benchmark.pedantic(measure, rounds=3)
    benchmark.extra_info.update(result)
    assert result["clips"] == N_CLIPS
    assert result["problems"] == 0
    assert result["texts"] == (N_CLIPS if source == "lrs2" else 0)
    assert result["seconds"] < 60
    assert result["peak_mib"] < 1024
