from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.dinet.faces import faces_of
from baselines.dinet.inference import GenerateConfig, speak
from baselines.dinet.network import Generator, Seen
from baselines.dinet.sound import HEARD
from models.base import Crop, Shot
from models.layers.mouth_square import MouthSquare
from prep.sample_spec import Sound
from prep.views import VIEWS
from tests.baselines.test_wav2lip import BOX
from tests.baselines.test_wav2lip import Footage as BoxFootage
from tests.models.fakes import FakeSpeech

VIEW = VIEWS["mouth416x320"]
#: The radius of the crop in ``BOX`` is 40, and the hidden square 80 pixels.
SQUARE = (40, 60, 120, 140)  # x0, y0, x1, y1


class Footage(BoxFootage):
    """A face in a crop of radius 40."""

    def __init__(self, n_frames: int, missing: Sequence[int] = (), n_unique: int | None = None) -> None:
        super().__init__(n_frames, missing)
        self.n_unique = n_frames if n_unique is None else n_unique
        self.picked: list[int] = []

    def transforms(self, view: str) -> np.ndarray:
        assert view == VIEW.name
        scale = 320 / (BOX[2] - BOX[0])
        matrix = np.array([[scale, 0, -BOX[0] * scale], [0, scale, -BOX[1] * scale]])
        return np.where(self.detected[:, None, None], matrix, np.nan)

    def crop(self, view: str, shot: Shot) -> Crop | None:
        matrix = self.transforms(view)[shot.index]
        return None if np.isnan(matrix).any() else Crop(VIEW.crop(shot.frame, matrix), matrix)

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        self.picked += indices
        return [Shot(index, self.frame(index)) for index in indices]


class Brighter(nn.Module):
    """Paints what it is shown, brighter, and the hidden square grey; keeps what it was given."""

    def __init__(self, by: float = 0.0, references: int = 5, grey: float = 0.5) -> None:
        super().__init__()
        self.by, self.references, self.grey = nn.Parameter(torch.tensor(by)), references, grey
        self.looked: list[Tensor] = []
        self.given: list[tuple[Tensor, Tensor]] = []

    def look(self, references: Tensor) -> Seen:
        self.looked.append(references)
        return Seen(references, references, references[:, :3])

    def paint(self, sources: Tensor, seen: Seen, sounds: Tensor) -> Tensor:
        self.given.append((sources, sounds))
        painted = sources.clone()
        square = MouthSquare(sources.shape[-1] * 4 // 5)
        square.cut(painted)[:] = self.grey
        return painted + self.by


def generated(
    footage: Any, network: Any, mouth: int = 64, sound: Any = "mel", **how: Any
) -> list[np.ndarray]:
    speech = how.pop("speech", None) or FakeSpeech()
    with torch.no_grad():
        frames = speak(GenerateConfig(**how), network, MouthSquare(mouth), footage, speech, HEARD[sound])
        return list(frames)


def test_every_frame_comes_out_once_and_in_order() -> None:
    footage, network = Footage(11, missing=[0, 4, 5, 6, 7, 10]), Brighter()
    frames = generated(footage, network, batch_size=4)
    assert len(frames) == 11
    for index, frame in enumerate(frames):
        assert np.array_equal(frame, footage.frame(index)) == (not footage.detected[index])
    assert len(network.looked) == 1


def test_footage_without_any_face_passes_through() -> None:
    footage, network = Footage(5, missing=range(5)), Brighter()
    frames = generated(footage, network)
    assert all(np.array_equal(frame, footage.frame(i)) for i, frame in enumerate(frames))
    assert network.given == network.looked == []


def test_only_a_batch_of_frames_is_held() -> None:
    footage = Footage(40, missing=range(10, 30))
    with torch.no_grad():
        square, speech = MouthSquare(64), FakeSpeech()
        for _ in speak(
            GenerateConfig(batch_size=4),
            Brighter(),  # type: ignore[arg-type]
            square,
            footage,  # type: ignore[arg-type]
            speech,  # type: ignore[arg-type]
            HEARD["mel"],
        ):
            pass
    assert footage.most <= 5


def test_references_can_be_the_first_frames_with_a_face() -> None:
    footage = Footage(9, missing=[0, 3], n_unique=6)
    generated(footage, Brighter(references=3), references="first")
    assert footage.picked == [1, 2, 4]
    few, network = Footage(4, missing=[1, 3]), Brighter(references=3)
    generated(few, network, references="first")
    first, second, third = network.looked[0][0].split(3)
    torch.testing.assert_close(first, third)
    assert few.picked == [0, 2] and not torch.equal(first, second)


def test_references_are_five_frames_with_a_face_drawn_by_the_seed() -> None:
    def drawn(**how: Any) -> list[int]:
        footage, network = Footage(60, missing=range(0, 60, 2), n_unique=40), Brighter()
        generated(footage, network, batch_size=60, **how)
        (references,) = network.looked
        assert references.shape == (1, 15, 104, 80)
        crops = [footage.crop(VIEW.name, shot) for shot in footage.pick(range(1, 40, 2))]
        faces = faces_of([crop for crop in crops if crop is not None], MouthSquare(64))
        pictures = references.unflatten(1, (5, 3))[0]
        return [2 * next(i for i, face in enumerate(faces) if torch.equal(face, p)) + 1 for p in pictures]

    first = drawn()
    assert len(set(first)) == 5
    assert first == drawn(seed=0) != drawn(seed=1)
    # In the order drawn, not in that of the film.
    assert first != sorted(first)


def test_a_single_picture_is_every_reference() -> None:
    footage, network = Footage(7, n_unique=1), Brighter()
    generated(footage, network)
    (references,) = network.looked
    assert footage.picked == [0]
    pictures = references.unflatten(1, (5, 3))[0]
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)


