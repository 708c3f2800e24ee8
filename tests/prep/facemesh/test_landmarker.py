from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest

from prep.detectors import create, identity
from prep.errors import PrepError
from prep.facemesh import weights


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)[:512]


@pytest.fixture
def task(shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights with the file, and with FaceMesh's networks."""
    file = shared_dir / "weights" / weights.TASK
    if not file.is_file():
        pytest.skip(f"no {weights.TASK} on this machine")
    shutil.copy(file, tmp_path)
    try:
        (found,) = weights.networks("full_range").values()
    except PrepError as error:
        pytest.skip(str(error))
    (tmp_path / weights.NAME).mkdir()
    shutil.copy(found.graph, tmp_path / weights.NAME)
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    return tmp_path / weights.TASK


def scenes(portrait: np.ndarray) -> list[np.ndarray]:
    half = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    two = np.zeros((512, 512, 3), np.uint8)
    two[100:356, :256], two[200:456, 256:] = half, half[:, ::-1]
    turned = [
        cv2.warpAffine(portrait, cv2.getRotationMatrix2D((256, 256), angle, 1), (512, 512))
        for angle in (-60, -20, 35, 80)
    ]
    # Two faces upon each other, which FaceMesh's graph would take for one.
    moved = [
        cv2.warpAffine(portrait, np.array([[1.0, 0, x], [0, 1, y]]), (512, 512))
        for x, y in ((80, 30), (100, 0))
    ]
    blended = [cv2.addWeighted(portrait, 0.5, other, 0.5, 0) for other in moved]
    return [portrait, portrait[:, ::-1], two, *turned, *blended, portrait // 3]


def test_the_points_are_the_package_s(task: Path, portrait: np.ndarray) -> None:
    mediapipe = pytest.importorskip("mediapipe")
    tasks = pytest.importorskip("mediapipe.tasks.python")
    vision = tasks.vision
    options = vision.FaceLandmarkerOptions(tasks.BaseOptions(model_asset_path=str(task)), num_faces=4)
    counts = []
    with vision.FaceLandmarker.create_from_options(options) as package, create("facelandmarker478") as ours:
        for scene in scenes(portrait):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(scene))
            found = package.detect(image).face_landmarks
            expected = np.array([[(p.x, p.y, p.z) for p in face] for face in found]).reshape(-1, 478, 3)
            faces = ours.detect(scene)
            assert len(faces) == len(expected)
            np.testing.assert_allclose(faces, expected * 512, rtol=0, atol=0.05)
            counts.append(len(faces))
    assert sum(counts) >= 12 and max(counts) == 2


def test_its_points_are_others_than_facemesh_s(task: Path, portrait: np.ndarray) -> None:
    with create("facelandmarker478") as detector, create("facemesh") as mesh:
        (face,), (other,) = detector.detect(portrait), mesh.detect(portrait)
        assert detector.confirms(portrait, face)
    side = np.ptp(face[:, :2], axis=0).max()
    assert 0.002 < np.hypot(*(face - other)[:, :2].T).mean() / side < 0.03
    assert identity("facelandmarker478")["digest"] != identity("facemesh")["digest"]


def test_a_missing_or_another_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(weights, "search_folders", lambda: [tmp_path])
    with pytest.raises(
        PrepError, match=r"needs face_landmarker.task: bench weights fetch facelandmarker478$"
    ):
        weights.networks("landmarker_mesh")
    (tmp_path / weights.TASK).write_bytes(b"no archive")
    with pytest.raises(PrepError, match=r"face_landmarker.task is damaged \(File is not a zip file\)"):
        weights.networks("landmarker_mesh")
