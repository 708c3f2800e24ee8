"""FaceMesh against the package MediaPipe 0.10.21: the same faces, points within 0.1 px of a frame of 512²."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import numpy.typing as npt
import pytest

from prep.facemesh import region
from prep.facemesh.detector import FaceMesh

mediapipe = pytest.importorskip("mediapipe", reason="the reference is not installed")
if mediapipe.__version__ != "0.10.21":
    pytest.skip("another release of mediapipe", allow_module_level=True)

from prep.mediapipe_mesh import MediaPipeMesh  # noqa: E402

Float = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]


def rgb(path: object) -> Image:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def ours() -> Iterator[FaceMesh]:
    with FaceMesh() as detector:
        yield detector


@pytest.fixture(scope="module")
def theirs() -> Iterator[MediaPipeMesh]:
    with MediaPipeMesh() as detector:
        yield detector


@pytest.fixture(scope="module")
def hopper() -> Image:
    return rgb(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture(scope="module")
def astronaut() -> Image:
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the photograph of an astronaut")
    return data.astronaut()


@pytest.fixture(scope="module", params=["hopper", "astronaut"])
def portrait(request: pytest.FixtureRequest) -> Image:
    return request.getfixturevalue(request.param)


def apart(ours: FaceMesh, theirs: MediaPipeMesh, frame: Image) -> Float:
    """Distances (F, 478) of the points of the same faces in the same order, in pixels of a frame of 512²."""
    one, other = ours.detect(frame), theirs.detect(frame)
    assert len(one) == len(other), frame.shape
    scale = 512 / max(frame.shape[:2])
    assert (np.abs(one[..., 2] - other[..., 2]) * scale < 0.1).all()
    return np.hypot(*np.moveaxis(one - other, -1, 0)[:2]) * scale


def check(distances: list[Float], faces: int) -> None:
    """At least so many faces, all points within 0.1 px, half of them within 0.01."""
    every = np.concatenate(distances)
    assert len(every) >= faces
    assert every.max() < 0.1 and np.median(every) < 0.01


def turned(frame: Image, angle: float, scale: float = 1.0) -> Image:
    height, width = frame.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    return cv2.warpAffine(frame, matrix, (width, height))


def test_frames_of_many_sizes(ours, theirs, portrait):
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(60, 900, (5, 2)).tolist(), [512, 512], [256, 256], [255, 257], [1, 1], [2, 700]]
    check([apart(ours, theirs, cv2.resize(portrait, size)) for size in sizes], 5)


def test_crops(ours, theirs, portrait):
    rng = np.random.default_rng(1)
    height, width = portrait.shape[:2]
    distances = []
    for _ in range(5):
        y, x = rng.integers(0, height // 4), rng.integers(0, width // 4)
        down, across = rng.integers(height // 2, height), rng.integers(width // 2, width)
        distances.append(apart(ours, theirs, portrait[y : y + down, x : x + across]))
    check(distances, 3)


def test_turned_heads(ours, theirs, portrait):
    check([apart(ours, theirs, turned(portrait, angle)) for angle in range(0, 360, 45)], 4)


def test_mirrored_upside_down_dark_and_blurred(ours, theirs, portrait):
    frames = [portrait[:, ::-1], portrait[::-1, ::-1], np.rot90(portrait), (portrait * 0.15).astype(np.uint8)]
    frames += [cv2.GaussianBlur(portrait, (0, 0), sigma) for sigma in (2, 6)]
    check([apart(ours, theirs, frame) for frame in frames], 4)


def test_faces_partly_out_of_the_frame(ours, theirs, portrait):
    height, width = portrait.shape[:2]
    shifts = [(dy * height // 8, dx * width // 8) for dy in (-2, 0, 3) for dx in (-3, 0, 3)]
    frames = [np.roll(portrait, shift, axis=(0, 1)) for shift in shifts]
    check([apart(ours, theirs, frame) for frame in frames], 5)


def test_large_frames_and_large_and_small_faces(ours, theirs, portrait):
    frames = [cv2.resize(portrait, (1920, 1080)), cv2.resize(portrait, (3840, 2160))]
    for scale in (0.3, 0.8, 2.0):
        matrix = np.array([[scale, 0, 800 - scale * 250], [0, scale, 400 - scale * 150]])
        frames.append(cv2.warpAffine(portrait, matrix, (1920, 1080)))
    check([apart(ours, theirs, frame) for frame in frames], 2)


def test_several_faces_in_the_same_order(ours, theirs, hopper, astronaut):
    rng = np.random.default_rng(2)
    heads = hopper[20:320, 130:400], astronaut[0:260, 110:340]
    distances = []
    for number in (2, 3, 4, 6):
        scene = np.full((500, 700, 3), 60, np.uint8)
        for i in range(number):  # later ones cover parts of others
            small = cv2.resize(heads[i % 2], None, fx=(scale := rng.uniform(0.6, 1)), fy=scale)
            y, x = rng.integers(0, 500 - small.shape[0]), rng.integers(0, 700 - small.shape[1])
            scene[y : y + small.shape[0], x : x + small.shape[1]] = small
        distances.append(apart(ours, theirs, scene))
    check(distances, 6)
    assert max(map(len, distances)) >= 3


def test_the_full_range_detector_and_what_it_confirms(ours, theirs, portrait):
    (face,) = theirs.detect(portrait)
    answers = []
    for move in (0, 60, 150, 400):
        moved = face + np.array([move, 0, 0])
        answers.append(ours.confirms(portrait, moved))
        assert answers[-1] == theirs.confirms(portrait, moved)
    assert answers[0] and not answers[-1]
    for scale in (1.0, 0.5, 0.2):
        frame = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        one, other = ours._full_range(frame), theirs._full_range(frame)
        assert len(one) == len(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=0.1)


def test_the_search_for_small_faces(ours, theirs, hopper):
    scene = np.full((720, 1280, 3), 90, np.uint8)
    for x, scale in ((100, 0.25), (700, 0.3)):
        small = cv2.resize(hopper, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        scene[200 : 200 + small.shape[0], x : x + small.shape[1]] = small
    one, other = ours.search(scene), theirs.search(scene)
    assert one.shape == other.shape and len(one) == 2
    np.testing.assert_allclose(one, other, rtol=0, atol=0.1)


def test_tracking_sees_the_region_of_the_package(hopper):
    """Equal in every frame as long as both start from the same region.

    Left alone the two drift apart by some tenths of a pixel: a crop of bytes turns the smallest difference of a region
    into one of a few thousandths of a pixel in the points, which set the next region, and so on. A track that is moved
    by 0.001 px once drifts from itself as far.
    """
    from mediapipe.python.solution_base import SolutionBase

    frames = [np.ascontiguousarray(turned(np.roll(hopper, 3 * i, axis=1), i, 1 + i / 100)) for i in range(8)]
    package = SolutionBase(
        binary_graph_path="mediapipe/modules/face_landmark/face_landmark_front_cpu.binarypb",
        side_inputs={"num_faces": 1, "with_attention": True, "use_prev_landmarks": True},
        outputs=["multi_face_landmarks", "face_rects_from_landmarks"],
    )
    height, width = hopper.shape[:2]
    with package, FaceMesh(tracking=True) as tracker:
        for frame in frames:
            found = package.process({"image": frame})
            points = np.array([(p.x, p.y, p.z) for p in found.multi_face_landmarks[0].landmark], np.float32)
            (face,) = tracker.detect(frame)
            np.testing.assert_allclose(face, points.astype(np.float64) * (width, height, width), atol=0.05)
            low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
            about = region.about(np.concatenate([low, high]), points[33, :2], points[263, :2], width, height)
            rect = found.face_rects_from_landmarks[0]
            expected = [rect.x_center, rect.y_center, rect.width, rect.height, rect.rotation]
            np.testing.assert_array_equal(about, np.array(expected, np.float32))
            assert tracker._track is not None
            np.testing.assert_allclose(tracker._track, about, rtol=0, atol=1e-3)
            tracker._track = about


@pytest.mark.clips
def test_talking_clips_and_pictures(ours, theirs, clips_dir: Path):
    frames = [rgb(path) for path in sorted(clips_dir.glob("face*.*"))]
    for path in sorted(clips_dir.glob("*.mp4")):
        video = cv2.VideoCapture(str(path))
        for number in range(60):
            if not video.grab():
                break
            if number % 10 == 0:
                frames.append(np.ascontiguousarray(video.retrieve()[1][..., ::-1]))
    check([apart(ours, theirs, frame) for frame in frames], 25)
