from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.ipl.inference import GenerateConfig, IPLInference, face_mask
from models.ipl.landmark import POSE, LandmarkGenerator
from models.ipl.renderer import References, Rendered, Renderer
from models.ipl.sketch import draw_sketches
from models.ipl.sound import SOUNDS
from models.ipl.track import Track, smooth
from prep.landmark_sets import FACE_131
from prep.views import VIEWS, landmark_box, over_box
from tests.models.fakes import IPLAP, FakeFootage, FakeSpeech, mesh, points131

SIDE = int(IPLAP["frame_hw"][0])
ALL = np.ones(25, bool)
PARITY = Path(__file__).resolve().parents[2] / "parity" / "ip_lap_prep"


class StillLips(nn.Module):
    """Predicts that each frame's content lies at the middle of the first reference's; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, ...]] = []

    def forward(
        self, mels: Tensor, pose: Tensor, reference_pose: Tensor, reference_content: Tensor
    ) -> Tensor:
        self.calls.append((mels, pose, reference_pose, reference_content))
        return reference_content[:, :1].transpose(2, 3).expand(-1, mels.shape[1], -1, -1)


class OneColour(nn.Module):
    """Renders faces of one BGR colour; keeps what it was given."""

    def __init__(self, colour: tuple[float, float, float] = (0.0, 0.2, 1.0)) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.tensor(colour))
        self.references: list[tuple[Tensor, Tensor]] = []
        self.calls: list[tuple[Any, ...]] = []

    def encode_references(self, pictures: Tensor, sketches: Tensor) -> References:
        self.references.append((pictures, sketches))
        return References(pictures, pictures, pictures)

    def render(self, face: Tensor, sketches: Tensor, references: References, mels: Tensor) -> Rendered:
        self.calls.append((face, sketches, references, mels))
        face = self.colour[:, None, None].expand_as(face)
        return Rendered(face, face)


def made_with(
    footage: FakeFootage,
    landmark: nn.Module | None = None,
    renderer: nn.Module | None = None,
    speech: FakeSpeech | None = None,
    window: int = 5,
    n_landmarks: int = 4,
    **changes: Any,
) -> list[np.ndarray]:
    generation = IPLInference(
        GenerateConfig(**changes),
        landmark or StillLips(),  # type: ignore[arg-type]
        renderer or OneColour(),  # type: ignore[arg-type]
        window,
        n_landmarks,
        footage,
        speech or FakeSpeech(),
    )
    with torch.no_grad():
        return list(generation.frames())


def changed(footage: FakeFootage, frames: list[np.ndarray]) -> list[bool]:
    return [not np.array_equal(frame, footage.frame(i)) for i, frame in enumerate(frames)]


# Where the face is -----------------------------------------------------------------------------------


def tracked(
    points: np.ndarray, side: int, detected: np.ndarray, margin: float = 5, over: str = "box"
) -> Track:
    footage = FakeFootage(len(points), side, np.flatnonzero(~detected).tolist(), landmarks=points)
    return Track(footage, margin, over)  # type: ignore[arg-type]


def official_track(margin: float, over: str) -> Track:
    return tracked(points131(SIDE), SIDE, ALL, margin, over)


def test_boxes_and_landmarks_of_inference_are_the_official_ones():
    track = official_track(25, "crop")
    np.testing.assert_array_equal(track.boxes[:, [1, 3, 0, 2]], IPLAP["inference_box_y1y2x1x2"])
    expected = over_box(points131(SIDE), track.boxes)
    points = track.points(np.arange(25))
    np.testing.assert_allclose(points, expected, atol=1e-6)
    for name in ("pose", "content"):
        ascending = np.argsort(IPLAP[f"{name}_order"])
        ours = points[:, :POSE] if name == "pose" else points[:, POSE:]
        np.testing.assert_allclose(ours[:, ascending], IPLAP[f"inference_{name}"], atol=1e-5)
    sketches = draw_sketches(points[:3], track.sizes(np.arange(3)))
    for i, sketch in enumerate(sketches):
        expected_sketch = cv2.imread(str(PARITY / f"inference_sketch_{i}.png"), cv2.IMREAD_GRAYSCALE)
        np.testing.assert_array_equal(sketch, expected_sketch)


def test_boxes_and_landmarks_are_by_default_those_of_training():
    track = official_track(GenerateConfig().margin, GenerateConfig().over)
    np.testing.assert_array_equal(track.boxes[:, [1, 3, 0, 2]], IPLAP["train_box_y1y2x1x2"])
    mesh131 = points131(SIDE).astype(np.float64)
    box = landmark_box(mesh131, (SIDE, SIDE), 5)
    expected = over_box(mesh131, box)
    np.testing.assert_allclose(track.points(np.arange(25)), expected, atol=1e-6)
    np.testing.assert_allclose(track.sizes(np.arange(25)), box[:, 2:] - box[:, :2], atol=1e-3)


def test_crops_are_those_of_the_view_box128():
    footage, renderer = FakeFootage(3), OneColour()
    made_with(footage, renderer=renderer)
    view = VIEWS["box128"]
    transforms = view.transforms(mesh(footage.width)[:3], ALL[:3], footage.width, footage.height)
    seen = (renderer.calls[0][0] * 255).round().flip(1).permute(0, 2, 3, 1).byte().numpy()
    for i in range(3):
        np.testing.assert_array_equal(seen[i], view.crop(footage.frame(i), transforms[i]))


@pytest.mark.clips
def test_crops_of_inference_are_the_official_ones(clips_dir):
    video = cv2.VideoCapture(str(clips_dir / "talk2.mp4"))
    track = official_track(25, "crop")
    for i in range(3):
        _, frame = video.read()
        x0, y0, x1, y1 = track.boxes[i]
        expected = cv2.imread(str(clips_dir.parent / "parity" / "ip_lap_prep" / f"inference_crop_{i}.png"))
        np.testing.assert_array_equal(cv2.resize(frame[y0:y1, x0:x1], (128, 128)), expected)


def test_openness_and_references_are_the_official_ones():
    track = official_track(25, "crop")
    np.testing.assert_allclose(track.openness, IPLAP["lip_openness"], rtol=1e-4)
    order = sorted(range(25), key=lambda i: IPLAP["lip_openness"][i])
    for count in (1, 4, 15, 25, 40):
        expected = [order[int(i)] for i in torch.linspace(0, 24, steps=count)]
        assert track.ranked(count, 25).tolist() == expected
    assert set(track.ranked(15, 6).tolist()) == set(range(6))


def test_faces_outside_of_the_frame_are_not_found():
    points = np.stack([points131(100)[0] + shift for shift in ([0, 0], [100, 0], [0, -200], [30, 0])])
    track = tracked(points, 100, np.array([True] * 4))
    assert track.found.tolist() == [True, False, False, True]
    assert (track.boxes[3] >= 0).all()
    assert (track.boxes[3] <= 100).all()
    assert np.isnan(track.openness[[1, 2]]).all()


def test_the_nearest_face_stands_in():
    points = points131(100)[:8].copy()
    points[7] = np.nan
    detected = np.array([False, False, True, False, False, False, True, True])
    track = tracked(points, 100, detected)
    assert track.found.tolist() == [False, False, True, False, False, False, True, False]
    assert track.nearest.tolist() == [2, 2, 2, 2, 2, 6, 6, 6]
    assert not len(tracked(points, 100, np.zeros(8, bool)).nearest)


def test_smoothing_by_hand():
    values = np.array([0, 3, 6, 30, np.nan, 9, 12], np.float32)
    found = ~np.isnan(values)
    points = np.broadcast_to(values[:, None, None], (7, 2, 2))
    smoothed = smooth(points, found, 3)[:, 0, 0]
    # Frame 0 and the last are alone, 3 and 5 lack a neighbour.
    np.testing.assert_allclose(smoothed, [0, 3, 13, 18, np.nan, 10.5, 12])
    np.testing.assert_allclose(smooth(points, found, 5)[:, 1, 1], [0, 3, 9.75, 12, np.nan, 10.5, 12])
    assert smooth(points, found, 1) is points


def test_smoothing_calms_what_the_networks_see():
    rng = np.random.default_rng(0)
    shaky = np.repeat(points131(160)[:1], 20, axis=0) + rng.normal(0, 1, (20, 131, 2))
    spread = {}
    for frames in (1, 5):
        landmark = StillLips()
        made_with(FakeFootage(20, landmarks=shaky), landmark, smoothing=frames)
        poses = torch.cat([pose[:, 2] for _, pose, _, _ in landmark.calls])
        spread[frames] = float(poses[4:16].std(dim=0).mean())
    assert spread[5] < 0.6 * spread[1]


# What the networks are given -------------------------------------------------------------------------


def test_windows_overlap_and_stay_within_the_footage():
    footage, landmark, speech = FakeFootage(6), StillLips(), FakeSpeech()
    made_with(footage, landmark, speech=speech, batch_size=4)
    mels, pose = (torch.cat(values) for values in list(zip(*landmark.calls, strict=True))[:2])
    heard = (mels[:, :, 0, 0, 0] * 100).round().int().tolist()
    assert heard == [
        [0, 0, 0, 1, 2],
        [0, 0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4, 5],
        [2, 3, 4, 5, 5],
        [3, 4, 5, 5, 5],
    ]
    track = tracked(points131(160)[:6], 160, ALL[:6])
    poses = torch.from_numpy(track.points(np.array(heard))[:, :, :POSE]).transpose(2, 3)
    torch.testing.assert_close(pose, poses)
    assert speech.asked == {(frame, SOUNDS["iplap"]) for frame in range(6)}


def test_the_nearest_face_lends_its_pose_to_a_window():
    landmark = StillLips()
    made_with(FakeFootage(6, missing=[3]), landmark, batch_size=6)
    mels, pose, _, _ = landmark.calls[0]
    assert len(pose) == 5
    assert (mels[2, :, 0, 0, 0] * 100).round().int().tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(pose[2, 3], pose[2, 2])
    assert not torch.equal(pose[2, 4], pose[2, 2])


def test_sketches_join_the_pose_and_what_was_predicted():
    footage, landmark, renderer = FakeFootage(7), StillLips(), OneColour()
    made_with(footage, landmark, renderer, batch_size=7)
    (face, sketches, _, mels), (_, _, _, content) = renderer.calls[0], landmark.calls[0]
    assert face.shape == (7, 3, 128, 128)
    assert sketches.shape == (7, 5, 3, 128, 128)
    assert (mels[:, 0, 0] * 100).round().int().tolist() == list(range(7))
    track = tracked(points131(160)[:7], 160, ALL[:7])
    window = np.array([1, 2, 3, 4, 5])
    points = track.points(window)
    points[:, POSE:] = content[0, 0].T.numpy()
    expected = draw_sketches(points, track.sizes(window))
    for channel in range(3):
        np.testing.assert_array_equal((sketches[3, :, channel] * 255).round().byte().numpy(), expected)


@pytest.mark.parametrize("window", [2, 3, 6, 7])
def test_other_windows_are_centred_too(window):
    landmark, renderer = StillLips(), OneColour()
    made_with(FakeFootage(12), landmark, renderer, window=window, batch_size=12)
    length = max(window, 5)
    heard = (landmark.calls[0][0][6, :, 0, 0, 0] * 100).round().int().tolist()
    assert heard == [6 - length // 2 + i for i in range(length)]
    assert round(float(renderer.calls[0][3][6, 0, 0]) * 100) == 6


def test_references_are_the_frames_own_pictures_and_sketches():
    footage, landmark, renderer = FakeFootage(20), StillLips(), OneColour()
    made_with(footage, landmark, renderer, n_landmarks=15)
    track = tracked(points131(160)[:20], 160, ALL[:20])
    chosen = track.ranked(4, 20)  # a fifth
    ((pictures, sketches),) = renderer.references
    assert pictures.shape == sketches.shape == (1, 4, 3, 128, 128)
    expected = draw_sketches(track.points(chosen), track.sizes(chosen))
    np.testing.assert_array_equal((sketches[0, :, 1] * 255).round().byte().numpy(), expected)
    for picture, frame in zip(pictures[0], chosen, strict=True):
        x0, y0, x1, y1 = track.boxes[frame]
        crop = cv2.resize(footage.frame(frame)[y0:y1, x0:x1], (128, 128))
        np.testing.assert_array_equal((picture.flip(0) * 255).round().byte().permute(1, 2, 0).numpy(), crop)
    _, _, pose, content = landmark.calls[0]
    prior = torch.from_numpy(track.points(track.ranked(15, 20))).transpose(1, 2)
    torch.testing.assert_close(torch.cat([pose, content], dim=3)[0], prior)


@pytest.mark.parametrize(
    ("changes", "n_frames", "expected"),
    [
        ({}, 25, 5),
        ({}, 2, 1),
        ({"max_references": 3}, 25, 3),
        ({"references": 1.0, "max_references": 25}, 20, 20),
    ],
)
def test_how_many_references(changes, n_frames, expected):
    renderer = OneColour()
    made_with(FakeFootage(n_frames), renderer=renderer, **changes)
    assert renderer.references[0][0].shape[1] == expected


def test_references_come_from_the_frames_that_differ():
    footage, renderer = FakeFootage(40, side=64, n_unique=10), OneColour()
    frames = made_with(footage, renderer=renderer, references=1.0, batch_size=16)
    assert renderer.references[0][0].shape[1] == 10
    assert footage.read[:10] == list(range(10))
    assert footage.read[10:] == list(range(40))
    assert len(frames) == 40


def test_a_single_picture_speaks():
    footage, renderer = FakeFootage(11, side=64, n_unique=1), OneColour()
    frames = made_with(footage, renderer=renderer)
    assert renderer.references[0][0].shape[1] == 1
    assert all(changed(footage, frames)) and len(frames) == 11


def test_the_official_rule_for_sound_can_be_had():
    speech = FakeSpeech()
    made_with(FakeFootage(3), speech=speech, mel="iplap-inference")
    assert speech.asked == {(frame, SOUNDS["iplap-inference"]) for frame in range(3)}


# What comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_frames", [1, 4, 8, 11])
def test_full_frames_of_the_right_number_and_size(n_frames):
    footage = FakeFootage(n_frames, side=120)
    frames = made_with(footage, batch_size=4)
    assert [frame.shape for frame in frames] == [(120, 120, 3)] * n_frames
    assert all(frame.dtype == np.uint8 for frame in frames)
    assert changed(footage, frames) == [True] * n_frames


def test_faces_are_pasted_as_rgb():
    footage = FakeFootage(1)
    (frame,) = made_with(footage, renderer=OneColour((0.0, 0.2, 1.0)))
    x, y = points131(160)[0, 96].astype(int)  # the upper lip
    assert frame[y, x].tolist() == [255, 51, 0]


def test_frames_without_a_face_are_passed_through():
    missing = [0, 1, 2, 5, 9, 10, 11, 12, 13, 14, 15, 19]
    footage = FakeFootage(20, missing=missing)
    for batch_size in (1, 4, 32):
        frames = made_with(footage, batch_size=batch_size)
        assert changed(footage, frames) == [i not in missing for i in range(20)]


def test_footage_without_any_face_is_passed_through():
    footage, renderer = FakeFootage(6, missing=range(6)), OneColour()
    assert changed(footage, made_with(footage, renderer=renderer)) == [False] * 6
    assert not renderer.references


@pytest.mark.parametrize("margin", [5, 25])
def test_nothing_changes_outside_of_the_face(margin):
    footage = FakeFootage(3)
    for i, frame in enumerate(made_with(footage, margin=margin)):
        points = points131(160)[i]
        x, y = np.mgrid[:160, :160][::-1]
        hull = cv2.convexHull(np.ascontiguousarray(points))
        distance = [cv2.pointPolygonTest(hull, (float(a), float(b)), True) for a, b in np.nditer([x, y])]
        # The Gaussian is a square of 21 pixels.
        outside = np.reshape(distance, (160, 160)) < -15
        np.testing.assert_array_equal(frame[outside], footage.frame(i)[outside])


def test_memory_is_flat_however_long_the_footage():
    most = {}
    for n_frames in (60, 300):
        footage = FakeFootage(n_frames, side=64, missing=range(20, 40))
        generation = IPLInference(
            GenerateConfig(batch_size=8, max_references=10),
            StillLips(),  # type: ignore[arg-type]
            OneColour(),  # type: ignore[arg-type]
            5,
            15,
            footage,
            FakeSpeech(),
        )
        with torch.no_grad():
            assert sum(1 for _ in generation.frames()) == n_frames
        most[n_frames] = footage.most
    assert most[300] == most[60] <= 10


def test_a_perfect_renderer_gives_the_footage_back():
    class Perfect(OneColour):
        def render(self, face: Tensor, sketches: Tensor, references: References, mels: Tensor) -> Rendered:
            return Rendered(face, face)

    class Soft(FakeFootage):
        def frame(self, index: int) -> np.ndarray:
            return cv2.GaussianBlur(super().frame(index), (0, 0), 3)

    footage = Soft(3)
    for i, frame in enumerate(made_with(footage, renderer=Perfect())):
        difference = np.abs(frame.astype(int) - footage.frame(i))
        assert difference.max() <= 4
        assert difference.mean() < 0.2


def test_the_size_of_batches_changes_no_frame():
    torch.manual_seed(0)
    landmark = LandmarkGenerator(d_model=32, layers=1, heads=2, feedforward=32, width=0.125).eval()
    renderer = Renderer(width=0.0625).eval()
    footage = FakeFootage(7, missing=[3])
    made = [made_with(footage, landmark, renderer, batch_size=size) for size in (7, 7, 2)]
    for again, in_pairs, once in zip(*made, strict=True):
        np.testing.assert_array_equal(again, in_pairs)
        assert np.abs(once.astype(int) - again).max() <= 1


def test_the_mask_is_the_official_one_where_there_is_room():
    points = points131(SIDE)[0]
    box = tuple(official_track(25, "crop").boxes[0].tolist())
    mask = face_mask(points, box, (SIDE, SIDE), 21)
    x0, y0, x1, y1 = box
    # The official recipe, over the whole frame, in bytes.
    outline = [FACE_131.tolist().index(vertex) for vertex in OUTLINE]
    frame = np.zeros((SIDE, SIDE, 1), np.uint8)
    cv2.fillConvexPoly(frame, cv2.convexHull(points[outline].astype(np.int32)), 255)
    expected = cv2.GaussianBlur(frame, (21, 21), 11) / 255
    assert not expected[:, :x0].any()
    np.testing.assert_allclose(mask, expected[y0:y1, x0:x1], atol=1 / 255)


# Jaw from temple to temple, and the brows' upper edges: vertices of the mesh.
OUTLINE = [
    *(162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152),
    *(377, 400, 378, 379, 365, 397, 288, 361, 323, 454, 356, 389),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
]


@pytest.mark.parametrize("side", [60, 160, 844])
def test_the_mask_fades_out_before_the_box_ends(side):
    points = points131(side)[0]
    box = tuple(tracked(points[None], side, ALL[:1]).boxes[0].tolist())
    mask = face_mask(points, box, (side, side), 21)
    edges = [mask[0], mask[-1], mask[:, 0], mask[:, -1]]
    assert max(edge.max() for edge in edges) < 0.06
    assert mask.max() > 0.9


@pytest.mark.parametrize("side", range(4))
def test_the_mask_goes_on_to_the_edge_of_the_frame(side):
    points = points131(160)[0]
    axis, last = divmod(side, 2)
    points[:, axis] += 180 - points[:, axis].max() if last else -20 - points[:, axis].min()
    x0, y0, x1, y1 = tracked(points[None], 160, ALL[:1]).boxes[0].tolist()
    assert (x0, x1, y0, y1)[side] == (160 if last else 0)
    mask = face_mask(points, (x0, y0, x1, y1), (160, 160), 21)
    assert (mask[:, 0], mask[:, -1], mask[0], mask[-1])[side].max() > 0.9


@pytest.mark.parametrize("changes", [{"smoothing": 2}, {"blur": 20}, {"references": 0}, {"margin": -1}])
def test_settings_that_make_no_sense(changes):
    with pytest.raises(ValidationError):
        GenerateConfig(**changes)
