"""Face tracks: chained, cut and scored as SyncNet's own pipeline does it, on made-up faces."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.signal import medfilt

from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.metrics import tracked
from bench.metrics.base import ClipInfo, Context
from bench.metrics.lossy import AviWriter, JpegEncoder, avi_frames, decode_jpeg
from bench.metrics.lse import LseTracked
from bench.metrics.syncnet import Sync, SyncNetV2, SyncReader
from bench.metrics.tracked import Track, crops, find_shots, find_tracks, overlap
from bench.weights.store import Entry, WeightStore
from tests.bench.metrics.fake_syncnet import moving_pictures, score, voice, weight_store

N = 108
#: The face of the made-up videos: a red square, which the made-up detector finds by its colour.
RED = (220, 20, 20)


def box(x: float = 100, y: float = 100, side: float = 120) -> np.ndarray:
    return np.array([x, y, x + side, y + side * 1.2])


def detections(n: int, *faces: dict[int, np.ndarray]) -> list[np.ndarray]:
    """(k, 4) boxes of n frames; each face is a dict of frame → box."""
    return [np.array([f[i] for f in faces if i in f]).reshape(-1, 4) for i in range(n)]


def drifting(frames: range, x: float = 100, y: float = 100, side: float = 120) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(len(frames))
    return {i: box(x + 0.3 * (i - frames.start), y, side) + rng.normal(0, 2, 4) for i in frames}


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return weight_store(tmp_path)


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 15, 10])) == pytest.approx(1 / 3)
    assert overlap(np.array([0.0, 0, 10, 10]), np.array([20.0, 20, 30, 30])) == 0


@pytest.mark.parametrize(("n", "found"), [(100, 0), (101, 1)])
def test_a_track_has_more_than_100_detections(n: int, found: int) -> None:
    assert len(find_tracks(range(120), detections(120, drifting(range(n))))) == found


@pytest.mark.parametrize(("side", "found"), [(75, 0), (95, 1)])
def test_a_track_is_wider_or_higher_than_100_pixels(side: float, found: int) -> None:
    """Boxes are 1.2 times as high as wide: 90 and 114 px."""
    faces = detections(120, drifting(range(110), side=side))
    assert len(find_tracks(range(120), faces)) == found


@pytest.mark.parametrize(("missing", "found"), [(24, 1), (25, 0)])
def test_a_gap_of_25_frames_is_bridged(missing: int, found: int) -> None:
    """A detection at most 25 frames after the last one goes on; both halves alone are too short."""
    face = drifting(range(160))
    for i in range(70, 70 + missing):
        del face[i]
    tracks = find_tracks(range(160), detections(160, face))
    assert len(tracks) == found
    if found:
        assert len(tracks[0]) == 160
        middle = tracks[0].boxes[82]
        np.testing.assert_allclose(middle, face[69] + (face[94] - face[69]) * 13 / 25)


def test_a_jump_ends_a_track_and_begins_another() -> None:
    face = drifting(range(110)) | drifting(range(110, 230), x=300)
    tracks = find_tracks(range(230), detections(230, face))
    assert [(track.start, len(track)) for track in tracks] == [(0, 110), (110, 120)]


def test_two_faces_in_any_order_are_two_tracks() -> None:
    one, other = drifting(range(110)), drifting(range(110), x=500)
    faces = [frame[:: (-1) ** i] for i, frame in enumerate(detections(110, one, other))]
    tracks = find_tracks(range(110), faces)
    assert [len(track) for track in tracks] == [110, 110]
    np.testing.assert_allclose(tracks[0].boxes, np.stack(list(one.values())))
    np.testing.assert_allclose(tracks[1].boxes, np.stack(list(other.values())))


def test_frames_are_counted_from_the_beginning_of_the_clip() -> None:
    tracks = find_tracks(range(50, 160), detections(110, drifting(range(3, 110))))
    assert [(track.start, len(track)) for track in tracks] == [(53, 107)]


@pytest.mark.parametrize("seed", range(4))
def test_chains_one_face_as_the_package_does(seed: int) -> None:
    """Gaps, jumps and noise; with one face a frame the package's own chaining is the official one."""
    from syncnet_python.syncnet_pipeline import PipelineConfig, SyncNetPipeline

    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.choice([0, 2, 400], 500, p=[0.5, 0.495, 0.005]))
    present = np.repeat(rng.random(100) < 0.9, 5)
    face = {i: box(x[i]) + rng.normal(0, 3, 4) for i in range(500) if present[i]}
    faces = detections(500, face)
    pipeline: Any = SyncNetPipeline.__new__(SyncNetPipeline)
    pipeline.cfg = PipelineConfig(min_track=tracked.MIN_TRACK)
    theirs = pipeline._track(
        [[{"frame": i, "bbox": list(f)} for f in frame] for i, frame in enumerate(faces)]
    )
    ours = find_tracks(range(500), faces)
    assert ours
    assert [track.start for track in ours] == [track["frame"][0] for track in theirs]
    for track, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(track.boxes, other["bbox"], atol=1e-9)


