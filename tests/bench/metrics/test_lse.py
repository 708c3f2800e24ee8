"""LSE over whole frames: equal to the reference's figures, and to itself whatever the way the frames come."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.metrics import get_metric
from bench.metrics.base import ClipInfo, Context, Pictures
from bench.metrics.lossy import JpegEncoder, decode_jpeg
from bench.metrics.lse import LseLrs, LseTracked, SyncScore
from bench.metrics.syncnet import SyncNetV2, SyncReader, distances, judge
from bench.weights.store import Entry, WeightStore
from tests.bench.metrics.fake_syncnet import (
    PARITY,
    generated,
    moving_pictures,
    package_evaluation,
    score,
    through_jpeg,
    voice,
    weight_store,
)
from tests.parity.fill import make_input

N = 34


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return Context(weight_store(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def metric(context: Context) -> LseLrs:
    return LseLrs(context)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return moving_pictures(N, 90, 121)


def test_both_networks_give_the_official_features() -> None:
    spec = json.loads((PARITY / "syncnet_v2" / "spec.json").read_text())
    official = np.load(PARITY / "syncnet_v2" / "expected.npz")
    net = SyncNetV2(generated(spec["gain"]))
    inputs = {
        name: torch.from_numpy(make_input(name, i["shape"], i["low"], i["high"]))
        for name, i in spec["inputs"].items()
    }
    with torch.no_grad():
        sound = net.sound(inputs["mfcc"]).numpy()
        lip = net.lip(inputs["lips"].reshape(2, 15, 224, 224)).numpy()
    # Features of up to 116: the official float32 is wrong by 4e-4 itself.
    np.testing.assert_allclose(sound, official["forward_aud"], rtol=0, atol=4e-3)
    np.testing.assert_allclose(lip, official["forward_lip"], rtol=0, atol=4e-3)


def test_windows_are_cut_and_laid_out_as_the_package_cuts_them(metric: LseLrs) -> None:
    from bench.metrics.syncnet import original

    pictures = moving_pictures(7, 224, 224, seed=3)
    samples = voice(12, seed=4)
    net = original(torch.load(metric.context.weights.path("syncnet_v2"), weights_only=True))
    stack = torch.from_numpy(pictures.transpose(3, 0, 1, 2).astype(np.float32))
    from python_speech_features import mfcc

    columns = torch.from_numpy(mfcc(samples, 16_000).T.astype(np.float32))
    with torch.no_grad():
        lips = net.forward_lip(torch.stack([stack[:, i : i + 5] for i in range(3)]))
        sounds = net.forward_aud(torch.stack([columns[None, :, 4 * i : 4 * i + 20] for i in range(7)]))
    np.testing.assert_allclose(metric.net.lip_features(pictures), lips, rtol=0, atol=1e-4)
    np.testing.assert_allclose(metric.net.sound_features(samples, 7), sounds, rtol=0, atol=1e-4)


@pytest.mark.parametrize("vshift", [10, 15])
def test_distances_and_figures_are_the_official_ones(vshift: int) -> None:
    official = np.load(PARITY / "syncnet_metric" / "expected.npz")
    lips, other = (make_input(name, (30, 64), -1.0, 1.0) for name in ("im_feat", "cc_feat"))
    sounds = np.concatenate([0.7 * lips[2:], other[:2]]) + 0.5 * other
    table = distances(lips, sounds, vshift)
    found = judge(table)
    np.testing.assert_allclose(table, official[f"v{vshift}.dists"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(table.mean(axis=0), official[f"v{vshift}.mean_dist"], rtol=0, atol=1e-5)
    assert found.offset == official[f"v{vshift}.offset"]
    assert found.distance == pytest.approx(float(official[f"v{vshift}.min_dist_LSE_D"]), abs=1e-5)
    assert found.confidence == pytest.approx(float(official[f"v{vshift}.conf_LSE_C"]), abs=1e-5)


@pytest.mark.parametrize(("n_frames", "n_heard"), [(N, N), (N, N - 9), (N - 8, N)])
def test_equals_the_packages_own_evaluation(
    metric: LseLrs, frames: np.ndarray, tmp_path: Path, n_frames: int, n_heard: int
) -> None:
    """Also where sound or picture end first, and the sound in the middle of a frame."""
    frames, samples = frames[:n_frames], voice(n_heard, seed=1)[: 640 * n_heard - 100]
    ours = score(metric, frames, samples)
    offset, confidence, distance = package_evaluation(
        metric.context, through_jpeg(frames), samples, tmp_path / "files"
    )
    assert 3 < distance < 30
    assert ours.values["d"] == pytest.approx(distance, abs=1e-4)
    assert ours.values["c"] == pytest.approx(confidence, abs=1e-4)
    assert ours.values["offset"] == offset
    assert ours.values["abs_offset"] == abs(offset)


@pytest.mark.clips
def test_equals_the_packages_own_evaluation_on_a_real_clip(
    metric: LseLrs, clips_dir: Path, tmp_path: Path
) -> None:
    from prep import sound_reading, video_reading

    path = clips_dir / "talk5.mp4"
    frames = np.stack(list(islice(video_reading.frames(path), 40)))
    samples = sound_reading.sound(path).samples[: 640 * len(frames)]
    ours = score(metric, frames, samples)
    offset, confidence, distance = package_evaluation(
        metric.context, through_jpeg(frames), samples, tmp_path / "files"
    )
    assert ours.values["d"] == pytest.approx(distance, abs=1e-4)
    assert ours.values["c"] == pytest.approx(confidence, abs=1e-4)
    assert ours.values["offset"] == offset


@pytest.mark.parametrize("sizes", [(1,), (7, 2, 11), (N,)])
def test_the_sizes_of_batches_do_not_matter(
    metric: LseLrs, frames: np.ndarray, sizes: tuple[int, ...]
) -> None:
    one, other = (score(metric, frames, voice(N), s) for s in ((16,), sizes))
    assert one.values == other.values
    for key in ("d", "c"):
        np.testing.assert_array_equal(one.series[key], other.series[key])


def test_series_stand_at_the_middle_of_windows(metric: LseLrs, frames: np.ndarray) -> None:
    found = score(metric, frames, voice(N))
    for values in found.series.values():
        assert values.shape == (N,)
        assert np.isfinite(values[2 : N - 3]).all()
        assert np.isnan(values[:2]).all() and np.isnan(values[N - 3 :]).all()
    assert np.nanmean(found.series["d"]) == pytest.approx(found.values["d"], abs=1e-5)


def test_framewise_confidence_is_the_median_filtered_one() -> None:
    from scipy.signal import medfilt

    table = np.random.default_rng(0).uniform(5, 15, (20, 31))
    found = judge(table)
    median = np.median(table.mean(axis=0))
    np.testing.assert_array_equal(found.confidences, medfilt(median - found.distances, 9))


def test_rows_with_the_same_pictures_share_one_pass(
    context: Context, metric: LseLrs, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [score(metric, frames, voice(N, seed)) for seed in (0, 1)]
    passes = []
    run = metric.net.lip_features
    monkeypatch.setattr(metric.net, "lip_features", lambda p: passes.append(len(p) - 4) or run(p))
    pictures: dict[int, Pictures] = {}
    together = [score(metric, frames, voice(N, seed), pictures=pictures) for seed in (0, 1)]
    syncscore = score(SyncScore(context), frames, voice(N), pictures=pictures)
    assert sum(passes) == N - 5
    assert [a.values for a in alone] == [t.values for t in together]
    assert syncscore.values == {"": alone[0].values["c"]}
    np.testing.assert_array_equal(syncscore.series[""], alone[0].series["c"])


def test_what_came_before_is_not_shared(metric: LseLrs, frames: np.ndarray) -> None:
    """JPEG of the same last batch differs with the frames before it."""
    other = frames.copy()
    other[:16] = moving_pictures(16, 90, 121, seed=9)
    alone = score(metric, other, voice(N))
    pictures: dict[int, Pictures] = {}
    score(metric, frames, voice(N), pictures=pictures)
    del pictures[0]
    assert score(metric, other, voice(N), pictures=pictures).values == alone.values


@pytest.mark.parametrize("late", [-15, -4, 0, 1, 15])
def test_offset_is_positive_where_the_picture_is_late(late: int) -> None:
    common = np.random.default_rng(0).standard_normal((120, 32)).astype(np.float32)
    lips, sounds = common[20 - late : 100 - late], common[20:100]
    found = judge(distances(lips, sounds))
    assert found.offset == late
    assert found.distance < 8 * abs(late) / 80 + 1e-4  # the rest is against zeros
    assert found.confidence > 4


@pytest.mark.parametrize(("windows", "padded"), [(20, 0.75), (45, 1 / 3), (95, 15 / 95), (245, 15 / 245)])
def test_comparisons_with_zeros_beyond_the_ends_are_averaged_in(windows: int, padded: float) -> None:
    """Lips of zero against sound of length 10: whatever is less than 10 is padding."""
    sounds = np.zeros((windows, 4), np.float32)
    sounds[:, 0] = 10
    means = distances(np.zeros_like(sounds), sounds).mean(axis=0)
    assert means[15] == pytest.approx(10, abs=1e-4)
    assert means[[0, 30]] == pytest.approx(10 * (1 - padded), abs=1e-4)


@pytest.mark.parametrize(("n_frames", "n_samples"), [(5, 6400), (30, 6 * 640 - 1), (30, 0)])
def test_too_few_frames_with_sound_are_a_reason(
    metric: LseLrs, frames: np.ndarray, n_frames: int, n_samples: int
) -> None:
    n = min(n_frames, n_samples // 640)
    with pytest.raises(Unscorable, match=f"^{n} frames with sound, at least 6 are needed$"):
        score(metric, frames[:n_frames], voice(30)[:n_samples])


def test_six_frames_are_enough(metric: LseLrs, frames: np.ndarray) -> None:
    assert np.isfinite(score(metric, frames[:6], voice(6)).values["d"])


@pytest.mark.parametrize("kind", [LseLrs, SyncScore])
def test_a_clip_without_sound_is_a_reason(context: Context, kind: type[LseLrs]) -> None:
    with pytest.raises(Unscorable, match="no audio track"):
        kind(context).meter(ClipInfo("clip", 30, 64, 64, "clip", None))


@pytest.mark.parametrize("shape", [(64, 96), (65, 97)])
def test_jpeg_is_what_imread_sees_and_remembers_the_frames_before(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    frames = moving_pictures(3, *shape)
    encoder = JpegEncoder()
    files = [encoder.encode(frame) for frame in frames]
    path = tmp_path / "000001.jpg"
    path.write_bytes(files[2])
    np.testing.assert_array_equal(decode_jpeg(files[2]), cv2.imread(str(path)))
    assert decode_jpeg(files[2]).shape == (*shape, 3)
    assert files[2] != JpegEncoder().encode(frames[2])
    error = decode_jpeg(files[0])[..., ::-1].astype(float) - frames[0]
    assert np.sqrt((error**2).mean()) < 12


def test_jpeg_grows_coarse_where_200_kilobits_a_second_do_not_do() -> None:
    """FFmpeg's extraction of JPEG from video, known from its log as q=24.8."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 256, 256, 3), np.uint8)
    quantisers = {}
    for fixed in (False, True):
        encoder = JpegEncoder(fixed)
        files = [encoder.encode(frame) for frame in noise]
        quantisers[fixed] = [_quantiser(data) for data in files]
    assert quantisers[True] == [2] * 40
    assert quantisers[False][-1] > 20


