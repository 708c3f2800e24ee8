"""Tries one clip in a separate process; used if clips crash their worker."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path

from prep.options import PrepOptions
from prep.shards import Failure
from prep.sources.base import ClipRef

#: Seconds after which a clip counts as stuck.
TIMEOUT = 600


def try_alone(ref: ClipRef, root: Path, options: PrepOptions) -> Failure | None:
    """Process a clip in a separate process and discard the rows. Returns a failure if that process dies or
    hangs."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "prep.alone"],
            input=pickle.dumps((ref, root, options)),
            capture_output=True,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        reason = f"did not end within {TIMEOUT} s"
    else:
        if done.returncode == 0:
            return None
        if done.returncode < 0:
            reason = f"the decoder crashed ({signal.Signals(-done.returncode).name})"
        else:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1]
    return Failure(ref.clip_id, ref.split, ref.source, "crash", reason)


if __name__ == "__main__":
    from prep.clip import ClipProcessor

    ref_, root_, options_ = pickle.load(sys.stdin.buffer)
    for _ in ClipProcessor(root_, options_).process(ref_):
        pass
