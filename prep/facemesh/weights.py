"""Where the networks' weights come from, and their converted files."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_dir

from prep.errors import PrepError

#: Files of the package mediapipe 0.10.21 by the name of the network, with their SHA-256.
SOURCES = {
    "short_range": (
        "modules/face_detection/face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    ),
    "full_range": (
        "modules/face_detection/face_detection_full_range_sparse.tflite",
        "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    ),
    "mesh": (
        "modules/face_landmark/face_landmark_with_attention.tflite",
        "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
    ),
    "person": (
        "modules/selfie_segmentation/selfie_segmentation.tflite",
        "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
    ),
}
#: Changes with what a conversion writes.
VERSION = "1"


@dataclass(frozen=True)
class NetworkFile:
    """A converted network: the file of its graph, and the SHA-256 of the TFLite file it comes from."""

    graph: Path
    digest: str


def networks(*names: str) -> dict[str, NetworkFile]:
    """The converted files of networks; they are made once if they do not exist.

    Raises:
        PrepError: they cannot be had; the message says how to get them.
    """
    folder = Path(user_cache_dir("talking-face-bench", appauthor=False)) / "weights" / "facemesh"
    return {name: _converted(name, folder) for name in names}


def _converted(name: str, folder: Path) -> NetworkFile:
    _, digest = SOURCES[name]
    file = NetworkFile(folder / f"{name}-{VERSION}.safetensors", digest)
    if not file.graph.is_file():
        from prep.facemesh.tflite_file import read

        graph = read(_installed(name))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            graph.save(Path(temporary) / "graph", source=digest)
            (Path(temporary) / "graph").replace(file.graph)
    return file


def _installed(name: str) -> Path:
    """A TFLite file of an installed mediapipe, which is not imported."""
    spec = importlib.util.find_spec("mediapipe")
    path, digest = SOURCES[name]
    for place in (spec and spec.submodule_search_locations) or ():
        file = Path(place) / path
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest:
            return file
    raise PrepError("no FaceMesh")
