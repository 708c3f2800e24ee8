"""What this installation supports, and what is missing: packages, extras, devices, weights."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil

from bench.common.errors import BenchError, Unavailable
from bench.metrics import METRICS, get_spec
from bench.weights.digests import writable
from bench.weights.store import WeightStore

DISTRIBUTION = "talking-face-bench"
#: Optional extra → what works with it.
EXTRAS = {
    "toy": "bench toy, bench demo",
    "hf": "datasets.load_dataset over prepared shards",
    "fan": "bench prep --fan",
    "dlib": "csim.dlib",
    "onnx": "networks in ONNX form",
    "dev": "the tests",
}


@dataclass(frozen=True)
class Package:
    """One requirement. ``version`` is ``""`` if it is not installed, ``wanted`` the range, ``extra`` its extra."""

    name: str
    version: str
    wanted: str
    fits: bool
    extra: str = ""


@dataclass(frozen=True)
class Weight:
    """One entry of the registry on this machine; ``problem`` is ``""`` if the right file was found at ``path``."""

    name: str
    path: str
    problem: str
    remedy: str
    enables: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """The content of `bench doctor`.

    Attributes:
        python: version and interpreter.
        system: operating system.
        cpu: model.
        cores: number of cores that this process may use.
        memory: bytes.
        torch: version, ``""`` if it cannot be imported.
        devices: of torch, ``cpu`` last.
        packages: required ones and those of the extras.
        extras: extra → its missing packages.
        mediapipe: why landmarks cannot be detected, or ``""``.
        folders: of weights, in the order of search, and whether each is writable.
        weights: of the whole registry.
        unavailable: metric variant → what is missing: ``weights alexnet``, ``extra dlib``, ``mediapipe``.
    """

    python: str
    system: str
    cpu: str
    cores: int
    memory: int
    torch: str
    devices: tuple[str, ...]
    packages: tuple[Package, ...]
    extras: dict[str, tuple[str, ...]]
    mediapipe: str
    folders: dict[str, bool]
    weights: tuple[Weight, ...]
    unavailable: dict[str, tuple[str, ...]]

    @property
    def missing(self) -> list[str]:
        """Required packages that are not installed; without them the suite cannot be used."""
        return [package.name for package in self.packages if not package.extra and not package.version]


def examine(store: WeightStore) -> Report:
    """Examine the installation. Files of weights are hashed, unless this was done before.

    Raises:
        BenchError: the suite is not installed as a package.
    """
    packages = _packages()
    weights = tuple(_weight(store, name) for name in store.entries)
    torch, devices = _torch()
    extras = {
        extra: tuple(p.name for p in packages if p.extra == extra and not p.version) for extra in EXTRAS
    }
    mediapipe = _mediapipe()
    return Report(
        python=f"{platform.python_version()} ({sys.executable})",
        system=platform.platform(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        torch=torch,
        devices=devices,
        packages=packages,
        extras=extras,
        mediapipe=mediapipe,
        folders={str(folder): writable(folder) for folder in store.folders},
        weights=weights,
        unavailable=_unavailable(weights, extras, mediapipe),
    )


def _packages() -> tuple[Package, ...]:
    from packaging.requirements import Requirement

    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        raise BenchError(f"{DISTRIBUTION} is not installed: pip install {DISTRIBUTION}") from None
    found = []
    for requirement in map(Requirement, lines):
        marker = str(requirement.marker or "")
        extra = match[1] if (match := re.search(r"extra == ['\"]([\w-]+)['\"]", marker)) else ""
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue  # For another version of Python.
        have = _version(requirement.name)
        fits = bool(have) and requirement.specifier.contains(have, prereleases=True)
        found.append(Package(requirement.name, have, str(requirement.specifier), fits, extra))
    return tuple(found)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _weight(store: WeightStore, name: str) -> Weight:
    entry = store.entries[name]
    try:
        return Weight(name, str(store.path(name)), "", "", entry.enables)
    except Unavailable as error:
        path = str(copies[0]) if (copies := store.copies(name)) else ""
        return Weight(name, path, error.reason, error.remedy, entry.enables)


def _unavailable(
    weights: tuple[Weight, ...], extras: dict[str, tuple[str, ...]], mediapipe: str
) -> dict[str, tuple[str, ...]]:
    problems = {weight.name for weight in weights if weight.problem}
    found: dict[str, tuple[str, ...]] = {}
    for metric in METRICS:
        try:
            spec = get_spec(metric)
        except ImportError as error:
            found[metric] = (f"an import: {error}",)
            continue
        lacks = [f"weights {name}" for name in spec.weights if name in problems]
        lacks += [f"extra {spec.extra}"] if extras.get(spec.extra) else []
        lacks += ["mediapipe"] if mediapipe and "landmarks" in spec.needs else []
        if lacks:
            found[metric] = tuple(lacks)
    return found


def _torch() -> tuple[str, tuple[str, ...]]:
    try:
        import torch
    except (ImportError, OSError):
        return "", ()
    devices = []
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        devices.append(f"cuda:{i} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    return torch.__version__, (*devices, f"cpu, {torch.get_num_threads()} threads")


def _mediapipe() -> str:
    from prep.landmarks import silence

    try:
        with silence():
            import_module("mediapipe.python.solutions.face_mesh")
    except Exception as error:  # A broken native library can raise any exception.
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
