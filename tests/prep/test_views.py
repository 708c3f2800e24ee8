from __future__ import annotations

import math
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prep.landmark_sets import FACE_131, FACE_131_CONTENT, FACE_131_POSE, MESH_TO_68
from prep.views import VIEWS, landmark_box, map_points, over_box, unmap_points
from prep.views.aligned512 import crop_warped
from prep.views.atvg128 import TEMPLATE
from prep.views.lower512 import lower_side
from prep.views.mouth416x320 import crop_radius

PARITY = Path(__file__).parents[1] / "parity"
IPLAP = np.load(PARITY / "ip_lap_prep" / "landmarks.npz")
SIDE = int(IPLAP["frame_hw"][0])  # The reference frames are square.
FACES = IPLAP["raw_mediapipe"].astype(np.float64) * SIDE
ALL = np.ones(len(FACES), bool)
#: Those that turn the face upright; the others cut boxes.
UPRIGHT = ("aligned512", "atvg128")
BOX_VIEWS = [name for name in VIEWS if name not in UPRIGHT]


def similarity(points: np.ndarray, scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    """Scale and turn points (T, N, 3) about the first face's centre, and put that centre at ``shift``."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    centre = points[0, :, :2].mean(axis=0)
    moved = points * scale
    moved[..., :2] = (points[..., :2] - centre) @ np.array([[c, s], [-s, c]]) + shift
    return moved


def test_the_views_and_their_sizes():
    first = {
        "box128": (128, 128),
        "face96": (96, 96),
        "aligned512": (512, 512),
        "mouth416x320": (320, 416),
        "lower512": (512, 512),
    }
    # These come first, in the order of the columns of shards that are there; others follow.
    assert list(VIEWS)[: len(first)] == list(first)
    assert {name: (VIEWS[name].width, VIEWS[name].height) for name in first} == first
    assert all(view.name == name and "\n" not in view.summary for name, view in VIEWS.items())


# Parity with the official preprocessings -------------------------------------------------------------


@pytest.mark.parametrize(("name", "margin"), [("train", 5), ("inference", 25)])
def test_the_box_of_131_landmarks_is_the_official_one(name, margin):
    box = landmark_box(FACES[:, FACE_131, :2], (SIDE, SIDE), margin)
    expected = IPLAP[f"{name}_box_y1y2x1x2"]
    np.testing.assert_array_equal(box.astype(int)[:, [1, 3, 0, 2]], expected)
    if name == "train":
        np.testing.assert_array_equal(box, IPLAP["train_box_xyxy_normalised"] * SIDE)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_landmarks_over_the_box_are_the_official_ones(dtype):
    stored = FACES.astype(dtype)[:, FACE_131, :2]
    training = over_box(stored, landmark_box(stored, (SIDE, SIDE), 5))
    assert training.dtype == dtype
    inference = over_box(stored, landmark_box(stored, (SIDE, SIDE), 25).astype(int))
    for name, points in (("train", training), ("inference", inference)):
        pose, content = points[:, :74], points[:, 74:]
        # The official files are in ascending order of the indices, the networks' order is ours.
        np.testing.assert_allclose(pose[:, np.argsort(FACE_131_POSE)], IPLAP[f"{name}_pose"], atol=1e-5)
        np.testing.assert_allclose(
            content[:, np.argsort(FACE_131_CONTENT)], IPLAP[f"{name}_content"], atol=1e-5
        )


def test_box128_is_the_official_box():
    matrices = VIEWS["box128"].transforms(FACES, ALL, SIDE, SIDE)
    corners = unmap_points(np.broadcast_to([[0.0, 0.0], [128.0, 128.0]], (len(FACES), 2, 2)), matrices)
    np.testing.assert_allclose(
        corners.reshape(-1, 4)[:, [1, 3, 0, 2]], IPLAP["train_box_y1y2x1x2"], atol=1e-9
    )


@pytest.mark.clips
def test_box128_crops_are_the_official_ones_bit_for_bit(clips_dir):
    video = cv2.VideoCapture(str(clips_dir / "talk2.mp4"))
    matrices = VIEWS["box128"].transforms(FACES, ALL, SIDE, SIDE).astype(np.float32)
    for i in range(3):
        _, bgr = video.read()
        official = cv2.imread(str(clips_dir.parent / "parity" / "ip_lap_prep" / f"train_crop_{i}.png"))
        rgb = np.ascontiguousarray(bgr[..., ::-1])
        np.testing.assert_array_equal(VIEWS["box128"].crop(rgb, matrices[i])[..., ::-1], official)


def test_dinet_radius_is_the_official_one():
    expected = np.load(PARITY / "dinet_crop" / "expected.npz")
    landmarks = expected["landmarks"]
    assert crop_radius(landmarks, (640, 480)) == (True, expected["radius"])
    # A frame that is too small for the crop, and a face that grows too much, are refused.
    assert crop_radius(landmarks, (640, 350)) == (False, expected["radius"])
    grown = landmarks.copy()
    grown[0] = (grown[0] - grown[0, 29]) * 1.7 + grown[0, 29]
    assert crop_radius(grown, (6400, 4800))[0] is False


def test_mouth416x320_holds_the_mouth_region():
    view = VIEWS["mouth416x320"]
    matrices = view.transforms(FACES, ALL, SIDE, SIDE)
    points = map_points(FACES[:, MESH_TO_68, :2], matrices)
    scale = matrices[0, 0, 0]
    # Up to truncation, point 29 lies on the region's first row and point 33 on its middle column.
    np.testing.assert_allclose(points[:, 29, 1], 128, atol=scale)
    np.testing.assert_allclose(points[:, 33, 0], 160, atol=scale)
    lips, chin = points[:, 48:68], points[:, 8]
    assert (lips > [32, 128]).all() and (lips < [288, 384]).all()
    assert (chin[:, 1] > 335).all() and (chin[:, 1] < 384).all()
    # One radius for the clip, the same scale both ways.
    np.testing.assert_allclose(matrices[:, 0, 0], scale)
    np.testing.assert_allclose(matrices[:, 1, 1], scale)
    _, radius = crop_radius(FACES[:, MESH_TO_68, :2], (SIDE, SIDE))
    assert scale == pytest.approx(128 / radius)


# Geometry --------------------------------------------------------------------------------------------


def test_face96_holds_the_face_and_a_tenth_below():
    matrices = VIEWS["face96"].transforms(FACES, ALL, SIDE, SIDE)
    points = map_points(FACES, matrices)[..., :2]
    pixel = np.stack([matrices[:, 0, 0], matrices[:, 1, 1]], axis=-1)
    low, high = points.min(axis=1), points.max(axis=1)
    assert (low >= 0).all() and (low <= pixel).all()
    assert (high[:, 0] <= 96).all() and (high[:, 0] >= 96 - pixel[:, 0]).all()
    below = (96 - high[:, 1]) / (high[:, 1] - low[:, 1])
    assert (below >= 0.1).all() and (below < 0.11).all()


def test_face128_has_the_box_of_face96():
    small, large = (VIEWS[name].transforms(FACES, ALL, SIDE, SIDE) for name in ("face96", "face128"))
    np.testing.assert_allclose(large, small * 128 / 96, atol=1e-9)


def test_aligned512_is_ffhq_s_square():
    matrices = VIEWS["aligned512"].transforms(FACES, ALL, SIDE, SIDE)
    for matrix, points in zip(matrices, FACES[:, MESH_TO_68, :2], strict=True):
        # The quadrilateral that recreate_aligned_images hands to Pillow, in complex numbers.
        z = points[:, 0] + 1j * points[:, 1]
        left, right, mouth = z[36:42].mean(), z[42:48].mean(), (z[48] + z[54]) / 2
        eyes = (left + right) / 2
        down = mouth - eyes
        x = (right - left) - 1j * down
        x *= max(2.0 * abs(right - left), 1.8 * abs(down)) / abs(x)
        y, c = 1j * x, eyes + 0.1 * down
        quad = np.array([c - x - y, c - x + y, c + x + y, c + x - y])
        corners = map_points(np.stack([quad.real, quad.imag], axis=-1), matrix)
        np.testing.assert_allclose(corners, [[0, 0], [0, 512], [512, 512], [512, 0]], atol=1e-9)


@pytest.mark.parametrize("name", UPRIGHT)
@given(st.floats(0.1, 4), st.floats(-180, 180), st.floats(0, 1920), st.floats(0, 1080))
@settings(max_examples=40, deadline=None)
def test_an_upright_view_shows_a_moved_face_the_same_way(name, scale, degrees, x, y):
    moved = similarity(FACES[:1], scale, degrees, (x, y))
    seen = map_points(moved, VIEWS[name].transforms(moved, [True], 1920, 1080))
    expected = map_points(FACES[:1], VIEWS[name].transforms(FACES[:1], [True], SIDE, SIDE))
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_atvg128_brings_nose_and_eyes_nearest_to_its_template():
    matrices = VIEWS["atvg128"].transforms(FACES, ALL, SIDE, SIDE)
    points = map_points(FACES[:, MESH_TO_68, :2], matrices)
    off = points[:, 27:45] - TEMPLATE
    np.testing.assert_allclose(off.mean(axis=1), 0, atol=1e-9)
    assert 0.5 < np.abs(off).max() < 8
    # At the least squares, neither another scale nor another turn about the middle makes the error smaller.
    centred = TEMPLATE - TEMPLATE.mean(axis=0) + off
    centred -= centred.mean(axis=1, keepdims=True)
    np.testing.assert_allclose((centred * off).sum(axis=(1, 2)), 0, atol=1e-6)
    turned = centred[..., ::-1] * [-1, 1]
    np.testing.assert_allclose((turned * off).sum(axis=(1, 2)), 0, atol=1e-6)
    # All of the mouth is in the picture; a long chin reaches beyond it.
    assert (points[:, 48:68] > 0).all() and (points[:, 48:68] < 128).all()


def test_aligned512_only_scales_what_is_aligned():
    matrices = VIEWS["aligned512"].transforms(FACES, ALL, 1024, 1024, aligned=True)
    np.testing.assert_array_equal(matrices, np.broadcast_to([[0.5, 0, 0], [0, 0.5, 0]], (len(FACES), 2, 3)))


@pytest.mark.parametrize(
    ("face_height", "width", "height", "side"),
    [
        (300, 1920, 1080, 512),
        (341, 1920, 1080, 512),
        (342, 1920, 1080, 768),
        (512, 1920, 1080, 768),
        (513, 1920, 1080, 1024),
        (900, 3840, 2160, 1024),
        (513, 1280, 720, 720),
        (90, 160, 160, 160),
        (200, 512, 512, 512),
    ],
)
def test_lower512_takes_its_side_from_the_face(face_height, width, height, side):
    # The median counts: one wild frame must not decide.
    faces = np.full((5, 478, 2), 10.0)
    faces[:, 152, 1] += face_height
    faces[4, 152, 1] = 5000
    assert lower_side(faces, width, height) == side


def test_lower512_is_centred_on_the_lower_face_and_copies_pixels():
    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    face = similarity(FACES[:1], 0.8, 0, (900, 500))
    matrix = VIEWS["lower512"].transforms(face, [True], 1920, 1080)[0]
    x0, y0 = (int(v) for v in -matrix[:, 2])
    np.testing.assert_array_equal(VIEWS["lower512"].crop(frame, matrix), frame[y0 : y0 + 512, x0 : x0 + 512])
    lower = map_points(face[0, FACE_131_CONTENT, :2], matrix)
    np.testing.assert_allclose(lower.min(axis=0) + lower.max(axis=0), [512, 512], atol=1.01)


def test_lower512_enlarges_small_sources():
    face = similarity(FACES[:1], 90 / np.ptp(FACES[0, :, 1]), 0, (80, 75))
    matrix = VIEWS["lower512"].transforms(face, [True], 160, 160)[0]
    assert matrix[0, 0] == matrix[1, 1] == 512 / 160
    assert VIEWS["lower512"].crop(np.full((160, 160, 3), 9, np.uint8), matrix).min() == 9


# Points map both ways --------------------------------------------------------------------------------

placements = st.fixed_dictionaries(
    {
        "scale": st.floats(0.05, 4),
        "degrees": st.floats(-60, 60),
        "x": st.floats(0.02, 0.98),
        "y": st.floats(0.02, 0.98),
        "width": st.integers(96, 3840),
        "height": st.integers(96, 2160),
    }
)


def pose(place: dict[str, float]) -> tuple[float, float, tuple[float, float]]:
    return place["scale"], place["degrees"], (place["x"] * place["width"], place["y"] * place["height"])


@pytest.mark.parametrize("name", VIEWS)
@given(place=placements, data=st.data())
@settings(max_examples=60, deadline=None)
def test_points_map_there_and_back_with_stored_matrices(name, place, data):
    width, height = place["width"], place["height"]
    faces = similarity(FACES[:3], *pose(place))
    exact = VIEWS[name].transforms(faces, np.ones(3, bool), width, height)
    assert exact.shape == (3, 2, 3) and exact.dtype == np.float64
    # The matrix of a box that only touches the frame can be missing; a face inside the frame always has one.
    inside = (faces[..., :2] > 0).all() and (faces[..., :2] < [width, height]).all()
    kept = np.isfinite(exact).all(axis=(1, 2))
    assert kept.all() or not inside
    stored, faces = exact[kept].astype(np.float32), faces[kept]
    point = [
        data.draw(st.floats(-100, 4000)),
        data.draw(st.floats(-100, 2300)),
        data.draw(st.floats(-500, 500)),
    ]
    points = np.concatenate([faces, np.broadcast_to(point, (len(faces), 1, 3))], axis=1)
    seen = map_points(points, stored)
    assert np.abs(unmap_points(seen, stored) - points).max(initial=0) < 0.01
    # What is stored says the same as what was computed: to 0.01 source pixels.
    assert np.abs(unmap_points(map_points(points, exact[kept]), stored) - points).max(initial=0) < 0.01


@pytest.mark.parametrize("name", BOX_VIEWS)
@given(place=placements)
@settings(max_examples=25, deadline=None)
def test_a_stored_matrix_cuts_the_same_box(name, place):
    width, height = place["width"], place["height"]
    face = similarity(FACES[:1], *pose(place))
    view = VIEWS[name]
    exact = view.transforms(face, [True], width, height)[0]
    if np.isfinite(exact).all():
        frame = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
        expected = view.crop(frame, exact)
        assert expected.shape == (view.height, view.width, 3) and expected.dtype == np.uint8
        np.testing.assert_array_equal(view.crop(frame, exact.astype(np.float32)), expected)


def test_map_points_takes_points_of_any_shape():
    matrices = VIEWS["aligned512"].transforms(FACES, ALL, SIDE, SIDE)
    clip = map_points(FACES, matrices)
    np.testing.assert_allclose(map_points(FACES[3], matrices[3]), clip[3])
    np.testing.assert_allclose(map_points(FACES[3, 7], matrices[3]), clip[3, 7])
    np.testing.assert_allclose(map_points(FACES[3, :, :2], matrices[3]), clip[3, :, :2])
    np.testing.assert_allclose(unmap_points(clip[3, 7], matrices[3]), FACES[3, 7])
    np.testing.assert_allclose(unmap_points(clip, matrices), FACES)
    # A similarity keeps the proportions of depth; a box scales it like x.
    assert clip[0, 0, 2] / FACES[0, 0, 2] == pytest.approx(np.sqrt(np.linalg.det(matrices[0, :, :2])))
    box = VIEWS["box128"].transforms(FACES, ALL, SIDE, SIDE)
    assert map_points(FACES, box)[0, 0, 2] / FACES[0, 0, 2] == pytest.approx(box[0, 0, 0])


# Pictures show what the matrices say -----------------------------------------------------------------


def wave(x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    """A smooth picture, defined for all continuous coordinates."""
    k = 2 * np.pi / period
    return 127.5 + 60 * np.sin(k * x + 0.3) + 60 * np.cos(k * (0.6 * y - 0.8 * x))


PLACES = [
    # scale of the reference face (330 px wide), degrees, centre, frame
    (1.0, 0, (420, 470), (844, 844)),
    (0.28, 12, (80, 78), (160, 160)),
    (0.9, -20, (960, 560), (1920, 1080)),
    (2.2, 8, (1000, 1010), (2048, 2048)),
    (3.4, -5, (1900, 1080), (3840, 2160)),
]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("scale", "degrees", "centre", "frame_size"), PLACES)
def test_the_picture_lies_where_map_points_says(name, scale, degrees, centre, frame_size):
    width, height = frame_size
    view = VIEWS[name]
    face = similarity(FACES[:1], scale, degrees, centre)
    matrix = view.transforms(face, [True], width, height)[0].astype(np.float32)
    source = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))  # source pixels per view pixel
    period = 40 * max(1.0, source)
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5
    )
    frame = cv2.cvtColor(np.round(wave(columns, rows, period)).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    seen = view.crop(frame, matrix)
    centres = np.stack(np.meshgrid(np.arange(view.width) + 0.5, np.arange(view.height) + 0.5), axis=-1)
    at = unmap_points(centres.reshape(-1, 2), matrix)
    edge = 4 * max(1.0, source)
    inside = ((at > edge) & (at < np.array(frame_size) - edge)).all(axis=1)
    assert inside.mean() > 0.3
    error = (seen[..., 0].reshape(-1) - wave(at[:, 0], at[:, 1], period))[inside]
    # A quarter of a view pixel of displacement would be an RMS error of 2.3 grey levels.
    assert np.sqrt(np.mean(error**2)) < 1.2 and abs(error.mean()) < 0.3


#: Landmarks of the mouth, and of eyes and brows.
_AROUND = [13, 17, 61, 291, 33, 133, 159, 362, 386, 263, 105, 334]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("scale", "degrees", "centre", "frame_size"), PLACES)
def test_a_blob_is_found_where_its_landmark_is_mapped(name, scale, degrees, centre, frame_size):
    view = VIEWS[name]
    face = similarity(FACES[:1], scale, degrees, centre)
    matrix = view.transforms(face, [True], *frame_size)[0].astype(np.float32)
    source = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))  # source pixels per view pixel
    step = max(1.0, source)
    points = map_points(face[0, _AROUND, :2], matrix)
    edge = 7 * step / source
    shown = (points > edge).all(axis=1) & (points < [view.width - edge, view.height - edge]).all(axis=1)
    assert shown.any()
    for index in np.array(_AROUND)[shown]:
        x, y = face[0, index, :2]
        across = np.exp(-((np.arange(frame_size[0]) + 0.5 - x) ** 2) / (2 * (1.5 * step) ** 2))
        down = np.exp(-((np.arange(frame_size[1]) + 0.5 - y) ** 2) / (2 * (1.5 * step) ** 2))
        blob = np.round(250 * np.outer(down, across)).astype(np.uint8)
        seen = view.crop(cv2.merge([blob, blob, blob]), matrix)[..., 1]
        weight = seen.astype(np.float64)
        found = [
            (weight.sum(axis=0) * (np.arange(view.width) + 0.5)).sum() / weight.sum(),
            (weight.sum(axis=1) * (np.arange(view.height) + 0.5)).sum() / weight.sum(),
        ]
        np.testing.assert_allclose(found, map_points([x, y], matrix), atol=0.25)


@pytest.mark.parametrize("name", ["aligned512", "lower512"])
@pytest.mark.parametrize("scale", [1.4, 1.9, 2.1, 3.9, 4.2])
def test_what_shrinks_does_not_alias(name, scale):
    # Pixel-wise stripes must turn grey; plain bilinear sampling would show them as bands.
    face = similarity(FACES[:1], scale, 0, (1920, 1080))
    view = VIEWS[name]
    matrix = view.transforms(face, [True], 3840, 2160)[0]
    source = 1 / matrix[0, 0]
    frame = np.zeros((2160, 3840, 3), np.uint8)
    frame[:, ::2] = 255
    contrast = view.crop(frame, matrix)[50:-50, 50:-50].std()
    # Bilinear sampling alone leaves 63 at 1.5 source pixels a view pixel; the stripes themselves have 127.5.
    assert contrast < (16 if source > 1.9 else 60 if name == "aligned512" else 50)


def test_sharpness_does_not_jump_with_scale():
    frame = np.random.default_rng(3).integers(0, 256, (2160, 2160, 3), np.uint8)
    sharpness = []
    for source in np.linspace(0.9, 4.6, 38):
        # Turned, so that the pixels of the noise are met in all phases.
        c, s = math.cos(0.2) / source, math.sin(0.2) / source
        matrix = np.array([[c, s, 200 - 1080 * (c + s)], [-s, c, 200 - 1080 * (c - s)]])
        sharpness.append(crop_warped(frame, matrix, 400, 400).std())
    steps = np.array(sharpness[1:]) / sharpness[:-1]
    assert (steps > 0.87).all() and (steps < 1.02).all()
    assert (steps[11:] > 0.92).all()  # from 2 on, over 4, where pixels begin to be averaged first
    assert sharpness[-1] < 0.4 * sharpness[0]


# Edges and what is missing ---------------------------------------------------------------------------


def test_boxes_repeat_the_edge_and_the_aligned_view_mirrors_it():
    frame = np.zeros((400, 400, 3), np.uint8)
    frame[..., 0] = np.arange(400)[:, None] // 2  # rows 0 to 199
    frame[..., 1] = 255 - np.arange(400)[None, :] // 2
    face = similarity(FACES[:1], 0.6, 0, (200, 330))
    mouth = VIEWS["mouth416x320"]
    matrix = mouth.transforms(face, [True], 400, 400)[0]
    assert unmap_points([0, mouth.height], matrix)[1] > 400
    assert (mouth.crop(frame, matrix)[-3:, :, 0] == 199).all()
    face = similarity(FACES[:1], 0.9, 0, (200, 330))
    matrix = VIEWS["aligned512"].transforms(face, [True], 400, 400)[0]
    y = unmap_points([256, 511.5], matrix)[1]
    assert 420 < y < 800
    seen = VIEWS["aligned512"].crop(frame, matrix)[511, 256, 0]
    assert seen == pytest.approx((2 * 399.5 - y) / 2, abs=1.5)


def test_the_lower_face_is_moved_inside_the_frame():
    lower = VIEWS["lower512"]
    for x, y in ((330, 330), (20, 30), (200, 330)):
        matrix = lower.transforms(similarity(FACES[:1], 0.2, 0, (x, y)), [True], 400, 700)[0]
        corners = unmap_points([[0, 0], [lower.width, lower.height]], matrix)
        assert corners.min() >= -1e-9
        assert (corners.max(axis=0) <= [400 + 1e-9, 700 + 1e-9]).all()


@given(st.floats(0.3, 3.9), st.floats(-40, 40), st.floats(-200, 250), st.floats(-200, 250))
@settings(max_examples=50, deadline=None)
def test_cutting_first_changes_nothing(source, degrees, x, y):
    # The pre-filter looks at a part of the frame only; the whole frame must give the same.
    frame = cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (240, 310, 3), np.uint8), (0, 0), 2)
    c, s = math.cos(math.radians(degrees)) / source, math.sin(math.radians(degrees)) / source
    matrix = np.array([[c, s, -x * c - y * s], [-s, c, x * s - y * c]])
    seen = crop_warped(frame, matrix, 64, 64)
    padded = cv2.copyMakeBorder(frame, 900, 900, 900, 900, cv2.BORDER_REFLECT_101)
    shifted = matrix.copy()
    shifted[:, 2] -= matrix[:, :2] @ (900, 900)
    expected = crop_warped(padded, shifted, 64, 64)
    assert np.abs(seen.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("name", VIEWS)
def test_frames_without_a_face_have_no_matrix(name):
    view = VIEWS[name]
    faces = FACES.copy()
    faces[3] = np.nan
    detected = ALL.copy()
    detected[[3, 7]] = False
    faces[9] = similarity(FACES[9:10], 1, 0, (5000, 5000))[0]  # outside of the frame
    faces[11] = similarity(FACES[11:12], 1, 0, (-3000, 400))[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrices = view.transforms(faces, detected, SIDE, SIDE)
        nothing = view.transforms(np.full_like(FACES, np.nan), ~ALL, SIDE, SIDE)
        empty = view.transforms(np.zeros((0, 478, 3)), np.zeros(0, bool), SIDE, SIDE)
    assert np.isnan(nothing).all() and nothing.shape == (len(FACES), 2, 3)
    assert empty.shape == (0, 2, 3)
    missing = np.isnan(matrices).all(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(missing), [3, 7, 9, 11])
    assert np.isfinite(matrices[~missing]).all()
    with pytest.raises(ValueError, match="no crop"):
        view.crop(np.zeros((SIDE, SIDE, 3), np.uint8), matrices[3])


@pytest.mark.parametrize("name", ["face96", "aligned512", "atvg128"])
def test_a_face_of_no_size_has_no_matrix(name):
    # Points on one spot between two pixels: no box has a side, no axis has a direction.
    assert np.isnan(VIEWS[name].transforms(np.full((1, 478, 3), 50.0), [True], 100, 100)).all()


def test_stored_landmarks_give_the_same_views():
    for view in VIEWS.values():
        exact = view.transforms(FACES, ALL, SIDE, SIDE)
        stored = view.transforms(FACES.astype(np.float32), ALL, SIDE, SIDE)
        np.testing.assert_allclose(stored, exact, atol=1e-3)


def test_the_131_points_lie_in_box128():
    points = map_points(FACES[:, FACE_131, :2], VIEWS["box128"].transforms(FACES, ALL, SIDE, SIDE))
    assert points.min() > 0 and points.max() < 128
