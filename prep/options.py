"""The options of a preprocessing run, and their fingerprint, which is stored in the folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Any

from prep import detectors
from prep.schema import SCHEMA_VERSION
from prep.sources.base import ClipRef

#: Builds of OpenCV, of which one is installed.
_OPENCV = (
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "opencv-python",
    "opencv-python-headless",
)
#: Distributions whose version can change the bytes of a shard, besides those of the detector.
_VERSIONED = ("talking-face-bench", "av", *_OPENCV, "numpy", "pyarrow")
# Not ``asdict``, which makes deep copies: that takes 10 s for 150,000 clips.
_FIELDS = attrgetter(*(f.name for f in fields(ClipRef)))


@dataclass(frozen=True)
class PrepOptions:
    """Everything that determines the content of the shards; the number of workers does not.

    Attributes:
        source: name of the corpus layout (``lrs2``, ``lrs3``, ``hdtf``, ``ffhq``, ``folder``).
        name: value of the ``dataset`` column.
        views: crop geometries to store.
        encoding: ``jpeg``, ``png`` or ``webp``.
        quality: of ``jpeg`` and ``webp``, 1 to 100.
        detector: what finds the landmarks, one of :data:`prep.detectors.DETECTORS`.
        tracking: it tracks the face from frame to frame, instead of detecting it in each.
        device: of torch, on which it runs; points of two devices differ by rounding.
        fan: also store the 68 landmarks of face-alignment's FAN.
        mel_padding: ``constant`` (librosa ≥ 0.9, IP-LAP) or ``reflect`` (librosa 0.7, Wav2Lip).
        min_detected: smallest share of a clip's frames, 0 to 1, in which a face must be found.
        clip_seconds: longest clip; longer sources are cut evenly, and at cuts.
        pixels: how YUV becomes RGB: ``exact``, or ``opencv`` as OpenCV reads it, see :mod:`prep.pixels`.
        audio_track: which sound stream of each file, from 0, as in ``ffmpeg -map 0:a:N``; None: the default one.
        clips_per_shard: None for a size that depends on the number of clips.
    """

    source: str
    name: str
    views: tuple[str, ...]
    encoding: str = "jpeg"
    quality: int = 95
    detector: str = detectors.DEFAULT
    tracking: bool = False
    device: str = "cpu"
    fan: bool = False
    mel_padding: str = "constant"
    min_detected: float = 0.5
    clip_seconds: float = 10.0
    pixels: str = "exact"
    audio_track: int | None = None
    clips_per_shard: int | None = None


def suite_version() -> str:
    """Version of this suite."""
    return importlib.metadata.version("talking-face-bench")


def fingerprint(options: PrepOptions, refs: Sequence[ClipRef]) -> dict[str, Any]:
    """What must be equal for two runs to write the same shards: options, clips, networks, versions.

    Raises:
        PrepError: the detector is unknown, or the package that it is in is not installed.
    """
    digest = hashlib.sha256()
    for ref in refs:
        digest.update(repr(_FIELDS(ref)).encode())
    return {
        **asdict(options),
        "views": list(options.views),
        "clips": len(refs),
        "clips_sha256": digest.hexdigest(),
        "schema_version": SCHEMA_VERSION,
        "detector_digest": detectors.identity(options.detector)["digest"],
        "versions": {**distribution_versions(), **detectors.versions(options.detector, fan=options.fan)},
    }


def distribution_versions() -> dict[str, str]:
    """Distribution → version, of those whose version can change the bytes of a shard of given landmarks."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name not in _OPENCV:
                raise
    return found


def difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """A text about the differences between two fingerprints; ``""`` if they are equal.

    One without a detector is from before detectors had names, see :data:`prep.detectors.UNNAMED`; and one without a
    device from before there was a choice.
    """
    old = {"device": "cpu", **old, "detector": detectors.recorded(old)["name"]}
    if old["detector"] != new["detector"]:
        # Then its networks and packages are others, too.
        old, new = _without_detector(old), _without_detector(new)
    elif "detector_digest" not in old:
        # Neither does it say which FAN it was.
        new = {key: value for key, value in new.items() if key != "detector_digest"}
        new["versions"] = {name: found for name, found in new["versions"].items() if name != detectors.FAN}
    return _differences(old, new)


def _without_detector(stamp: dict[str, Any]) -> dict[str, Any]:
    """A fingerprint that names its detector only."""
    versions = {name: found for name, found in stamp.get("versions", {}).items() if name in _VERSIONED}
    return {key: value for key, value in stamp.items() if key != "detector_digest"} | {"versions": versions}


def _differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    parts = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            parts.append(_differences(a, b))
        elif key not in old and old.get("schema_version") != new.get("schema_version"):
            continue  # an option that the older version did not have
        elif key == "schema_version":
            parts.append(f"{key} was {a}, is now {b}, which mixes sound and decodes colours by other rules")
        elif key == "clips_sha256":
            if old.get("clips") == new.get("clips"):
                parts.append("the list of clips is another")
        else:
            parts.append(f"{key} was {_show(a)}, is now {_show(b)}")
    return "; ".join(parts)


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
