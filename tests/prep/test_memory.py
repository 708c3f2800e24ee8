"""Free memory, where control groups limit it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from prep import memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 10 GiB free, whose control groups a test writes."""
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=10 * GIB))
    return tmp_path


def group(folder: Path, names: tuple[str, str, str], limit: str, used: int, inactive: int) -> None:
    folder.mkdir(parents=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\nfile 9\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_without_control_groups_it_is_that_of_the_machine(machine: Path) -> None:
    assert memory.free_memory() == 10 * GIB
    (machine / "self").write_text("0::/gone\n")
    assert memory.free_memory() == 10 * GIB


def test_the_narrowest_group_counts_without_the_pages_that_can_go(machine: Path) -> None:
    (machine / "self").write_text("0::/slurm/job\n")
    group(machine / "cgroup/slurm", V2, str(6 * GIB), 3 * GIB, GIB)
    assert memory.free_memory() == 4 * GIB
    group(machine / "cgroup/slurm/job", V2, "max", 2 * GIB, 0)
    assert memory.free_memory() == 4 * GIB
    (machine / "cgroup/slurm/job/memory.max").write_text(str(3 * GIB))
    assert memory.free_memory() == GIB


def test_in_a_container_the_root_is_its_own_group(machine: Path) -> None:
    (machine / "self").write_text("0::/docker/0123\n")
    group(machine / "cgroup", V2, str(2 * GIB), GIB, 0)
    assert memory.free_memory() == GIB


def test_groups_of_the_first_version(machine: Path) -> None:
    (machine / "self").write_text("5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n")
    group(machine / "cgroup/memory/a", V1, str(8 * GIB), 9 * GIB, GIB // 2)
    assert memory.free_memory() == 0  # never negative
    (machine / "cgroup/memory/a/memory.usage_in_bytes").write_text(str(GIB))
    assert memory.free_memory() == 7 * GIB + GIB // 2


def test_this_machine_has_some() -> None:
    assert 0 < memory.free_memory() <= memory.psutil.virtual_memory().total
