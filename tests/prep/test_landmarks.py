from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest

from prep import landmark_sets, landmarks, mediapipe_mesh
from prep.errors import ClipError
from prep.facemesh.detector import FaceMesh
from prep.landmark_sets import FACE_131_CONTENT, FACE_131_EDGES, FACE_131_POSE, LANDMARK_SETS, MESH_TO_68
from prep.landmarks import FaceChoice, choose_face, detect_clip

REFERENCE = np.load(Path(__file__).parents[1] / "parity" / "ip_lap_prep" / "landmarks.npz")


# Index sets ----------------------------------------------------------------------------------------------------------


def test_the_131_points_are_the_official_ones():
    np.testing.assert_array_equal(FACE_131_POSE, REFERENCE["pose_order"])
    np.testing.assert_array_equal(FACE_131_CONTENT, REFERENCE["content_order"])
    ours = {frozenset(edge) for edge in FACE_131_EDGES.tolist()}
    assert len(FACE_131_EDGES) == 125
    assert ours == {frozenset(edge) for edge in REFERENCE["connections"].tolist()}


def test_the_rings_are_mediapipe_s():
    connections = pytest.importorskip("mediapipe.python.solutions.face_mesh_connections")
    for ring, name in (("LEFT_EYE", "LEFT_EYE"), ("RIGHT_EYE", "RIGHT_EYE"), ("FACE_OVAL", "FACE_OVAL")):
        points = getattr(landmark_sets, ring).tolist()
        edges = {frozenset(pair) for pair in zip(points, points[1:] + points[:1], strict=True)}
        assert edges == {frozenset(edge) for edge in getattr(connections, f"FACEMESH_{name}")}
    for ours, name in (("LEFT_BROW", "LEFT_EYEBROW"), ("RIGHT_BROW", "RIGHT_EYEBROW"), ("LIPS", "LIPS")):
        theirs = {i for edge in getattr(connections, f"FACEMESH_{name}") for i in edge}
        assert set(getattr(landmark_sets, ours).tolist()) == theirs


def test_the_named_sets_hold_distinct_points():
    for name, indices in LANDMARK_SETS.items():
        assert indices.dtype == np.int64 and len(set(indices.tolist())) == len(indices), name
        assert indices.min() >= 0 and indices.max() < 478
        with pytest.raises(ValueError, match="read-only"):
            indices[0] = 1
    assert {
        name: len(LANDMARK_SETS[name]) for name in ("face131_pose", "face131_content", "face131", "ibug68")
    } == {
        "face131_pose": 74,
        "face131_content": 57,
        "face131": 131,
        "ibug68": 68,
    }


