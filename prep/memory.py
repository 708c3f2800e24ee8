"""How much memory a process may still use: that of the machine, or of the container where that is less."""

from __future__ import annotations

from pathlib import Path

import psutil

#: Where Linux mounts its control groups.
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

# Limit, use, and the entry of memory.stat that counts the file pages which the kernel would give up first:
# version 2, and version 1 with its folder (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory).
_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory() -> int:
    """Bytes that can be allocated without swapping, within the limits of all control groups of this process."""
    return max(0, min([psutil.virtual_memory().available, *_left_in_groups()]))


def _left_in_groups() -> list[int]:
    """What is left in each control group that has a limit; empty where there are no control groups."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (CGROUPS / "memory", _V1) if controllers else (CGROUPS, _V2)
        inner = root / path.lstrip("/")
        # In a container, the path may be that outside of it; its own group is then the root.
        for folder in {root, inner, *(parent for parent in inner.parents if root in parent.parents)}:
            left = _left(folder, *names)
            if left is not None:
                found.append(left)
    return found


def _left(folder: Path, limit: str, use: str, inactive: str) -> int | None:
    """Bytes left in one control group; None without a limit."""
    try:
        most, used = int((folder / limit).read_text()), int((folder / use).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return None
    return most - used + int(stat.get(inactive, 0))
