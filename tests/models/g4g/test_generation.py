from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.base import Crop, Drive, Shot
from models.g4g.generation import G4GInference, GenerateConfig
from models.g4g.masks import Masks
from models.g4g.network import Made
from models.g4g.options import G4GConfig
from models.g4g.stages import HEARD
from models.layers.mouth_square import MouthSquare
from tests.models.fakes import FakeSpeech
from tests.models.g4g.test_stages import method_of

WIDTH, HEIGHT = 200, 180
SQUARE = MouthSquare(64)


class Footage:
    """As :class:`models.base.Footage`: a smooth picture whose level names the frame, and a face in a box of it."""

    def __init__(
        self, n_frames: int, missing: Sequence[int] = (), box: Sequence[int] = (50, 20, 130, 124)
    ) -> None:
        self.n_frames = self.n_unique = n_frames
        self.width, self.height = WIDTH, HEIGHT
        self.detected = ~np.isin(np.arange(n_frames), missing)
        self.box = box
        self.live = self.most = 0
        self.picked: list[int] = []

    def frame(self, index: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), index % 256, np.uint8)

    def _shot(self, index: int) -> Shot:
        shot = Shot(index, self.frame(index))
        self.live += 1
        self.most = max(self.most, self.live)
        weakref.finalize(shot, self._gone)
        return shot

    def _gone(self) -> None:
        self.live -= 1

    def shots(self) -> Iterator[Shot]:
        for index in range(self.n_frames):
            yield self._shot(index)

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        self.picked += indices
        return [self._shot(index) for index in indices]

    def _matrix(self) -> np.ndarray:
        x0, y0, x1, y1 = self.box
        across, down = 320 / (x1 - x0), 416 / (y1 - y0)
        return np.array([[across, 0, -x0 * across], [0, down, -y0 * down]])

    def transforms(self, view: str) -> np.ndarray:
        assert view == "mouth416x320"
        found = np.repeat(self._matrix()[None], self.n_frames, 0)
        found[~self.detected] = np.nan
        return found

    def crop(self, view: str, shot: Shot) -> Crop | None:
        assert view == "mouth416x320"
        if not self.detected[shot.index]:
            return None
        x0, y0, x1, y1 = self.box
        return Crop(cv2.resize(shot.frame[y0:y1, x0:x1], (320, 416)), self._matrix())

    def landmarks(self, name: str) -> np.ndarray:
        assert name == "ibug68"
        points = np.zeros((self.n_frames, 68, 2), np.float32)
        points[:] = np.array([90.0, 60.0]) + np.arange(68)[:, None] / 4
        points[:, :, 0] += np.arange(self.n_frames)[:, None]
        points[~self.detected] = np.nan
        return points


class Painter(nn.Module):
    """Paints everything in one colour; keeps what it was given."""

    def __init__(self, colour: float = 1.0) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.tensor(colour))
        self.given: list[tuple[Tensor, Masks, Tensor, Tensor | None, Tensor]] = []

    def forward(
        self, sources: Tensor, masks: Masks, references: Tensor, landmarks: Tensor | None, mels: Tensor
    ) -> Made:
        self.given.append((sources, masks, references, landmarks, mels))
        face = self.colour.expand_as(sources)
        return Made(face, face, face, face, None, None)


def generated(
    footage: Footage, painter: nn.Module, common: dict[str, Any] | None = None, **how: Any
) -> list[np.ndarray]:
    options = G4GConfig(**{"references": 3, **(common or {})})
    inference = G4GInference(
        GenerateConfig(**how),
        options,
        SQUARE,
        painter,
        footage,
        FakeSpeech(),  # type: ignore[arg-type]
    )
    with torch.no_grad():
        return list(inference.frames())


def test_references_are_spread_over_the_frames_with_a_face() -> None:
    painter, footage = Painter(), Footage(12, missing=[0, 6])
    generated(footage, painter)
    # Of the ten frames with a face: the first, the middle and the last.
    assert footage.picked == [1, 5, 11]
    (references,) = {
        tuple(given[2].mean((0, 2, 3)).mul(255).round().int().tolist()) for given in painter.given
    }
    assert references == (1, 1, 1, 5, 5, 5, 11, 11, 11)


def test_the_first_frames_as_references_and_fewer_than_are_wanted() -> None:
    footage = Footage(12, missing=[1])
    generated(footage, Painter(), references="first")
    assert footage.picked == [0, 2, 3]
    for choice in ("spread", "first"):
        painter, short = Painter(), Footage(3, missing=[0])
        generated(short, painter, references=choice)
        found = painter.given[0][2].mean((0, 2, 3)).mul(255).round().int().tolist()
        assert len(found) == 9 and set(found) == {1, 2}