def _quantiser(data: bytes) -> int:
    """MPEG's quantiser from the first AC entry (16 of the default matrix, in eighths) of the table."""
    return round(data[data.index(b"\xff\xdb") + 6] * 8 / 16)


def test_missing_weights_name_their_remedy(tmp_path: Path) -> None:
    entry = Entry(name="syncnet_v2", file="syncnet_v2.model", urls=("https://example.org/x",))
    with pytest.raises(Unavailable, match="bench weights fetch syncnet_v2"):
        LseLrs(Context(WeightStore({"syncnet_v2": entry}, [tmp_path])))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "syncnet_v2.model")
    entry = Entry(name="syncnet_v2", file="syncnet_v2.model")
    with pytest.raises(BenchError, match=r"syncnet_v2\.model does not hold the weights of SyncNet v2"):
        LseLrs(Context(WeightStore({"syncnet_v2": entry}, [tmp_path])))


@pytest.mark.parametrize(
    ("module", "reason"),
    [("av", "PyAV is not installed"), ("syncnet_python.SyncNetModel", "syncnet-python is not installed")],
)
def test_a_missing_package_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, reason: str
) -> None:
    store = weight_store(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unavailable, match=reason):
        LseLrs(Context(store))


def test_variants_have_the_same_parameters_and_differ_in_what_they_show() -> None:
    lrs, other = LseLrs.spec, LseTracked.spec
    assert lrs.parameters.keys() == other.parameters.keys()
    assert lrs.hash != other.hash
    for name in ("lse.lrs", "lse.tracked", "syncscore"):
        spec = get_metric(name).spec
        assert spec.name == name
        assert not spec.paired and not spec.regions and spec.needs == {"audio"}


def test_the_module_loads_nothing_that_may_be_missing() -> None:
    code = (
        "import sys, bench.metrics.lse; "
        "print([m for m in ('av', 'mediapipe', 'dask', 'pandas', 'skimage', 'syncnet_python', 'scenedetect') "
        "if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_reader_keeps_no_more_pictures_than_a_chunk_needs(metric: LseLrs) -> None:
    reader = SyncReader(metric.net, voice(60))
    kept = []
    for picture in moving_pictures(60, 32, 32):
        reader.add([picture])
        kept.append(len(reader.kept))
    assert max(kept) <= 13