@pytest.mark.parametrize(("sound", "columns"), [("mel", Sound("mel", offset=-2)), ("speech", None)])
def test_each_frame_shows_itself_without_its_mouth_and_hears_its_own_sound(sound: Any, columns: Any) -> None:
    footage, network, speech = Footage(5, missing=[1]), Brighter(), FakeSpeech()
    columns = columns or Sound("speech.logits", columns=9, lead=4)
    generated(footage, network, sound=sound, speech=speech, batch_size=3)
    sources, sounds = (torch.cat(parts) for parts in zip(*network.given, strict=True))
    assert [round(float(heard[0, 0]) * 100) for heard in sounds] == [0, 2, 3, 4]
    assert {one for _, one in speech.asked} == {columns}
    shown = [crop for shot in footage.shots() if (crop := footage.crop(VIEW.name, shot)) is not None]
    torch.testing.assert_close(sources, MouthSquare(64).hide(faces_of(shown, MouthSquare(64))))


def test_logits_are_heard_at_the_rate_of_the_video() -> None:
    """Columns 2 f - 4 to 2 f + 4 of 50 a second: the second ones are those of frames f - 2 to f + 2."""
    chunk = np.arange(9)[None].repeat(29, 0)
    assert HEARD["speech"].of(chunk)[0].tolist() == [0, 2, 4, 6, 8]
    assert HEARD["speech"].of(chunk).shape == HEARD["speech"].shape
    assert HEARD["mel"].of(torch.zeros(80, 16)).shape == HEARD["mel"].shape


def test_the_hidden_square_comes_back_and_nothing_beyond_the_crop() -> None:
    footage = Footage(1)
    for mouth in (64, 128, 256):
        (frame,) = generated(footage, Brighter(0.5, grey=0.0), mouth)
        changed = (frame != footage.frame(0)).any(axis=2)
        x0, y0, x1, y1 = BOX
        assert not changed[:y0].any() and not changed[y1:].any()
        assert not changed[:, :x0].any() and not changed[:, x1:].any()
        x0, y0, x1, y1 = SQUARE
        inner = frame[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].astype(int)
        np.testing.assert_allclose(inner, 127.5, atol=0.6)  # 0.5 of 255, rounded
        # The upper edge is soft over an eighth of the square, then the frame is its own.
        assert not changed[: y0 - 11].any() and changed[y0 - 8 : y0].any()


def test_no_seam_shows() -> None:
    """A face that is brighter by 40 has edges no steeper than the picture's own; the official paste has."""

    class Copying(Brighter):
        """Paints the last reference, which is the frame itself."""

        def paint(self, sources: Tensor, seen: Seen, sounds: Tensor) -> Tensor:
            return seen.encoded[:, -3:].expand_as(sources) + self.by

    class Textured(Footage):
        def frame(self, index: int) -> np.ndarray:
            rng = np.random.default_rng(index)
            return cv2.resize(rng.integers(50, 170, (24, 24, 3), np.uint8), (self.width, self.height))

    def steepest(frame: np.ndarray) -> float:
        return max(np.abs(np.diff(frame.astype(np.float64), axis=axis)).max() for axis in (0, 1))

    footage = Textured(1)
    own = steepest(footage.frame(0))
    (soft,), (hard,) = (generated(footage, Copying(40 / 255), 256, paste=how) for how in ("square", "box"))
    # Smooth edges of 10 pixels add at most 6 a pixel.
    assert steepest(soft) <= 1.35 * own
    assert steepest(hard) > 2 * own


