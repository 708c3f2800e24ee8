"""The second detector: FAN, 68 points."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import numpy as np

from prep.errors import PrepError
from prep.installing import install
from prep.landmarks import Float, Image


def fan_weights() -> list[tuple[Path, str]]:
    """Files that :class:`Fan68` needs on this machine, each with its download address.

    They are those of the installed ``face-alignment``, in torch hub's folder: S3FD's and the 2-D FAN's.

    Raises:
        PrepError: the package is not installed.
    """
    try:
        api = importlib.import_module("face_alignment.api")
        s3fd = importlib.import_module("face_alignment.detection.sfd.sfd_detector")
    except ImportError as error:
        raise PrepError(f"FAN needs the package face-alignment: {install('fan')}") from error
    from torch.hub import get_dir

    # Up to release 1.4 these are TorchScript archives, listed under another name.
    fan = getattr(api, "default_model_urls", api.models_urls)["2DFAN-4"]
    folder = Path(get_dir()) / "checkpoints"
    return [(folder / PurePosixPath(urlparse(url).path).name, url) for url in (s3fd.models_urls["s3fd"], fan)]


class Fan68:
    """The 2-D FAN of Bulat and Tzimiropoulos (ICCV 2017) behind S3FD, from the package ``face-alignment``.

    It gives iBUG's 68 points, averaged over the image and its mirror image. Weights are never downloaded: the files
    must exist, and their SHA-256 must begin with the digits in their names.

    Args:
        device: torch device.
        network: used instead of the real network, an object with ``get_landmarks_from_image(image) -> list of (68, 2)
            arrays, or None``.

    Raises:
        PrepError: the package or a file with weights is missing or damaged; the message says how to get it.
    """

    shape = (68, 2)

    def __init__(self, *, device: str = "cpu", network: Any = None) -> None:
        self._network = _load_fan(device) if network is None else network

    def detect(self, frame: Image) -> Float:
        """Detect faces.

        Args:
            frame: (H, W, 3) uint8 RGB.

        Returns:
            (F, 68, 2) float64, full-frame pixels. The network truncates its result to whole pixels; half a
            pixel is added here, so that a point is the centre of its pixel.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns about every frame without a face.
            found = self._network.get_landmarks_from_image(frame)
        return np.array(found or [], np.float64).reshape(-1, *self.shape) + 0.5

    def detect_batch(self, frames: Sequence[Image]) -> Iterator[Float]:
        """As :meth:`detect`; the network takes one frame after the other."""
        return map(self.detect, frames)

    def search(self, frame: Image) -> Float:
        """None: S3FD also detects small faces."""
        return np.empty((0, *self.shape))

    def confirms(self, frame: Image, face: Float) -> bool:
        """Always True: S3FD's faces are not checked."""
        return True

    def reset(self) -> None:
        """Does nothing: frames are independent."""

    def close(self) -> None:
        """Drop the networks."""
        self._network = None

    def __enter__(self) -> Fan68:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _load_fan(device: str) -> Any:
    for path, url in fan_weights():
        if not path.is_file():
            raise PrepError(f"FAN needs {path}; get it with: curl --create-dirs -o {path} {url}")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if not digest.startswith(path.stem.split(".")[0].rpartition("-")[2]):
            raise PrepError(f"{path} is damaged: its SHA-256 is {digest}; delete it and fetch {url} again")
    face_alignment = importlib.import_module("face_alignment")
    parameters = inspect.signature(face_alignment.FaceAlignment).parameters
    # Compilation, if the release supports it, takes minutes and changes the last digits.
    eager = {"compile": False} if "compile" in parameters else {}
    two_d = face_alignment.LandmarksType.TWO_D
    return face_alignment.FaceAlignment(two_d, device=device, flip_input=True, **eager)