def test_the_68_points_lie_on_a_real_face_where_ibug_puts_them():
    points = REFERENCE["raw_mediapipe"][:, MESH_TO_68, :2].mean(axis=0)
    x, y = points.T
    # Along the jaw, with the chin lowest; its ends lie behind the outline where the head is turned.
    assert (np.diff(x[0:13]) > 0).all() and (np.diff(y[:9]) > 0).all() and (np.diff(y[8:17]) < 0).all()
    assert (np.diff(x[17:27]) > 0).all()  # along the brows
    assert (np.diff(y[27:31]) > 0).all() and (np.diff(x[31:36]) > 0).all()  # down the nose, along its wings
    assert y[17:22].max() < y[36:42].min() and y[22:27].max() < y[42:48].min()
    assert y[36:48].max() < y[30] < y[33] < y[48:68].min()
    for ring in (points[36:42], points[42:48], points[48:60], points[60:68]):
        # From the left corner clockwise: the signed area is positive with y down, and the corner is leftmost.
        following = np.roll(ring, -1, axis=0)
        assert (ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum() > 0
        assert ring[:, 0].argmin() == 0
    assert x[48:60].argmax() == 6 and x[60:68].argmax() == 4
    # Inner lips within the outer.
    assert cv2.contourArea(points[60:68]) < cv2.contourArea(points[48:60])
    for point in points[60:68]:
        assert cv2.pointPolygonTest(points[48:60].reshape(-1, 1, 2), point.tolist(), False) >= 0


def test_the_68_points_are_symmetric():
    # iBUG's own left-right order, and the symmetry of the mesh, seen in the depth and size of a real face's points.
    flip = [
        *range(16, -1, -1),
        *range(26, 16, -1),
        27,
        28,
        29,
        30,
        35,
        34,
        33,
        32,
        31,
        45,
        44,
        43,
        42,
        47,
        46,
    ]
    flip += [
        39,
        38,
        37,
        36,
        41,
        40,
        54,
        53,
        52,
        51,
        50,
        49,
        48,
        59,
        58,
        57,
        56,
        55,
        64,
        63,
        62,
        61,
        60,
        67,
        66,
        65,
    ]
    points = REFERENCE["raw_mediapipe"][:, MESH_TO_68].astype(np.float64).mean(axis=0)
    points -= points.mean(axis=0)
    mirrored = points[flip] * [-1, 1, 1]
    # The best rotation from the mirror image onto the face; what is left over is asymmetry.
    u, _, vt = np.linalg.svd(mirrored.T @ points)
    left_over = np.linalg.norm(mirrored @ u @ vt - points, axis=1)
    assert left_over.max() < 0.1 * np.ptp(points[:, 0])


# One face among several ----------------------------------------------------------------------------------------------


def box(x: float, y: float, size: float) -> np.ndarray:
    return np.array([[x, y, 0.0], [x + size, y + size, 0.0]])


def test_the_largest_face_begins_a_track():
    assert choose_face(np.stack([box(0, 0, 50), box(200, 0, 80), box(400, 0, 70)])) == 1
    assert choose_face(np.stack([box(0, 0, 50), box(200, 0, 50)])) == 0


def test_the_face_that_overlaps_most_goes_on():
    faces = np.stack([box(0, 0, 300), box(100, 100, 50), box(120, 100, 50)])
    assert choose_face(faces, box(104, 100, 50)) == 1
    assert choose_face(faces, box(118, 100, 50)) == 2
    assert choose_face(faces, box(1000, 1000, 50)) == 0  # none goes on: the largest


class Script:
    """A detector that reads its answers from the frames' first pixels."""

    shape = (2, 3)

    def __init__(self, answers: list[list[np.ndarray]], human: int | None) -> None:
        self.answers, self.human = answers, human
        self.asked: list[int] = []
        self.searched: list[int] = []
        self.small: dict[int, list[np.ndarray]] = {}
        self.resets = 0

    def detect(self, frame: np.ndarray) -> np.ndarray:
        return np.array(self.answers[frame[0, 0, 0]]).reshape(-1, 2, 3)

    def detect_batch(self, frames: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        return map(self.detect, frames)

    def search(self, frame: np.ndarray) -> np.ndarray:
        self.searched.append(int(frame[0, 0, 0]))
        return np.array(self.small.get(self.searched[-1], [])).reshape(-1, 2, 3)

    def confirms(self, frame: np.ndarray, face: np.ndarray) -> bool:
        self.asked.append(int(frame[0, 0, 0]))
        return self.asked[-1] == self.human

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None: ...


def run(answers: list[list[np.ndarray]], human: int | None = 0) -> tuple[landmarks.ClipLandmarks, Script]:
    script = Script(answers, human)
    return detect_clip(script, (np.full((1, 1, 3), i, np.uint8) for i in range(len(answers)))), script


def test_a_clip_follows_one_face():
    a, b = [box(10 + i, 10, 60) for i in range(6)], [box(200, 10, 50 + 10 * i) for i in range(6)]
    # The first face is the larger at the start; later the other one is, and comes first, and once it is alone.
    clip, script = run([[a[0], b[0]], [b[1], a[1]], [], [b[3], a[3]], [b[4]], [a[5], b[5]]])
    assert clip.n_faces.tolist() == [2, 2, 0, 2, 1, 2] and clip.n_faces.dtype == np.uint8
    assert clip.detected.tolist() == [True, True, False, True, True, True]
    assert clip.landmarks.shape == (6, 2, 3) and clip.landmarks.dtype == np.float64
    assert np.isnan(clip.landmarks[2]).all()
    for i, face in ((0, a[0]), (1, a[1]), (3, a[3]), (4, b[4]), (5, b[5])):
        np.testing.assert_array_equal(clip.landmarks[i], face)
    assert clip.confirmed and script.resets == 1


def test_another_face_than_the_largest_can_be_chosen():
    a, b, c = box(10, 10, 60), box(200, 10, 90), box(400, 300, 50)
    answers = [[], [b, c, a], [c, b, a]]
    for choose, expected in (
        (FaceChoice(), b),
        (FaceChoice(number=1), a),
        (FaceChoice(number=2), b),
        (FaceChoice(number=3), c),
        (FaceChoice(at=(11, 11)), a),
        (FaceChoice(at=(410, 290)), c),
        (FaceChoice(at=(140, 40)), b),  # the nearer box; the middles are equally far
    ):
        script = Script(answers, 1)
        frames = [np.full((1, 1, 3), i, np.uint8) for i in range(3)]
        clip = detect_clip(script, frames, choose)
        assert clip.detected.tolist() == [False, True, True]
        np.testing.assert_array_equal(clip.landmarks[1:], [expected, expected], str(choose))
    # One box within the other: the one whose middle is nearer.
    inside = np.stack([box(0, 0, 300), box(100, 100, 50)])
    assert FaceChoice(at=(130, 130)).first(inside) == 1 and FaceChoice(at=(20, 20)).first(inside) == 0


def test_a_face_that_is_not_there_cannot_be_chosen():
    for answers, message in (
        ([[box(200, 10, 90), box(10, 10, 60)]], r"no face 3.* are 2 faces, at \(40, 40\) and \(245, 55\)"),
        ([[], [box(10, 10, 60)], [box(10, 10, 60)] * 3], r"no face 3.* is 1 face, at \(40, 40\)"),
    ):
        frames = (np.full((1, 1, 3), i, np.uint8) for i in range(len(answers)))
        with pytest.raises(ClipError, match=message):
            detect_clip(Script(answers, 0), frames, FaceChoice(number=3))
    for wrong in ({"number": 0}, {"number": 1, "at": (0, 0)}):
        with pytest.raises(ValueError, match="a face is chosen"):
            FaceChoice(**wrong)


def test_a_face_needs_to_be_confirmed_once():
    faces = [[box(0, 0, 50)], [], [box(0, 0, 50)], [box(0, 0, 50)]]
    clip, script = run(faces, human=2)
    assert clip.confirmed and clip.detected.tolist() == [True, False, True, True]
    assert script.asked == [0, 2]


def test_what_is_never_confirmed_is_no_face():
    clip, script = run([[box(0, 0, 50)], [box(0, 0, 50)]], human=None)
    assert not clip.confirmed and not clip.detected.any() and np.isnan(clip.landmarks).all()
    assert clip.n_faces.tolist() == [1, 1] and script.asked == [0, 1]


def test_where_no_face_is_detected_small_ones_are_searched():
    script = Script([[box(0, 0, 50)], [], []], 0)
    script.small = {1: [box(300, 0, 9), box(4, 0, 40)]}
    clip = detect_clip(script, (np.full((1, 1, 3), i, np.uint8) for i in range(3)))
    assert script.searched == [1, 2]
    assert clip.n_faces.tolist() == [1, 2, 0] and clip.detected.tolist() == [True, True, False]
    assert clip.small.tolist() == [False, True, False]
    np.testing.assert_array_equal(clip.landmarks[1], box(4, 0, 40))


def test_after_a_cut_the_face_is_chosen_and_confirmed_anew():
    rng = np.random.default_rng(0)
    scenes = rng.integers(0, 256, (3, 36, 64, 3)).astype(np.uint8)
    frames = [scenes[i // 6].copy() for i in range(18)]
    for i, frame in enumerate(frames):
        frame[0, 0, 0] = i
    a, b, c = box(10, 10, 60), box(100, 10, 50), box(12, 10, 20)
    answers = [[b, a]] * 6 + [[c, b]] * 6 + [[a]] * 6
    script = Script(answers, 0)
    script.confirms = lambda frame, face: frame[0, 0, 0] not in range(6, 12)
    clip = detect_clip(script, frames, FaceChoice(number=2))
    assert clip.cuts == (6, 12) and script.resets == 3
    np.testing.assert_array_equal(clip.landmarks[:6], [b] * 6)
    np.testing.assert_array_equal(clip.landmarks[12:], [a] * 6)  # there is no second face
    assert (
        clip.detected.tolist() == [True] * 6 + [False] * 6 + [True] * 6
    )  # never confirmed in the second shot
    assert clip.confirmed and not clip.part(6, 12).confirmed and clip.part(12, 18).confirmed
    largest = detect_clip(script, frames)
    np.testing.assert_array_equal(largest.landmarks[5], a)


@pytest.mark.parametrize("answers", [[], [[], []]])
def test_a_clip_without_faces(answers):
    clip, _ = run(answers)
    assert clip.landmarks.shape == (len(answers), 2, 3) and np.isnan(clip.landmarks).all()
    assert clip.detected.dtype == bool and not clip.detected.any() and not clip.confirmed


# FaceMesh ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mesh():
    with FaceMesh() as detector:
        yield detector


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Grace Hopper, 512×600, from Matplotlib's sample data, a public-domain photograph of the US Navy."""
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_a_portrait_has_one_face(mesh, portrait):
    faces = mesh.detect(portrait)
    assert faces.shape == (1, 478, 3) and faces.dtype == np.float64
    # Pupils, middle of the mouth and chin, as a person read them off the photograph.
    points = faces[0, [468, 473, 13, 152]]
    np.testing.assert_allclose(points[:, :2], [[222, 191], [305, 187], [266, 278], [269, 331]], atol=5)
    assert faces[0, 4, 2] < faces[0, [127, 356], 2].min() - 50  # the tip of the nose is nearer than the ears
    assert mesh.confirms(portrait, faces[0])


def test_depth_is_in_the_pixels_of_the_width(mesh, portrait):
    wide = cv2.copyMakeBorder(portrait, 0, 0, 256, 256, cv2.BORDER_CONSTANT)
    ranges = [np.ptp(mesh.detect(frame)[0, :, 2]) for frame in (portrait, wide)]
    assert ranges[1] == pytest.approx(ranges[0], rel=0.1)


def test_detection_is_a_function_of_the_frame(mesh, portrait):
    expected = mesh.detect(portrait)
    mesh.detect(portrait[:, ::-1])  # not contiguous, and another state for a detector that had one
    np.testing.assert_array_equal(mesh.detect(portrait), expected)
    frozen = portrait.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(mesh.detect(frozen), expected)
    assert portrait.flags.writeable


def test_several_faces_are_seen(mesh, portrait):
    small = cv2.resize(portrait, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    scene = np.zeros((600, 900, 3), np.uint8)
    scene[:, :512] = portrait
    scene[: small.shape[0], 550 : 550 + small.shape[1]] = small
    faces = mesh.detect(scene)
    assert len(faces) == 2
    assert sorted(face[4, 0] > 530 for face in faces) == [False, True]
    clip = detect_clip(mesh, [scene, scene])
    assert clip.n_faces.tolist() == [2, 2] and (clip.landmarks[:, 4, 0] < 530).all()


@pytest.mark.parametrize(("size", "of_width"), [(160, 0.012), (90, 0.015), (60, 0.02)])
def test_small_faces_are_found_where_they_are(mesh, portrait, size, of_width):
    """Within one to two per cent of the face's width of the points of the large face."""
    large = mesh.detect(portrait)[0]
    scale = size / np.ptp(large[:, 0])
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    scene = cv2.resize(
        np.random.default_rng(0).integers(40, 200, (27, 48, 3), np.uint8),
        (1920, 1080),
        interpolation=cv2.INTER_CUBIC,
    )
    for x, y in ((300, 200), (1300, 500)):
        frame = scene.copy()
        frame[y : y + small.shape[0], x : x + small.shape[1]] = small
        if size <= 120:
            assert not len(mesh.detect(frame))
        faces = mesh.search(frame)
        assert faces.shape == (1, 478, 3)
        expected = large * scale + (x, y, 0)
        away = np.hypot(*(faces[0] - expected)[:, :2].T)
        assert away.mean() < of_width * size
        assert np.ptp(faces[0, :, 2]) == pytest.approx(np.ptp(expected[:, 2]), rel=0.25)
        np.testing.assert_array_equal(mesh.search(frame), faces)


def test_several_small_faces_are_each_found_once(mesh, portrait):
    small = cv2.resize(portrait, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    frame = np.full((720, 1280, 3), 90, np.uint8)
    for x in (200, 580, 900):
        frame[200 : 200 + small.shape[0], x : x + small.shape[1]] = small
    faces = mesh.search(frame)
    assert sorted((faces[:, 4, 0] // 128).astype(int)) == [2, 5, 7]


def test_small_animals_are_no_faces(mesh):
    cat = pytest.importorskip("skimage.data", reason="scikit-image brings the photograph of a cat").chelsea()
    for height in (60, 100, 150, 200, 300):
        small = cv2.resize(cat, (round(height * 451 / 300), height), interpolation=cv2.INTER_AREA)
        frame = np.full((720, 1280, 3), 90, np.uint8)
        frame[200 : 200 + height, 500 : 500 + small.shape[1]] = small
        clip = detect_clip(mesh, [frame, frame[:, ::-1]])
        assert not clip.confirmed, height


def test_tracking_searches_too_and_the_track_is_not_disturbed(portrait):
    small = cv2.resize(portrait, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    scene = np.full((720, 1280, 3), 90, np.uint8)
    scene[200 : 200 + small.shape[0], 700 : 700 + small.shape[1]] = small
    with FaceMesh(tracking=True) as tracker, FaceMesh() as mesh:
        clip = detect_clip(tracker, [scene] * 3)
        np.testing.assert_array_equal(clip.landmarks, detect_clip(mesh, [scene] * 3).landmarks)
    assert clip.small.all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (17, 13), (300, 400)])
def test_frames_without_a_face(mesh, shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert mesh.detect(noise).shape == mesh.search(noise).shape == (0, 478, 3)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3)),
    ],
)
def test_what_is_not_a_picture_is_refused(mesh, frame):
    with pytest.raises(ValueError, match="not an RGB picture"):
        mesh.detect(frame)


def test_a_face_at_the_edge_can_be_asked_about(mesh, portrait):
    face = mesh.detect(portrait)[0]
    cut = portrait[:, 170:]
    assert mesh.confirms(cut, face - [170, 0, 0])
    # A face beside the points asked about, one far away from them, and points outside of the frame.
    middle = face.mean(axis=0)
    assert not mesh.confirms(portrait, (face - middle) * 0.7 + middle + [170, 0, 0])
    assert not mesh.confirms(portrait, face * 0.3 + [0, 430, 0])
    for far in (-5000, 5000):
        assert not mesh.confirms(portrait, face + np.array([far, 0, 0]))
    assert not mesh.confirms(np.zeros_like(portrait), face)


def test_tracking_depends_on_the_clip_alone(portrait):
    frames = [np.roll(portrait, 4 * i, axis=1) for i in range(6)]
    with FaceMesh(tracking=True) as tracker:
        first = detect_clip(tracker, frames)
        again = detect_clip(tracker, frames)
        np.testing.assert_array_equal(again.landmarks, first.landmarks)
    assert first.detected.all() and first.confirmed
    moved = first.landmarks[:, MESH_TO_68, 0].mean(axis=1)
    np.testing.assert_allclose(np.diff(moved), 4, atol=1.5)


def test_points_are_parsed_from_bytes_and_from_attributes_alike():
    pb2 = pytest.importorskip("mediapipe.framework.formats.landmark_pb2")
    values = np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32)
    values[5] = 0
    message = pb2.NormalizedLandmarkList()
    for x, y, z in values:
        message.landmark.add(x=x, y=y, z=z)
    np.testing.assert_array_equal(mediapipe_mesh._parse(message), values.astype(np.float64))
    # With optional fields, or without a coordinate, the layout is another.
    message.landmark[3].visibility = 0.5
    np.testing.assert_array_equal(mediapipe_mesh._parse(message), values.astype(np.float64))
    message.landmark[3].ClearField("visibility")
    message.landmark[4].ClearField("z")
    values[4, 2] = 0
    np.testing.assert_array_equal(mediapipe_mesh._parse(message), values.astype(np.float64))
    assert mediapipe_mesh._parse(pb2.NormalizedLandmarkList()).shape == (0, 3)


def test_nothing_is_written_to_standard_error(tmp_path, portrait):
    np.save(tmp_path / "portrait.npy", portrait)
    script = (
        "import sys, numpy as np; from prep.facemesh.detector import FaceMesh; from prep.landmarks import detect_clip\n"
        "frame = np.load(sys.argv[1])\n"
        "for tracking in (False, True):\n"
        "    with FaceMesh(tracking=tracking) as mesh:\n"
        "        for _ in range(2): assert detect_clip(mesh, [frame, frame]).confirmed\n"
        "print('still heard', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "portrait.npy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "still heard\n")


@pytest.mark.clips
def test_facemesh_gives_the_reference_s_points(mesh, clips_dir):
    video = cv2.VideoCapture(str(clips_dir / "talk2.mp4"))
    size = float(REFERENCE["frame_hw"][0])
    for crc, expected in zip(REFERENCE["frame_crc32"], REFERENCE["raw_mediapipe"], strict=True):
        _, bgr = video.read()
        assert zlib.crc32(bgr.tobytes()) == crc, "this build of OpenCV decodes the video differently"
        faces = mesh.detect(np.ascontiguousarray(bgr[..., ::-1]))
        assert len(faces) == 1
        # In pixels of a frame of 844²; IP-LAP's points are parts of it, so these are 4e-5.
        np.testing.assert_allclose(faces[0], expected.astype(np.float64) * size, rtol=0, atol=0.03)


@pytest.mark.clips
def test_people_are_confirmed_and_animals_are_not(mesh, clips_dir):
    pictures = {path.stem: path for path in sorted(clips_dir.glob("*face*.*"))}
    assert len(pictures) == 6
    for name, path in pictures.items():
        rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        small = cv2.resize(rgb, (160, 160), interpolation=cv2.INTER_AREA)
        scene = np.full((720, 1280, 3), 90, np.uint8)
        scene[300:460, 600:760] = small
        for frame in (rgb, rgb[:, ::-1], small, scene):
            assert detect_clip(mesh, [frame]).confirmed == (not name.startswith("noface")), name