def test_crops_are_those_of_the_reference() -> None:
    """Its steps written once more, with NumPy's padding and SciPy's median filter, near a corner of the picture."""
    rng = np.random.default_rng(0)
    pictures = moving_pictures(30, 240, 320)
    boxes = np.stack([box(20 + i, 10, 110) for i in range(30)]) + rng.normal(0, 3, (30, 4))
    track = Track(5, boxes)
    found = list(crops(track, lambda frame: pictures[frame - 5]))
    x1, y1, x2, y2 = boxes.T
    s = medfilt(np.maximum(x2 - x1, y2 - y1) / 2, 13)
    x, y = medfilt((x1 + x2) / 2, 13), medfilt((y1 + y2) / 2, 13)
    assert len(found) == 30
    for i, face in enumerate(found):
        pad = int(s[i] * 1.8)
        padded = np.pad(pictures[i], ((pad, pad), (pad, pad), (0, 0)), constant_values=110)
        mx, my, bs = x[i] + pad, y[i] + pad, s[i]
        cut = padded[int(my - bs) : int(my + bs * 1.8), int(mx - bs * 1.4) : int(mx + bs * 1.4)]
        np.testing.assert_array_equal(face, cv2.resize(cut, (224, 224)))
    assert (found[15][:, 0] == 110).all()


def test_a_box_outside_of_the_picture_is_a_reason() -> None:
    track = Track(0, np.stack([box(-900)] * 20))
    with pytest.raises(Unscorable, match="outside of the picture"):
        list(crops(track, lambda frame: np.zeros((100, 100, 3), np.uint8)))


def write_avi(path: Path, frames: np.ndarray) -> None:
    writer = AviWriter(path, frames.shape[2], frames.shape[1])
    for frame in frames:
        writer.write(frame)
    writer.finish()


