from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.base import Crop, Shot
from models.lipformer.inference import SIDE as VIEW_SIDE
from models.lipformer.inference import SOUND, VIEW, Detail, GenerateConfig, LipFormerInference
from models.lipformer.lips import Halves
from tests.models.fakes import FakeFootage, FakeSpeech

SIZE, ROWS, COLUMNS, CODES = 32, 4, 8, 6
SIDE = 64


class Faces(FakeFootage):
    """A face that fills the middle of the frame; its crop is one grey level, that of its index."""

    def crop(self, view: str, shot: Shot) -> Crop | None:
        assert view == VIEW
        if not self.detected[shot.index]:
            return None
        picture = np.full((VIEW_SIDE, VIEW_SIDE, 3), shot.index % self.n_unique, np.uint8)
        # From the frame's inner half to the view.
        scale = 2 * VIEW_SIDE / self.width
        return Crop(picture, np.array([[scale, 0, -VIEW_SIDE / 2], [0, scale, -VIEW_SIDE / 2]]))


class FakeLower(nn.Module):
    def look_up(self, codes: Tensor) -> Tensor:
        return codes[:, None].float()


class FakeDecoder(nn.Module):
    """Paints red by the code and green by the upper encoding; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, upper: Tensor, lower: Tensor) -> Tensor:
        self.calls.append((upper, lower))
        red, green = lower.mean((1, 2, 3)) / 5, upper.mean((1, 2, 3))
        colour = torch.stack([red, green, torch.zeros_like(red)], dim=1)
        return colour[:, :, None, None].expand(-1, -1, SIZE, SIZE) * self.weight


class FakeLips:
    """Networks that predict what a test says, and tell which frames they saw.

    Args:
        scores: frame → logits of the codes; by default code 1 everywhere.
    """

    def __init__(self, scores: dict[int, Sequence[float]] | None = None) -> None:
        self.scores = scores or {}
        self.lower = FakeLower()
        self.decoder = FakeDecoder()
        self.references: list[float] = []
        self.moved: list[tuple[Tensor, Halves]] = []
        self.mels: list[Tensor] = []

    def encode_upper(self, pictures: Tensor) -> Tensor:
        assert pictures.shape[1:] == (3, SIZE, SIZE)
        return pictures[:, :1, :ROWS, :COLUMNS]

    def encode(self, pictures: Tensor) -> Halves:
        self.references += (pictures[:, 0, 0, 0] * 255).round().tolist()
        return Halves(self.encode_upper(pictures), self.encode_upper(pictures))

    def move(self, target_upper: Tensor, reference: Halves) -> Tensor:
        self.moved.append((target_upper, reference))
        return reference.lower

    def predict(self, moved: Tensor, mel: Tensor) -> Tensor:
        self.mels.append(mel)
        frames = (mel[:, 0, 0] * 100).round().int().tolist()
        sure = [0.0, 20.0, 0.0, 0.0, 0.0, 0.0]
        scores = torch.tensor([list(self.scores.get(frame, sure)) for frame in frames])
        return scores[:, :, None, None].expand(-1, -1, ROWS, COLUMNS)


def made_with(
    footage: FakeFootage, lips: FakeLips | None = None, **changes: Any
) -> tuple[list[np.ndarray], FakeLips]:
    lips = lips or FakeLips()
    config = GenerateConfig.model_validate(changes)
    generation = LipFormerInference(config, lips, SIZE, footage, FakeSpeech())  # type: ignore[arg-type]
    with torch.no_grad():
        return list(generation.frames()), lips


def probabilities(*shares: float) -> list[float]:
    """Logits of codes 0, 1, … with these probabilities."""
    rest = [1e-9] * (CODES - len(shares))
    return torch.tensor([*shares, *rest]).log().tolist()


def codes(lips: FakeLips) -> list[int]:
    return torch.cat([lower[:, 0, 0, 0] for _, lower in lips.decoder.calls]).int().tolist()


# What comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("smooth", [1, 3, 5])
@pytest.mark.parametrize("n_frames", [1, 2, 4, 5, 9, 11])
def test_all_frames_in_order(n_frames, smooth):
    footage = Faces(n_frames, side=SIDE)
    frames, lips = made_with(footage, smooth=smooth, batch_size=4)
    assert len(frames) == n_frames
    for i, frame in enumerate(frames):
        original = footage.frame(i)
        assert frame.dtype == np.uint8
        # The upper half is untouched, the mouth is painted: a fifth of 255, and the crop's own grey.
        np.testing.assert_array_equal(frame[: SIDE // 2], original[: SIDE // 2])
        assert frame[40, 32].tolist() == [51, i, 0]
    assert max(len(upper) for upper, _ in lips.decoder.calls) <= 4


def test_frames_without_a_face_are_passed_through():
    missing = [0, 1, 4, 5, 6, 7, 8, 11]
    footage = Faces(12, side=SIDE, missing=missing)
    for batch_size in (1, 4, 32):
        for smooth in (1, 5):
            frames, _ = made_with(footage, batch_size=batch_size, smooth=smooth)
            same = [np.array_equal(frame, footage.frame(i)) for i, frame in enumerate(frames)]
            assert same == [i in missing for i in range(12)]


def test_footage_without_any_face_is_passed_through():
    footage = Faces(5, side=SIDE, missing=range(5))
    frames, lips = made_with(footage)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame, footage.frame(i))
    assert not lips.references


def test_a_face_beside_the_frame_has_no_crop_and_passes():
    class Beside(Faces):
        def crop(self, view: str, shot: Shot) -> Crop | None:
            return super().crop(view, shot) if shot.index else None

    footage = Beside(3, side=SIDE)
    frames, lips = made_with(footage)
    assert lips.references == [1]
    np.testing.assert_array_equal(frames[0], footage.frame(0))
    assert not np.array_equal(frames[1], footage.frame(1))


def test_memory_is_flat_however_long_the_footage():
    most = {}
    for n_frames in (40, 200):
        footage = Faces(n_frames, side=SIDE, missing=range(12, 25))
        config = GenerateConfig(batch_size=4, smooth=5)
        with torch.no_grad():
            generation = LipFormerInference(config, FakeLips(), SIZE, footage, FakeSpeech())  # type: ignore[arg-type]
            assert sum(1 for _ in generation.frames()) == n_frames
        most[n_frames] = footage.most
    assert most[200] == most[40] <= 12


# What the networks are given -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "missing", "n_unique", "expected"),
    [
        ("first", [], 9, 0),
        ("first", [0, 1], 9, 2),
        ("middle", [], 9, 4),
        ("middle", [4, 5], 9, 3),
        ("middle", [], 5, 2),
        ("middle", [], 1, 0),  # a picture
    ],
)
def test_which_frame_is_the_reference(reference, missing, n_unique, expected):
    footage = Faces(9, side=SIDE, missing=missing, n_unique=n_unique)
    _, lips = made_with(footage, reference=reference, batch_size=2)
    assert lips.references == [expected]
    for target, given in lips.moved:
        torch.testing.assert_close(given.lower * 255, torch.full_like(target, expected))


def test_each_frame_hears_its_own_sound():
    speech = FakeSpeech()
    footage, lips = Faces(7, side=SIDE, missing=[2]), FakeLips()
    config = GenerateConfig(batch_size=3)
    list(LipFormerInference(config, lips, SIZE, footage, speech).frames())  # type: ignore[arg-type]
    heard = (torch.cat(lips.mels)[:, 0, 0] * 100).round().int().tolist()
    assert heard == [0, 1, 3, 4, 5, 6]
    assert speech.asked == {(frame, SOUND) for frame in heard}


@pytest.mark.parametrize("detail", [0.0, 0.5, 1.0])
def test_what_codes_lose_of_the_reference_is_added(detail):
    """The reference is of grey 4 and decoded as (4 / 5, 4, 0); frames are decoded as (51, their grey, 0)."""
    footage = Faces(9, side=SIDE, missing=range(4))
    frames, lips = made_with(footage, detail=detail, batch_size=2)
    assert lips.references == [4]
    lost, decoded = np.array([3.2, 0, 4]), np.array([0.8, 4, 0])
    for i in range(4, 9):
        plain = np.array([51, i, 0])
        alike = np.exp(-((np.abs(plain - decoded).mean() / 25.5) ** 2))
        np.testing.assert_array_equal(frames[i][40, 32], np.round(plain + detail * alike * lost))
        np.testing.assert_array_equal(frames[i][: SIDE // 2], footage.frame(i)[: SIDE // 2])


def test_detail_is_whole_where_nothing_has_changed_and_fades_where_something_has():
    torch.manual_seed(0)
    reference, decoded = torch.rand(1, 3, 100, 100), torch.rand(1, 3, 100, 100)
    detail = Detail(reference, decoded, 1.0)
    torch.testing.assert_close(detail.added(decoded), reference)
    opened = decoded.clone()
    opened[:, :, 40:60, 40:60] += 0.5
    made = detail.added(opened)
    torch.testing.assert_close(made[:, :, 45:55, 45:55], opened[:, :, 45:55, 45:55])
    far = torch.ones(100, 100, dtype=torch.bool)
    far[38:62, 38:62] = False
    torch.testing.assert_close(made[:, :, far], reference[:, :, far])
    half = Detail(reference, decoded, 1.0).added(decoded + 0.1 * math.log(2) ** 0.5)
    torch.testing.assert_close(half, decoded + 0.1 * math.log(2) ** 0.5 + (reference - decoded) / 2)


# Time ------------------------------------------------------------------------------------------------


def test_smoothing_by_hand():
    scores = {
        0: probabilities(0.9, 0.1),
        1: probabilities(0.4, 0.6),
        2: probabilities(0.8, 0.2),
        3: probabilities(0.1, 0.9),
    }
    # Of three frames, the middle one counts twice. Code 0 has at frames 0 to 3, of 3, 4, 4 and 3:
    # 2 × 0.9 + 0.4 = 2.2; 0.9 + 0.8 + 0.8 = 2.5; 0.4 + 1.6 + 0.1 = 2.1; 0.8 + 0.2 = 1.0.
    for batch_size in (1, 2, 3, 8):
        _, lips = made_with(Faces(4, side=SIDE), FakeLips(scores), smooth=3, batch_size=batch_size)
        assert codes(lips) == [0, 0, 0, 1]
        _, lips = made_with(Faces(4, side=SIDE), FakeLips(scores), smooth=1, batch_size=batch_size)
        assert codes(lips) == [0, 1, 0, 1]


def test_nothing_is_smoothed_over_a_gap():
    scores = {0: probabilities(0.9, 0.1), 2: probabilities(0.45, 0.55), 3: probabilities(0.45, 0.55)}
    _, lips = made_with(Faces(4, side=SIDE, missing=[1]), FakeLips(scores), smooth=5)
    assert codes(lips) == [0, 1, 1]


def test_a_still_mouth_does_not_flicker():
    """Two codes of the same probability, but for noise from frame to frame."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, 200)
    scores = {i: [0.15 + value, 0.0, -9, -9, -9, -9] for i, value in enumerate(noise)}
    flips = {}
    for smooth in (1, 3, 5):
        _, lips = made_with(Faces(200, side=SIDE), FakeLips(scores), smooth=smooth)
        flips[smooth] = int(np.abs(np.diff(codes(lips))).sum())
    assert flips[1] > 60
    assert flips[3] < 0.6 * flips[1]
    assert flips[5] < 0.8 * flips[3]


