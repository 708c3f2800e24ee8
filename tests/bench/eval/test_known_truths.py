"""What is known before any network is loaded: each fault moves the metrics that it should, on real talking faces."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.clips.inputs import from_folders, with_trivial
from bench.clips.job import TRIVIAL
from bench.eval import EvalOptions, evaluate_inputs
from bench.metrics.regions import windows
from bench.results import Result
from bench.weights.store import WeightStore
from prep.facemesh.detector import FaceMesh
from prep.landmarks import detect_clip
from prep.sound_reading import sound
from prep.video_reading import frames
from prep.video_writing import write_video

pytestmark = pytest.mark.clips

METRICS = (
    "psnr.frame",
    "psnr.video",
    "mse",
    "ssim.wang11",
    "ssim.skimage7",
    "lmd.chen_sum20",
    "lmd.mean68",
    "lmd.lip_norm",
    "landmark_error",
)
CLIPS = ("talk3", "talk5")
N, SIDE = 36, 256


def _noise(video: list[np.ndarray], sigma: float) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [np.clip(f + random.normal(0, sigma, f.shape), 0, 255).astype(np.uint8) for f in video]


def _blur(video: list[np.ndarray]) -> list[np.ndarray]:
    return [cv2.GaussianBlur(f, (0, 0), 2.0) for f in video]


def _late(video: list[np.ndarray]) -> list[np.ndarray]:
    return [video[max(0, i - 5)] for i in range(len(video))]


def _frozen_mouth(video: list[np.ndarray]) -> list[np.ndarray]:
    """The first frame's mouth on every frame."""
    with FaceMesh() as mesh:
        landmarks = detect_clip(mesh, video).landmarks
    window = windows("mouth", landmarks, SIDE, SIDE)
    assert window is not None
    width, height, corners = window
    x0, y0 = corners[0]
    mouth = video[0][y0 : y0 + height, x0 : x0 + width]
    found = []
    for frame, (x, y) in zip(video, corners, strict=True):
        frame = frame.copy()
        frame[y : y + height, x : x + width] = mouth
        found.append(frame)
    return found


FAULTS = {
    "weak_noise": lambda video: _noise(video, 5),
    "noise": lambda video: _noise(video, 15),
    "blur": _blur,
    "late": _late,
    "frozen_mouth": _frozen_mouth,
}


@pytest.fixture(scope="module")
def result(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("truths")
    for name in ("truth", *FAULTS):
        (folder / name).mkdir()
    for clip in CLIPS:
        source = clips_dir / f"{clip}.mp4"
        video = [
            cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for f in islice(frames(source, 0, N), N)
        ]
        samples = sound(source).samples[: 640 * N]
        write_video(folder / "truth" / f"{clip}.mp4", video, samples=samples, crf=0)
        for name, fault in FAULTS.items():
            write_video(folder / name / f"{clip}.mp4", fault(video), samples=samples, crf=0)
    inputs = with_trivial(from_folders({n: folder / n for n in FAULTS}, folder / "truth"), TRIVIAL)
    return evaluate_inputs(inputs, folder / "out", EvalOptions(METRICS), WeightStore({}, [folder]))


@pytest.fixture
def value(result: Result):
    def find(method: str, metric: str, region: str = "full") -> float:
        figure = result.figure(method, metric, region)
        assert figure is not None and figure.scored == figure.asked == len(CLIPS), (method, metric)
        return figure.value

    return find


def test_truth_against_itself_is_perfect(value):
    for row in ("ground_truth", "wrong_audio"):
        for region in ("full", "face", "mouth"):
            assert value(row, "psnr.frame", region) == float("inf")
            assert value(row, "psnr.video", region) == float("inf")
            assert value(row, "mse", region) == 0
            assert value(row, "ssim.wang11", region) == 1
            assert value(row, "ssim.skimage7", region) == 1
        for metric in ("lmd.chen_sum20", "lmd.mean68", "lmd.lip_norm", "landmark_error"):
            assert value(row, metric) == 0


def test_more_noise_is_worse(value):
    for region in ("full", "face", "mouth"):
        assert value("weak_noise", "psnr.frame", region) > value("noise", "psnr.frame", region) + 5
        assert value("weak_noise", "ssim.wang11", region) > value("noise", "ssim.wang11", region)
    expected = 10 * np.log10(255**2 / 15**2)
    # 4:2:0 averages the noise of colour over four pixels, so a part of it is gone from the file.
    assert expected < value("noise", "psnr.frame") < expected + 4


def test_blur_lowers_structure(value):
    assert value("blur", "ssim.wang11", "face") < 0.97
    assert value("blur", "ssim.wang11") < value("reencoded", "ssim.wang11")


def test_a_late_or_frozen_mouth_moves_the_landmarks_more_than_noise(value):
    for metric in ("lmd.chen_sum20", "lmd.lip_norm"):
        for fault in ("late", "frozen_mouth", "still"):
            assert value(fault, metric) > 2 * value("weak_noise", metric), (fault, metric)
            assert value(fault, metric) > 2 * value("reencoded", metric), (fault, metric)


def test_the_detectors_floor_is_below_every_fault_of_the_lips(value, result: Result):
    for metric in ("lmd.chen_sum20", "lmd.mean68", "lmd.lip_norm", "landmark_error"):
        assert value("shifted", metric) > 0
        for fault in ("late", "frozen_mouth", "still"):
            assert value(fault, metric) > 2 * value("shifted", metric), (fault, metric)
    assert result.figure("shifted", "psnr.frame", "full") is None


def test_a_frozen_mouth_shows_where_the_mouth_is(value):
    assert value("frozen_mouth", "psnr.frame", "mouth") < value("frozen_mouth", "psnr.frame", "face") - 2
    assert value("frozen_mouth", "psnr.frame", "face") < value("frozen_mouth", "psnr.frame", "full")


def test_mean_of_psnr_is_not_less_than_psnr_of_the_mean(value):
    for fault in FAULTS:
        assert value(fault, "psnr.frame") >= value(fault, "psnr.video") - 1e-9