@pytest.mark.parametrize("cuts", [(), (40,), (30, 60)])
def test_shots_end_at_cuts(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    shots = len(cuts) + 1
    stills = moving_pictures(shots, 120, 160, seed=1)
    edges = [0, *cuts, 90]
    frames = np.concatenate([np.repeat(stills[[i]], edges[i + 1] - edges[i], axis=0) for i in range(shots)])
    write_avi(tmp_path / "video.avi", frames)
    assert find_shots(tmp_path / "video.avi", 90) == [range(edges[i], edges[i + 1]) for i in range(shots)]


@pytest.mark.parametrize("shape", [(96, 128), (97, 131)])
def test_the_first_two_generations_keep_frames_sizes_and_levels(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    frames = moving_pictures(20, *shape)
    frames[5], frames[6] = 255, 0
    write_avi(tmp_path / "video.avi", frames)
    encoder = JpegEncoder(fixed=True)
    found = [decode_jpeg(encoder.encode(frame))[..., ::-1] for frame in avi_frames(tmp_path / "video.avi")]
    assert len(found) == 20 and found[0].shape == (*shape, 3)
    assert found[5].min() >= 250 and found[6].max() <= 5
    for frame, other in zip(frames, found, strict=True):
        assert np.abs(frame.astype(int) - other).mean() < 6


class RedFaces:
    """Finds the bounding box of what is red."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        self.seen += 1
        blue, green, red = (picture[..., c].astype(int) for c in range(3))
        ys, xs = np.nonzero((red > 150) & (blue < 90) & (green < 90))
        if not len(xs):
            return np.empty((0, 4))
        return np.array([[xs.min(), ys.min(), xs.max() + 1.0, ys.max() + 1.0]])


@pytest.fixture
def metric(store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> LseTracked:
    monkeypatch.setattr(tracked, "load_s3fd", lambda context: RedFaces())
    return LseTracked(Context(store))


def red_square(n: int, width: int = 200, height: int = 180, side: int = 110) -> np.ndarray:
    """(n, height, width, 3): a red square with a mouth that moves, on grey, wandering to the right."""
    frames = np.full((n, height, width, 3), 128, np.uint8)
    mouths = np.random.default_rng(0).integers(0, 255, (n, 3), np.uint8)
    for i, frame in enumerate(frames):
        x = 20 + i // 6
        frame[30 : 30 + side, x : x + side] = RED
        frame[100:125, x + 30 : x + 80] = mouths[i]
    return frames


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_clip_is_scored_through_all_generations(
    metric: LseTracked, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are those of SyncNet over the cut face, whatever the batches; nothing stays on the disk."""
    frames, samples = red_square(N), voice(N)
    shown: list[np.ndarray] = []
    add = SyncReader.add

    def spy(self: SyncReader, pictures: Any, share: Any = None) -> None:
        shown.extend(pictures)
        add(self, shown, share)

    monkeypatch.setattr(SyncReader, "add", spy)
    one = score(metric, frames, samples, (16,))
    monkeypatch.setattr(SyncReader, "add", add)
    other = score(metric, frames, samples, (N,))
    assert not list(folders.iterdir())
    assert one.notes == {"tracks": 1}
    assert one.values == other.values
    assert np.isfinite(list(one.values.values())).all()
    assert np.isnan(one.series["d"][[0, 1, -1, -2, -3]]).all() and np.isfinite(one.series["c"][2:-3]).all()
    assert len(shown) == N and shown[0].shape == (224, 224, 3)
    # The face fills the crop as the reference cuts it: 110 of 2.8 half sides wide, from the top down to 2 of 2.8.
    red = RedFaces()(shown[60])[0] / 224
    np.testing.assert_allclose(red, [0.4 / 2.8, 0, 2.4 / 2.8, 2 / 2.8], atol=0.03)


def test_the_figures_are_the_means_over_the_tracks_with_their_own_sound(
    metric: LseTracked, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shots with three black frames between them; SyncNet's answers are made up."""
    heard: list[np.ndarray] = []

    def fake_finish(self: SyncReader) -> Sync:
        heard.append(self.samples)
        k, n = len(heard), self.n_windows
        return Sync(10 - 6 * k, 3.0 * k, 2.0 * k, np.full(n, 3.0 * k), np.full(n, 2.0 * k))

    monkeypatch.setattr(SyncReader, "finish", fake_finish)
    monkeypatch.setattr(SyncNetV2, "lip_features", lambda self, p: np.zeros((len(p) - 4, 1), np.float32))
    shots = [range(N), range(N, N + 3), range(N + 3, 2 * N + 3)]
    monkeypatch.setattr(tracked, "find_shots", lambda video, n: shots)
    black = np.zeros((3, 180, 200, 3), np.uint8)
    frames = np.concatenate([red_square(N), black, red_square(N, side=125)])
    samples = voice(len(frames))
    found = score(metric, frames, samples)
    np.testing.assert_array_equal(heard[0], samples[: 640 * N])
    np.testing.assert_array_equal(heard[1], samples[640 * (N + 3) :])
    assert found.values == {"d": 4.5, "c": 3.0, "offset": 1.0, "abs_offset": 3.0}
    assert found.notes == {"tracks": 2}
    assert found.series["d"][50] == 3 and found.series["d"][N + 50] == 6
    assert np.isnan(found.series["d"][N])


def test_a_clip_without_a_face_is_a_reason_and_leaves_nothing(metric: LseTracked, folders: Path) -> None:
    with pytest.raises(Unscorable, match="no face track of more than 100 detections"):
        score(metric, np.full((N, 64, 64, 3), 90, np.uint8), voice(N))
    assert not list(folders.iterdir())


def test_a_clip_too_short_for_a_track_is_not_searched(metric: LseTracked, folders: Path) -> None:
    with pytest.raises(Unscorable, match="no face track of more than 100 detections"):
        metric.meter(ClipInfo("clip", 100, 64, 64, "clip", voice(100)))
    with pytest.raises(Unscorable, match="no audio track"):
        metric.meter(ClipInfo("clip", 200, 64, 64, "clip", None))
    assert not list(folders.iterdir())


def test_a_meter_that_saw_nothing_can_be_closed(metric: LseTracked, folders: Path) -> None:
    meter = metric.meter(ClipInfo("clip", N, 64, 64, "clip", voice(N)))
    with pytest.raises(Unscorable):
        meter.finish()
    meter.close()
    assert not list(folders.iterdir())


def test_missing_s3fd_weights_name_their_remedy(store: WeightStore) -> None:
    with pytest.raises(Unavailable, match="bench weights fetch s3fd"):
        LseTracked(Context(store))


def test_s3fd_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "sfd_face.pth")
    store = WeightStore({"s3fd": Entry(name="s3fd", file="sfd_face.pth")}, [tmp_path])
    with pytest.raises(BenchError, match=r"sfd_face\.pth does not hold the weights of S3FD"):
        tracked.load_s3fd(Context(store))


def test_s3fd_runs_as_in_the_package(tmp_path: Path) -> None:
    """With random weights, biased so that its coarsest anchors are faces."""
    from syncnet_python.detectors.s3fd import S3FD
    from syncnet_python.detectors.s3fd.nets import S3FDNet

    torch.manual_seed(0)
    net = S3FDNet(device="cpu")
    with torch.no_grad():
        net.conf[5].bias.copy_(torch.tensor([-4.0, 4.0]))
    torch.save(net.state_dict(), tmp_path / "sfd_face.pth")
    store = WeightStore({"s3fd": Entry(name="s3fd", file="sfd_face.pth")}, [tmp_path])
    picture = moving_pictures(1, 400, 600)[0]
    found = tracked.load_s3fd(Context(store))(picture)
    rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    theirs = S3FD(net, device="cpu").detect_faces(rgb, conf_th=0.9, scales=[0.25])
    assert len(found) > 0
    np.testing.assert_array_equal(found, theirs[:, :4])


def test_the_specification_states_every_step() -> None:
    parameters = LseTracked.spec.parameters
    assert len(parameters["generations"]) == 4
    assert parameters["track"]["detections_above"] == 100
    assert "no picture in front of the first" in parameters["generations"][0]
    assert "it begins with the first picture" in parameters["audio"]
    assert parameters["crop"] == {"scale": 0.4, "median_filter": 13, "pad_value": 110}
    assert set(asdict(LseTracked.spec)["weights"]) == {"syncnet_v2", "s3fd"}
