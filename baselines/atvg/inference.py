"""Generation with ATVGnet (``demo.py`` of its code): a portrait that speaks, of the size of its view."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from baselines.atvg.faces import Faces
from baselines.atvg.landmark_network import LandmarkNetwork
from baselines.atvg.picture_network import PictureNetwork
from baselines.atvg.picture_stage import SIDE, VIEW
from baselines.landmarks.smoothing import Filter, smoothed
from models.base import Drive, Section
from prep.sample_spec import MFCC_28X12


class GenerateConfig(Section):
    """How videos are made.

    Attributes:
        amplify: factors on the first coefficients, those of the others being 1 (code: 1, then 2.2, 2.4, 2.6, 2.8, 3).
        smoothing: of the predicted coefficients over time, see :mod:`baselines.landmarks.smoothing` (code: none).
        batch_size: frames that are generated at once.
    """

    amplify: tuple[float, ...] = ()
    smoothing: Filter = "none"
    batch_size: int = Field(default=16, ge=1)


class Inference:
    """One video.

    The first frame with a face is the first example: from its landmarks the landmark network begins. Where the head is
    still, it is the example of all frames. Else each frame is its own example, and its landmarks are those that are
    predicted, as far as they differ from its own; a frame without a face has the example of the frame before, or the
    first one.

    Args:
        config: how.
        at: the landmark network.
        vg: the picture network.
        faces: the fitted space, and how it is used.
        side: of the pictures that ``vg`` paints, pixels.
        drive: who speaks, what is said, and whether the head moves.
    """

    def __init__(
        self,
        config: GenerateConfig,
        at: LandmarkNetwork,
        vg: PictureNetwork,
        faces: Faces,
        side: int,
        drive: Drive,
    ) -> None:
        self._config, self._at, self._vg, self._faces, self._side = config, at, vg, faces, side
        self._drive = drive
        self._device = next(vg.parameters()).device

    def frames(self) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`.

        Raises:
            ValueError: no frame shows a face.
        """
        drive = self._drive
        points = drive.footage.landmarks("ibug68", depth=True)
        found = np.flatnonzero(drive.footage.detected & np.isfinite(points).all(axis=(1, 2)))
        if not len(found):
            raise ValueError("no frame shows a face")
        # The example of each frame: the last frame with a face, or the first one of all.
        nearest = found[(np.searchsorted(found, np.arange(len(points)), side="right") - 1).clip(min=0)]
        if drive.pose is None:
            nearest = nearest[:1].repeat(len(points))
        shown_points = torch.from_numpy(points[nearest]).to(self._device)
        first = shown_points[:1]
        start = self._faces.start(first)
        predicted = self._predict(start, len(points))
        own = self._faces.own(shown_points) - self._faces.own(first)
        shown = self._faces.shown(shown_points)
        spoken = self._faces.spoken(predicted, start[0], own, shown, self._factors(len(start[0])))
        state = None
        for block, examples in self._examples(nearest):
            # One example for all frames is encoded once.
            used = slice(block.start, block.start + len(examples))
            made = self._vg(examples[None], spoken[None, block], shown[None, used], state)
            state = made.state if self._vg.recur == "time" else None
            yield from self._pictures(made.pictures[0])

    def _factors(self, modes: int) -> Tensor:
        amplify = self._config.amplify
        return torch.tensor([*amplify, *[1.0] * modes][:modes], device=self._device)

    def _predict(self, start: Tensor, count: int) -> Tensor:
        """(n, K) float32: coefficients of all frames; the features of few are in memory with their maps."""
        speech, size = self._drive.speech, self._config.batch_size
        features = []
        for begin in range(0, count, size):
            block = range(begin, min(begin + size, count))
            heard = np.stack([speech.chunk(frame, MFCC_28X12).T for frame in block])
            features.append(self._at.hear(torch.from_numpy(heard).to(self._device)))
        predicted = self._at.speak(start, torch.cat(features)[None])[0].float()
        smooth = smoothed(predicted.cpu().numpy(), self._config.smoothing)
        return torch.from_numpy(smooth).to(self._device)

    def _examples(self, nearest: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of frames, and the examples of each, (E, 3, S, S) in [-1, 1]: one for all, or one a frame."""
        size, count = self._config.batch_size, len(nearest)
        if self._drive.pose is None:
            example = self._tensor([self._cut(int(nearest[0]))])
            for begin in range(0, count, size):
                yield slice(begin, min(begin + size, count)), example
            return
        last: np.ndarray | None = None
        waiting: list[np.ndarray] = []
        for shot in self._drive.footage.shots():
            if nearest[shot.index] == shot.index or last is None:
                crop = self._drive.footage.crop(VIEW, shot)
                last = self._cut(int(nearest[shot.index])) if crop is None else crop.picture
            waiting.append(last)
            if len(waiting) == size or shot.index == count - 1:
                yield slice(shot.index + 1 - len(waiting), shot.index + 1), self._tensor(waiting)
                waiting = []

    def _cut(self, frame: int) -> np.ndarray:
        (shot,) = self._drive.footage.pick([frame])
        crop = self._drive.footage.crop(VIEW, shot)
        assert crop is not None
        return crop.picture

    def _tensor(self, pictures: list[np.ndarray]) -> Tensor:
        """(E, 3, S, S) float32 in [-1, 1] of pictures of the view, scaled as in training."""
        side = (self._side, self._side)
        small = [cv2.resize(picture, side, interpolation=cv2.INTER_AREA) for picture in pictures]
        stacked = torch.from_numpy(np.stack(small)).to(self._device)
        return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1

    def _pictures(self, painted: Tensor) -> Iterator[np.ndarray]:
        """(T, 3, S, S) in [-1, 1] → pictures of the view's size."""
        whole = ((painted.float() + 1) * 127.5).round().clamp(0, 255).byte()
        for picture in whole.permute(0, 2, 3, 1).cpu().numpy():
            if self._side == SIDE:
                yield np.ascontiguousarray(picture)
            else:
                yield cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