# The mask --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paste", ["face", "lower"])
@pytest.mark.parametrize("size", [128, 512])
def test_the_mask_has_no_edge(paste, size):
    mask = GenerateConfig(paste=paste).mask(size)
    assert mask.shape == (size, size)
    assert mask.dtype == np.float32
    assert not mask[: size // 2].any()
    assert mask.min() == 0
    assert mask.max() == 1
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-6)
    for edge in (mask[-1], mask[:, 0], mask[:, -1]):
        assert edge.max() < 0.05
    # From 0 to 1 over 5 % of the size, half as steep again in the middle.
    for axis in (0, 1):
        assert np.abs(np.diff(mask, axis=axis)).max() < 1.6 / (0.05 * size)


def test_what_is_pasted():
    face, lower = (GenerateConfig(paste=paste).mask(512) for paste in ("face", "lower"))  # type: ignore[arg-type]
    # Mouth and chin by FFHQ's rule, and the background beside the neck.
    for row in (0.75, 0.93):
        assert face[int(row * 512), 256] > 0.9
        assert lower[int(row * 512), 256] > 0.9
    assert face[480, 40] == 0
    assert lower[460, 60] == 1
    assert face.sum() < 0.75 * lower.sum()


@pytest.mark.parametrize(
    "changes", [{"smooth": 2}, {"smooth": 0}, {"feather": 0.0}, {"reference": "last"}, {"detail": 2}]
)
def test_options_that_make_no_sense(changes):
    with pytest.raises(ValidationError):
        GenerateConfig.model_validate(changes)
