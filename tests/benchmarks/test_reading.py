"""Training samples are read at least 8 times faster than from IP-LAP's per-frame files (``--benchmark-only``).

Both layouts are written from the same clips in one run. The per-frame one is IP-LAP's: a PNG a crop, a PNG a
sketch, one ``.npy`` of a pickled dict a frame, one mel a clip; and it is read with the steps of the official
training code (Zhong et al., CVPR 2023, ``train_landmarks_generator.py`` and ``train_video_renderer.py``), no
slower than that. Both are in the page cache, on one core. Frames have LRS2's size, 160².

The official render sample holds sketches; ours holds the landmarks that they are drawn from on the way to the
network, and bytes instead of floats. Two more figures are for information: with sketches and floats made here, and
with the one picture of the window that the network is shown, instead of five.
"""

from __future__ import annotations

import os.path
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from glob import glob
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from prep import images, sound_reading, video_reading
from prep.dataset import Sample, WindowDataset
from prep.landmark_sets import FACE_131, FACE_131_CONTENT, FACE_131_EDGES, FACE_131_POSE
from prep.sample_spec import SampleSpec, Sound
from prep.schema import Clip
from prep.sound.mel import melspectrogram
from prep.views import VIEWS, landmark_box, over_box
from tests.prep.fakes import fake_clip, write_fake_dataset

CLIPS, FRAMES = 40, 75
ROUNDS, BATCH = 20, 16
FACTOR = 8