def test_sound_is_centred_on_the_frame_and_frames_are_scaled_by_areas() -> None:
    painter = Painter()
    generated(Footage(5, missing=[2]), painter, batch_size=3)
    assert [len(given[0]) for given in painter.given] == [2, 2]
    heard = torch.cat([given[4] for given in painter.given])[:, 0, 0]
    torch.testing.assert_close(heard, torch.tensor([0.0, 0.01, 0.03, 0.04]))
    assert HEARD.offset == -2
    sources = torch.cat([given[0] for given in painter.given])
    assert sources.shape == (4, 3, 104, 80)
    assert sources.mean((1, 2, 3)).mul(255).round().tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(("reading", "count"), [("reference", 1), ("upper", 4), ("source", 4)])
def test_whose_landmarks_are_drawn(reading: str, count: int) -> None:
    painter, footage = Painter(), Footage(5, missing=[0])
    generated(footage, painter, {"landmarks": reading}, batch_size=8)
    landmarks = painter.given[0][3]
    assert landmarks is not None and landmarks.shape == (count, 1, 104, 80)
    # The points move a pixel a frame, and so does the picture: all columns lie one further.
    first = landmarks[0, 0].amax(0).nonzero().min()
    # Point 0 of frame 1 is at x = 91 of a box of 80 columns that begins at 50; upper parts begin with point 17.
    assert int(first) == (41 if reading != "upper" else 41 + 17 // 4)
    if count == 4:
        assert int(landmarks[3, 0].amax(0).nonzero().min()) == int(first) + 3


def test_without_alignment_no_landmarks_are_read() -> None:
    painter, footage = Painter(), Footage(3)
    footage.landmarks = None  # type: ignore[assignment, method-assign]
    generated(footage, painter, {"alignment": False})
    assert painter.given[0][3] is None


def test_what_is_painted_goes_back_without_a_seam() -> None:
    frames = generated(Footage(3, missing=[1]), Painter(1.0))
    x0, y0, x1, y1 = 50, 20, 130, 124
    for index in (0, 2):
        frame = frames[index][..., 0].astype(int)
        square = frame[y0 + 32 : y0 + 96, x0 + 8 : x0 + 72]
        assert (square == 255).all()
        outside = frame.copy()
        outside[y0:y1, x0:x1] = index
        assert (outside == index).all()
        # Between the square and the edge of the face it falls step by step.
        row = frame[y0 + 64, x0 : x0 + 9]
        assert row[0] == index and (np.diff(row) >= 0).all() and np.diff(row).max() < 128
    np.testing.assert_array_equal(frames[1], Footage(3).frame(1))


def test_a_face_that_is_too_small_is_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"too small for 104×80: .* 7 pixels wide, and 8 are the least"
    ) as raised:
        generated(Footage(2, box=(50, 20, 59, 32)), Painter())
    assert "\n" not in str(raised.value) and "generate.smallest=0" in str(raised.value)
    assert len(generated(Footage(2, box=(50, 20, 59, 32)), Painter(), smallest=0)) == 2


def test_footage_without_a_face_stays_as_it_is() -> None:
    painter, footage = Painter(), Footage(3, missing=range(3))
    frames = generated(footage, painter)
    assert not painter.given and not footage.picked
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, footage.frame(index))


@pytest.mark.parametrize("n_frames", [30, 1500])
def test_memory_does_not_grow_with_the_footage(n_frames: int) -> None:
    """60 s and a second: the same number of frames is alive at once."""
    footage = Footage(n_frames)
    options = G4GConfig(references=3)
    inference = G4GInference(
        GenerateConfig(batch_size=8),
        options,
        SQUARE,
        Painter(),
        footage,
        FakeSpeech(),  # type: ignore[arg-type]
    )
    with torch.no_grad():
        assert sum(1 for _ in inference.frames()) == n_frames
    assert footage.most <= 2 * 8


def test_generation_is_deterministic_and_speaks_with_the_sound() -> None:
    made = method_of(lambda_gan=0.0, lambda_sync=0.0)
    # In training mode: the running means of an untrained network let nothing of the sound through.
    made.generator.train()

    class Other(FakeSpeech):
        def chunk(self, frame: int, sound: Any) -> np.ndarray:
            return np.cos(np.arange(80 * 16, dtype=np.float32) + frame).reshape(80, 16)

    def say(speech: FakeSpeech) -> list[np.ndarray]:
        footage = Footage(3, missing=[1])
        with torch.no_grad():
            return list(made.generate(Drive(footage, speech, footage)))  # type: ignore[arg-type]

    first, again, other = say(FakeSpeech()), say(FakeSpeech()), say(Other())
    for i in range(3):
        np.testing.assert_array_equal(first[i], again[i])
        assert np.array_equal(first[i], other[i]) == (i == 1)