def test_the_official_paste_fills_the_box_but_for_its_last_rows() -> None:
    """Rows up to 3 r of 3.25 r, at full width, whole numbers by truncation after it was resized."""

    class Plain(Brighter):
        def paint(self, sources: Tensor, seen: Seen, sounds: Tensor) -> Tensor:
            return torch.full_like(sources, 100.9 / 255)

    footage = Footage(1)
    for mouth in (64, 256):
        (frame,) = generated(footage, Plain(), mouth, paste="box")
        x0, y0, x1, _ = BOX
        expected = footage.frame(0)
        expected[y0 : y0 + 120, x0:x1] = 100
        np.testing.assert_array_equal(frame, expected)


def test_the_official_paste_is_resized_before_it_is_cut_off() -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((416, 320, 3)).astype(np.float32)

    class Noise(Brighter):
        def paint(self, sources: Tensor, seen: Seen, sounds: Tensor) -> Tensor:
            return torch.from_numpy(picture).permute(2, 0, 1)[None]

    (frame,) = generated(Footage(1), Noise(), 256, paste="box")
    x0, y0, x1, y1 = BOX
    official = cv2.resize(255 * picture, (x1 - x0, y1 - y0)).astype(np.uint8)
    np.testing.assert_array_equal(frame[y0 : y0 + 120, x0:x1], official[:120])


def test_a_crop_that_leaves_the_frame_is_pasted_where_it_lies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.baselines.test_dinet_inference.BOX", (-20, 60, 80, 190))
    footage = Footage(1)
    for how in ("square", "box"):
        (frame,) = generated(footage, Brighter(grey=1.0), paste=how)
        assert (frame[102:168, 0:68] == 255).all()
        np.testing.assert_array_equal(frame[:, 80:], footage.frame(0)[:, 80:])


def test_a_face_that_is_too_small() -> None:
    footage = Footage(2, missing=[0])
    assert len(generated(footage, Brighter(), 64, smallest=1.25)) == 2  # 80 of 64 pixels
    with pytest.raises(ValueError) as raised:
        generated(footage, Brighter(), 256, smallest=0.5)
    assert str(raised.value) == (
        "the face is too small for 416×320: the square round its mouth is 80 pixels wide, and 128 are the least; take "
        "a larger video, or --set generate.smallest=0"
    )
    assert len(generated(footage, Brighter(), 256, smallest=0)) == 2


@pytest.mark.parametrize("mouth", [64, 128, 256])
@pytest.mark.parametrize("feather", [0.01, 0.06, 0.125])
def test_the_mask_is_whole_in_the_square_and_empty_at_the_edge(mouth: int, feather: float) -> None:
    square = MouthSquare(mouth)
    mask = GenerateConfig(feather=feather).mask(square)
    assert mask.dtype == np.float32 and mask.shape == (square.height, square.width)
    assert (square.cut(torch.from_numpy(mask)) == 1).all()
    assert not mask[0].any() and not mask[-1].any() and not mask[:, 0].any() and not mask[:, -1].any()
    assert (np.diff(mask[:mouth, square.width // 2]) >= 0).all()


def test_the_network_generates() -> None:
    """Also with what it is: references are seen once, whatever the batches; the sound is heard."""
    torch.manual_seed(0)
    network = Generator(0.05, hears=HEARD["mel"].shape).eval()
    footage = Footage(5, missing=[1])
    whole, single = (generated(footage, network, batch_size=n) for n in (8, 1))
    for one, other in zip(whole, single, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1
    assert not np.array_equal(whole[0], footage.frame(0))


def test_soft_edges_can_begin_inside_of_the_square() -> None:
    """Then nothing of what is painted beyond the square is seen."""
    square = MouthSquare(64)
    mask = torch.from_numpy(GenerateConfig(inner=0.125).mask(square))
    inside = square.cut(mask)
    assert not square.hide(mask).any() and (inside[8:-8, 8:-8] == 1).all()
    assert inside[32, 0] < 0.02 and inside[32, -1] < 0.02 and inside[-1, 32] < 0.02
    assert 0.3 < float(inside[32, 3]) < 0.7