LANDMARK_SPEC = SampleSpec(
    window=5,
    references=15,
    landmarks="face131",
    normalise="box",
    frame_sounds=(Sound("mel", offset=-2),),
    min_frames=25,
)
RENDER_SPEC = SampleSpec(
    window=5,
    references=3,
    view="box128",
    landmarks="face131",
    normalise="box",
    window_sounds=(Sound("mel", offset=-2),),
    window_sound_frame=2,
    min_frames=25,
)


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A folder of shards, and one of per-frame files with the same content."""
    try:
        videos = sorted(request.getfixturevalue("clips_dir").glob("*.mp4"))
    except pytest.skip.Exception:
        videos = []
    folder = tmp_path_factory.mktemp("reading")
    clips = []
    for clip, crops in _real_clips(videos) if videos else _textured_clips():
        clip.images = {"box128": [images.encode(crop, "jpeg", 95) for crop in crops]}
        clips.append(clip)
        _write_per_frame(folder / "files", clip, crops)
    write_fake_dataset(folder / "shards", clips, clips_per_shard=8)
    return folder / "shards", folder / "files"


def test_landmark_sample(benchmark: Any, roots: tuple[Path, Path]) -> None:
    shards, files = roots
    dataset = WindowDataset(shards, "train", LANDMARK_SPEC)
    reference = PerFrameFiles(files)
    sample, (mels, pose, content, *_) = dataset[0], reference.landmark_sample()
    assert sample["frame_mel"].shape == (5, 80, 16) and mels.shape == (5, 1, 80, 16)
    assert sample["landmarks"].shape == (5, 131, 2) and (pose.shape, content.shape) == (
        (5, 2, 74),
        (5, 2, 57),
    )

    ours, theirs = in_turn(each_clip(dataset), reference.landmark_sample)
    benchmark.extra_info.update(ours_ms=ours, per_frame_files_ms=theirs, factor=theirs / ours)
    benchmark.pedantic(each_clip(dataset), rounds=100)
    assert theirs > FACTOR * ours, f"{theirs:.2f} ms against {ours:.2f} ms"


def test_render_sample(benchmark: Any, roots: tuple[Path, Path]) -> None:
    shards, files = roots
    dataset = WindowDataset(shards, "train", RENDER_SPEC)
    reference = PerFrameFiles(files)
    sample, (faces, sketches, *_) = dataset[0], reference.render_sample()
    assert sample["images"].shape == faces.shape == sketches.shape == (5, 3, 128, 128)
    drawn = with_sketches(sample)
    assert drawn["reference_sketches"].shape == drawn["reference_images"].shape == (3, 3, 128, 128)

    read = each_clip(dataset)
    lean = each_clip(WindowDataset(shards, "train", replace(RENDER_SPEC, view_frames=(2,))))
    ours, theirs, complete, shown = in_turn(
        read, reference.render_sample, lambda: with_sketches(read()), lean
    )
    benchmark.extra_info.update(
        ours_ms=ours,
        per_frame_files_ms=theirs,
        factor=theirs / ours,
        ours_with_sketches_and_floats_ms=complete,
        ours_with_one_picture_ms=shown,
    )
    benchmark.pedantic(read, rounds=100)
    assert theirs > FACTOR * ours, f"{theirs:.2f} ms against {ours:.2f} ms"


def test_kept_pictures(benchmark: Any, roots: tuple[Path, Path]) -> None:
    """A sample whose pictures stay in memory needs less than half of the time of one that is decoded."""
    spec = replace(RENDER_SPEC, view_frames=(2,))
    decoded, kept = (WindowDataset(roots[0], "train", spec) for _ in range(2))
    kept.keep_pictures()
    for epoch in range(150):
        for index in range(CLIPS):
            kept.sample(epoch, index)
    theirs, ours = in_turn(each_clip(decoded), each_clip(kept), clock=time.process_time)
    benchmark.extra_info.update(decoded_ms=theirs, kept_ms=ours, factor=theirs / ours)
    benchmark.pedantic(each_clip(kept), rounds=100)
    assert theirs > 2 * ours, f"{theirs:.2f} ms against {ours:.2f} ms"


def test_index(benchmark: Any, roots: tuple[Path, Path]) -> None:
    """50,000 clips are indexed in seconds: the 40 here, as often as it takes for 4000."""
    shards, _ = roots
    folders = [shards] * (4000 // CLIPS)

    dataset = benchmark.pedantic(lambda: WindowDataset(folders, "train", RENDER_SPEC), rounds=3)
    assert len(dataset) == 4000
    # A shard is opened for every 8 clips here, for up to 256 in a large data set.
    assert benchmark.stats.stats.min < 4000 / 50_000 * 60


def each_clip(dataset: WindowDataset) -> Callable[[], Sample]:
    """A function that reads the next sample, through all clips and epochs."""
    epochs = ((epoch, index) for epoch in range(1 << 30) for index in range(len(dataset)))
    return lambda: dataset.sample(*next(epochs))


def in_turn(*functions: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Median milliseconds of each, measured in turn, so that a busy machine slows all of them."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, measured in zip(functions, seconds, strict=True):
            # In batches, lest each call finds the caches full of the other's data.
            for _ in range(BATCH):
                start = clock()
                function()
                measured.append(clock() - start)
    return [1000 * median(measured) for measured in seconds]


def with_sketches(sample: Sample) -> Sample:
    """Add what is left to do until the sample is the official one: sketches, and floats in 0 … 1."""
    for prefix in ("", "reference_"):
        boxes = sample[f"{prefix}boxes"].numpy()
        points = sample[f"{prefix}landmarks"].numpy()
        pictures = np.stack([_sketch(p, box) for p, box in zip(points, boxes, strict=True)])
        sample[f"{prefix}sketches"] = (
            torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() / 255
        )
        sample[f"{prefix}images"] = sample[f"{prefix}images"].float() / 255
    return sample


class PerFrameFiles:
    """Reads samples from IP-LAP's files, with the steps of its two training scripts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(str(path.relative_to(root / "landmarks")) for path in root.glob("landmarks/*/*"))
        # The scripts look every point's place up in a list.
        self.order = FACE_131.tolist()
        self.random = random.Random(0)

    def landmark_sample(self) -> tuple[torch.Tensor, ...]:
        name = self.random.choice(self.names)
        start = self.random.randint(2, FRAMES - 5 - 2)
        window = list(range(start, start + 5))
        references = self.random.sample([i for i in range(FRAMES) if i not in window], 15)
        reference_pose, reference_content = self._points(name, references)
        pose, content = self._points(name, window)
        mel = np.load(f"{self.root}/audio/{name}/audio.npy")
        chunks = np.asarray([self._chunk(mel, frame) for frame in window])
        return torch.FloatTensor(chunks).unsqueeze(1), pose, content, reference_pose, reference_content

    def render_sample(self) -> tuple[torch.Tensor, ...]:
        name = self.random.choice(self.names)
        faces = glob(f"{self.root}/face/{name}/*.png")  # noqa: PTH207 (as fast as the original)
        start = self.random.randint(0, FRAMES - 5)
        window = [f"{self.root}/face/{name}/{i}.png" for i in range(start, start + 5)]
        references = self.random.sample(faces, 3)
        pictures = *self._pictures(window), *self._pictures(references)
        mel = np.load(f"{self.root}/audio/{name}/audio.npy")
        chunk = torch.FloatTensor(self._chunk(mel, start + 2)).unsqueeze(0).unsqueeze(0)
        return *(self._floats(p) for p in pictures), chunk

    def _points(self, name: str, frames: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        stored = []
        for frame in frames:
            path = f"{self.root}/landmarks/{name}/{frame}.npy"
            assert os.path.exists(path)  # noqa: PTH110
            stored.append(np.load(path, allow_pickle=True).item())
        tensors = []
        for key, count in (("pose_landmarks", 74), ("content_landmarks", 57)):
            tensor = torch.zeros((len(frames), 2, count))
            for row, points in enumerate(stored):
                in_order = sorted(points[key], key=lambda point: self.order.index(point[0]))
                tensor[row, 0] = torch.FloatTensor([x for _, x, _ in in_order])
                tensor[row, 1] = torch.FloatTensor([y for _, _, y in in_order])
            tensors.append(tensor)
        return tensors[0], tensors[1]

    def _pictures(self, paths: list[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        faces, sketches = [], []
        for face in paths:
            sketch = face.replace("/face/", "/sketch/")
            assert os.path.isfile(face) and os.path.isfile(sketch)  # noqa: PTH113
            faces.append(cv2.resize(cv2.imread(face), (128, 128)))
            sketches.append(cv2.imread(sketch))
        return faces, sketches

    def _floats(self, pictures: list[np.ndarray]) -> torch.Tensor:
        return torch.FloatTensor(np.transpose(np.asarray(pictures) / 255.0, (0, 3, 1, 2)))

    def _chunk(self, mel: np.ndarray, frame: int) -> np.ndarray:
        first = int(80.0 * (frame - 2) / 25)
        return mel[first : first + 16].T


def _write_per_frame(root: Path, clip: Clip, crops: list[np.ndarray]) -> None:
    places = {kind: root / kind / clip.clip_id for kind in ("face", "sketch", "landmarks", "audio")}
    for place in places.values():
        place.mkdir(parents=True)
    mesh = clip.landmarks[:, FACE_131, :2].astype(np.float64)
    boxes = landmark_box(mesh, (clip.width, clip.height), 5)
    points = over_box(mesh, boxes)
    pose, content = points[:, :74], points[:, 74:]
    for t, crop in enumerate(crops):
        cv2.imwrite(str(places["face"] / f"{t}.png"), crop[..., ::-1])
        cv2.imwrite(
            str(places["sketch"] / f"{t}.png"), _sketch(np.concatenate([pose[t], content[t]]), boxes[t])
        )
        stored = {}
        for key, indices, points in (
            ("pose_landmarks", FACE_131_POSE, pose[t]),
            ("content_landmarks", FACE_131_CONTENT, content[t]),
        ):
            # The official files hold the points in ascending order.
            tuples = [(int(i), float(x), float(y)) for i, (x, y) in zip(indices, points, strict=True)]
            stored[key] = sorted(tuples)
        np.save(places["landmarks"] / f"{t}.npy", stored)  # type: ignore[arg-type]
    assert clip.mel is not None
    np.save(places["audio"] / "audio.npy", clip.mel)


#: The sketch's edges, as places among the 131 points.
_EDGES = np.argsort(FACE_131)[np.searchsorted(np.sort(FACE_131), FACE_131_EDGES)]


def _sketch(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(128, 128, 3) uint8: ``points`` (131, 2) in 0 … 1, drawn in the proportions of ``box`` and then squeezed."""
    size = box[2:] - box[:2]
    width, height = (size * 128 / size.min()).astype(int).tolist()
    canvas = np.zeros((height, width, 3), np.uint8)
    lines = np.floor(points * [width, height]).astype(np.int32)[_EDGES]
    cv2.polylines(canvas, list(lines), False, (224, 224, 224))
    return cv2.resize(canvas, (128, 128))


def _real_clips(videos: list[Path]) -> Iterator[tuple[Clip, list[np.ndarray]]]:
    """Clips of real faces with their crops, cut from the videos so that they overlap."""
    from prep.facemesh.detector import FaceMesh
    from prep.landmarks import detect_clip

    each = -(-CLIPS // len(videos))
    number = 0
    with FaceMesh() as mesh:
        for video in videos:
            frames = list(video_reading.frames(video, 0, FRAMES + each, size=160))
            found = detect_clip(mesh, frames)
            samples = sound_reading.sound(video).samples
            for start in range(min(each, CLIPS - number)):
                span = slice(start, start + FRAMES)
                assert found.detected[span].all()
                matrices = VIEWS["box128"].transforms(found.landmarks[span], found.detected[span], 160, 160)
                crops = [VIEWS["box128"].crop(f, m) for f, m in zip(frames[span], matrices, strict=True)]
                clip = fake_clip(f"speaker/{number:05d}", FRAMES, width=160, height=160)
                clip.landmarks = found.landmarks[span].astype(np.float32)
                clip.transforms = {"box128": matrices}
                clip.audio = samples[640 * start : 640 * (start + FRAMES)]
                clip.mel = melspectrogram(clip.audio)
                yield clip, crops
                number += 1


def _textured_clips() -> Iterator[tuple[Clip, list[np.ndarray]]]:
    """Clips of drifting noise whose spectrum falls off as that of natural pictures does."""
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    for number in range(CLIPS):
        rng = np.random.default_rng(number)
        spectrum = np.fft.rfft2(rng.standard_normal((3, 256, 256))) / np.maximum(frequency, 1 / 256) ** 1.75
        texture = np.moveaxis(np.fft.irfft2(spectrum), 0, -1)
        texture = np.clip(128 + 50 * texture / texture.std(), 0, 255).astype(np.uint8)
        crops = [np.ascontiguousarray(texture[t : t + 128, t : t + 128]) for t in range(FRAMES)]
        yield fake_clip(f"speaker/{number:05d}", FRAMES, width=160, height=160), crops
