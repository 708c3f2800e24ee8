"""FaceMesh: 478 points of every face, the suite's own run of MediaPipe's networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from prep.facemesh import region
from prep.facemesh.blazeface import BlazeFace
from prep.facemesh.engine import INPUTS, CpuEngine, Engine
from prep.facemesh.refinement import refined
from prep.facemesh.weights import networks
from prep.mesh_search import MOST_FACES, POINTS, MeshDetector, check_picture

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

#: Outer corners of the eyes, by which a tracked square is turned.
_EYE_CORNERS = (33, 263)


class FaceMesh(MeshDetector):
    """FaceMesh with refined lips and irises, as IP-LAP used it, equal to MediaPipe 0.10.21.

    The detector BlazeFace finds faces, the mesh with attention (Grishchenko et al., Attention Mesh, 2020) is computed
    in a square about each. By default every frame is a still image: the points of a frame do not depend on other
    frames, and up to 4 faces are detected. With ``tracking`` a single face is tracked from frame to frame, as
    MediaPipe's mode for video does it; this is faster and smoother, and differs from the reference.

    On real clips the points lie within 0.02 px of MediaPipe's at 512² (median 0.0005 px).

    Args:
        tracking: see above.
        device: ``cpu``, or a device of torch.
        engine: used instead of the one for ``device``.

    Raises:
        PrepError: the weights cannot be had; the message says how to get them.
    """

    #: Names of the networks: of faces, and of points.
    faces, mesh = "short_range", "mesh"

    def __init__(self, *, tracking: bool = False, device: str = "cpu", engine: Engine | None = None) -> None:
        self._engine = engine or make_engine(device, self.faces, "full_range", self.mesh)
        self._short_range = BlazeFace(self._engine, self.faces)
        self._full_range_ = BlazeFace(self._engine, "full_range")
        self._tracking = tracking
        self._track: Float32 | None = None

    def detect_batch(self, frames: Sequence[Image]) -> Iterator[Float]:
        """See :class:`~prep.mesh_search.MeshDetector`."""
        if self._tracking:
            return (self._followed(frame) for frame in frames)
        return iter(self._meshes(frames))

    def _meshes(self, frames: Sequence[Image]) -> list[Float]:
        sizes = [_size(frame) for frame in frames]
        taken = self._engine.take(frames)
        squares = [
            self._regions(faces[:MOST_FACES], size)
            for faces, size in zip(self._short_range(taken, sizes), sizes, strict=True)
        ]
        return self._points(taken, sizes, squares)

    def _points(
        self, taken: Any, sizes: Sequence[tuple[int, int]], squares: Sequence[Float32]
    ) -> list[Float]:
        """Meshes (F, 478, 3) of each frame, of the regions (R, 5) that show a face."""
        owners = [number for number, some in enumerate(squares) for _ in some]
        every = [square for some in squares for square in some]
        side = INPUTS[self.mesh].side
        places = [
            (number, region.matrix(region.in_pixels(square, *sizes[number]), side))
            for number, square in zip(owners, every, strict=True)
        ]
        found: list[list[Float]] = [[] for _ in sizes]
        if places:
            points, certain = self._read(self._engine.run(self.mesh, taken, places))
            for number, square, mesh, sure in zip(owners, every, points, certain, strict=True):
                if sure:
                    width, height = sizes[number]
                    size = np.array([width, height, width], np.float64)
                    scaled = region.project(mesh / np.float32(side), square) * size
                    found[number].append(scaled)
        return [np.array(faces, np.float64).reshape(-1, *POINTS) for faces in found]

    def _followed(self, frame: Image) -> Float:
        """The mesh of the tracked face; if it is lost, the most probable face is tracked."""
        size = _size(frame)
        taken = self._engine.take([frame])
        if self._track is None:
            squares = self._regions(self._short_range(taken, [size])[0][:1], size)
        else:
            squares = self._track[None]
        (faces,) = self._points(taken, [size], [squares])
        self._track = None
        if len(faces):
            relative = (faces[0, :, :2] / size).astype(np.float32)
            box = np.concatenate([relative.min(axis=0), relative.max(axis=0)])
            self._track = region.about(box, relative[_EYE_CORNERS[0]], relative[_EYE_CORNERS[1]], *size)
        return faces

    def _full_range(self, picture: Image) -> Float:
        """See :class:`~prep.mesh_search.MeshDetector`."""
        size = _size(picture)
        (faces,) = self._full_range_(self._engine.take([picture]), [size])
        return np.multiply(faces[:, :4], size * 2, dtype=np.float64)

    def _still(self) -> MeshDetector:
        """See :class:`~prep.mesh_search.MeshDetector`."""
        return type(self)(engine=self._engine) if self._tracking else self

    def _regions(self, faces: Float32, size: tuple[int, int]) -> Float32:
        """Where the mesh looks, (R, 5), of detections (F, 16) in a frame of this width and height."""
        found: Float32 = region.distinct(region.regions(faces, *size))
        return found

    def _read(self, outputs: Sequence[Float32]) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """Points (B, 478, 3) float32 in pixels of the input, and (B,) bool, whether it is a face."""
        return refined(outputs)

    def reset(self) -> None:
        """Forget the track; does nothing without ``tracking``."""
        self._track = None

    def close(self) -> None:
        """Free the networks."""
        del self._engine, self._short_range, self._full_range_


def make_engine(device: str, *names: str) -> Engine:
    """The engine for a device, with networks by their names.

    Raises:
        PrepError: the weights cannot be had.
    """
    files = networks(*names)
    if device == "cpu":
        return CpuEngine(files)
    from prep.facemesh.torch_form import TorchEngine

    return TorchEngine(files, device)


def _size(frame: Image) -> tuple[int, int]:
    """Width and height."""
    check_picture(frame)
    return frame.shape[1], frame.shape[0]
