"""FID: equal to package pytorch-fid with the same (generated) weights; known distances; intervals; memory."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import ClipInfo, Context
from bench.metrics.fid import FidAt128, FidBatches, FidClean, FidPytorchFid, antialiased, squashed
from bench.metrics.frechet import (
    Moments,
    distance_of,
    distance_of_moments,
    estimate,
    moments_of,
    quick_distance,
)
from bench.weights.store import WeightStore
from tests.bench.metrics.generated import (
    FILES,
    cut,
    feed,
    fid_package,
    noisy,
    pictures,
    score,
    state_dict,
    weight_store,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WeightStore:
    return weight_store(tmp_path_factory.mktemp("weights"), "fid_inception")


@pytest.fixture(scope="module")
def fid(store: WeightStore) -> FidPytorchFid:
    return FidPytorchFid(Context(store))


@pytest.fixture(scope="module")
def package() -> torch.nn.Module:
    return fid_package(state_dict("fid_inception"))


def save(frames: np.ndarray, folder: Path) -> list[str]:
    folder.mkdir()
    for i, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{i:03d}.png"), frame[..., ::-1])
    return sorted(map(str, folder.iterdir()))


def package_features(frames: np.ndarray, package: torch.nn.Module, folder: Path) -> np.ndarray:
    """The package's own function over PNG files."""
    from pytorch_fid.fid_score import get_activations

    features: np.ndarray = get_activations(save(frames, folder), package, batch_size=4, num_workers=0)
    return features


def package_distance(a: np.ndarray, b: np.ndarray) -> float:
    from pytorch_fid.fid_score import calculate_frechet_distance

    of_a, of_b = ((x.mean(axis=0), np.cov(x, rowvar=False)) for x in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an argument to scipy.linalg.sqrtm
        try:
            return float(calculate_frechet_distance(*of_a, *of_b))
        except TypeError:
            pytest.skip("this SciPy no longer takes what pytorch-fid 0.3 passes to sqrtm")


def vectors(n: int, d: int, seed: int, mean: float = 0.0) -> np.ndarray:
    """(n, d) float32 with correlated columns of very different sizes."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((d, d)) * np.geomspace(1, 0.03, d)
    return (rng.standard_normal((n, d)) @ mixing + mean).astype(np.float32)


def clips_of(n_clips: int, frames: int, d: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Clips whose frames lie close together, the prediction beside the truth."""
    clips = []
    for i in range(n_clips):
        truth = vectors(1, d, 1000 * seed + i) + 0.3 * vectors(frames + i % 3, d, 1000 * seed + 500 + i)
        clips.append((truth * 1.1 + 0.2 * vectors(len(truth), d, 7000 + i), truth))
    return clips


@pytest.mark.parametrize("side", [(75, 98), (256, 256), (320, 300)])
def test_features_equal_the_packages(
    fid: FidPytorchFid, package: torch.nn.Module, tmp_path: Path, side: tuple[int, int]
) -> None:
    frames = pictures(5, *side)
    expected = package_features(frames, package, tmp_path / "png")
    found = fid.features(frames)
    assert found.shape == (5, 2048) and found.dtype == np.float32
    assert expected.std() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * expected.max())


@pytest.mark.slow
def test_equals_the_package_from_pictures_to_the_figure(
    fid: FidPytorchFid, package: torch.nn.Module, tmp_path: Path
) -> None:
    truth = pictures(24, 96, 96)
    pred = noisy(truth, 20, seed=1)
    found = fid.reduce([score(fid, pred, truth).features])
    expected = package_distance(
        package_features(pred, package, tmp_path / "pred"),
        package_features(truth, package, tmp_path / "truth"),
    )
    assert found.values[""] == pytest.approx(expected, rel=1e-3)


def test_the_size_of_batches_does_not_matter(fid: FidPytorchFid) -> None:
    frames = pictures(9, 64, 80)
    whole = fid.features(frames)
    for size in (1, 4):
        parts = score(fid, frames, frames, size).features[0]
        np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6 * whole.max())


def test_clean_input_is_an_antialiased_bicubic_resize() -> None:
    large, small = pictures(2, 500, 400), pictures(2, 60, 90)
    for frames in (large, small):
        found = antialiased(frames)
        planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        expected = torch.nn.functional.interpolate(
            planes, size=(299, 299), mode="bicubic", antialias=True, align_corners=False
        )
        torch.testing.assert_close(found, (expected.clamp(0, 255) - 128) / 128, rtol=0, atol=1e-4)
    edges = np.zeros((1, 600, 600, 3), np.uint8)
    edges[:, 300:] = 255  # a cubic overshoots at an edge
    assert antialiased(edges).min() == -1 and antialiased(edges).max() == 127 / 128


def test_clean_features_come_of_the_clean_input(store: WeightStore, package: torch.nn.Module) -> None:
    frames = pictures(2, 400, 400)
    package.resize_input = package.normalize_input = False
    try:
        with torch.no_grad():
            expected = package(antialiased(frames))[0][:, :, 0, 0].numpy()
    finally:
        package.resize_input = package.normalize_input = True
    clean = FidClean(Context(store)).features(frames)
    np.testing.assert_allclose(clean, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_methods_share_the_truth_and_its_own_row_costs_nothing(
    fid: FidPytorchFid, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def counted(frames: np.ndarray) -> np.ndarray:
        nonlocal seen
        seen += len(frames)
        return frames.reshape(len(frames), -1)[:, :7].astype(np.float32)

    monkeypatch.setattr(fid, "features", counted)
    frames = pictures(6, 32, 32)
    truth = cut(frames, 4)
    info = ClipInfo("clip", 6, 32, 32, "full")
    of_method = feed(fid.meter(info), cut(noisy(frames, 5), 4), truth)
    of_truth = feed(fid.meter(info), truth, truth)
    assert seen == 12
    assert of_method.features[0].shape == (6, 7)
    np.testing.assert_array_equal(of_truth.features[0], of_method.features[1])
    assert fid.reduce([of_truth.features]).values == {"": 0.0}


def test_nothing_is_downloaded_and_the_package_stays_as_it_is(
    store: WeightStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytorch_fid import inception

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(inception, "load_state_dict_from_url", refuse)
    before = dict(vars(inception))
    FidPytorchFid(Context(store))
    assert dict(vars(inception)) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("Mixed_6e.branch7x7_2.bn.running_var"), "it lacks Mixed_6e.branch7x7_2.bn"),
        (
            lambda state: state.update({"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 5, 5)}),
            r"Conv2d_1a_3x3.conv.weight is \(32, 3, 5, 5\), not \(32, 3, 3, 3\)",
        ),
    ],
)
def test_another_networks_weights_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    state = state_dict("fid_inception")
    change(state)
    store = weight_store(tmp_path)
    torch.save(state, tmp_path / FILES["fid_inception"])
    with pytest.raises(Unavailable, match=message) as caught:
        FidPytorchFid(Context(store))
    assert str(tmp_path / FILES["fid_inception"]) in caught.value.reason
    assert caught.value.remedy == "bench weights fetch fid_inception"


@pytest.mark.parametrize("n", [2000, 150])
def test_distance_equals_the_packages(n: int) -> None:
    """In 96 dimensions: far more vectors than these, or hardly more."""
    a, b = vectors(n, 96, 1, mean=2.0), 1.3 * vectors(n + 7, 96, 2)
    expected = package_distance(a.astype(np.float64), b.astype(np.float64))
    assert distance_of([(a, b)]) == pytest.approx(expected, rel=1e-9)
    assert distance_of_moments(*moments_of([(a, b)])) == pytest.approx(expected, rel=1e-9)
    assert quick_distance(*moments_of([(a, b)])) == pytest.approx(expected, rel=1e-9)


def test_distance_equals_the_packages_where_covariances_are_singular() -> None:
    a, b = vectors(40, 200, 1), vectors(50, 200, 2, mean=0.3)
    expected = package_distance(a.astype(np.float64), b.astype(np.float64))
    assert distance_of([(a, b)]) == pytest.approx(expected, rel=1e-4)
    assert distance_of_moments(*moments_of([(a, b)])) == pytest.approx(distance_of([(a, b)]), rel=1e-7)


@pytest.mark.parametrize("n", [30, 400])
def test_known_distances(n: int) -> None:
    """Less and more vectors than dimensions; powers of two, so that float32 is exact."""
    a = vectors(n, 64, 3)
    trace = float(np.cov(a, rowvar=False).trace())
    mean = a.astype(np.float64).mean(axis=0)
    for of in (distance_of, lambda pairs: distance_of_moments(*moments_of(pairs))):
        assert of([(a, a)]) <= 1e-12 * trace
        assert of([(a, a[::-1])]) <= 1e-12 * trace
        assert of([(2 * a, a)]) == pytest.approx(trace + mean @ mean, rel=1e-9)
        shifted = a.astype(np.float64) + 3.0
        assert of([(shifted, a)]) == pytest.approx(9.0 * 64, rel=1e-9)
        constant = np.zeros_like(a)
        assert of([(a, constant)]) == pytest.approx(trace + mean @ mean, rel=1e-9)


def test_of_the_same_vectors_a_large_mean_costs_no_digits() -> None:
    near = [
        (vectors(50, 20, i).astype(np.float64), vectors(60, 20, i + 9).astype(np.float64)) for i in range(9)
    ]
    far = [(a + 1e6, b + 1e6) for a, b in near]
    expected = distance_of_moments(*moments_of(near))
    assert distance_of_moments(*moments_of(far)) == pytest.approx(expected, rel=1e-6)


def test_moments_merge_in_any_order_and_parts_can_be_taken_out() -> None:
    parts = [vectors(n, 12, n, mean=n) for n in (1, 30, 2, 17, 45)]
    forth, back, rest, part = (Moments(12) for _ in range(4))
    for vecs in parts:
        forth.add(vecs)
    for vecs in reversed(parts):
        back.add(vecs)
    everything = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(forth.mean, everything.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(forth.covariance, np.cov(everything, rowvar=False), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(forth.covariance, back.covariance, rtol=1e-9, atol=1e-12)
    for vecs in parts[:3]:
        rest.add(vecs)
    for vecs in parts[3:]:
        part.add(vecs)
    left = forth.without(part)
    assert left.n == rest.n == 33
    np.testing.assert_allclose(left.mean, rest.mean, rtol=1e-9)
    np.testing.assert_allclose(left.covariance, rest.covariance, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("n_clips", "d"), [(7, 400), (26, 400), (26, 24)])
def test_the_interval_is_a_jackknife_over_groups_of_clips(n_clips: int, d: int) -> None:
    """With less frames than dimensions, and with more, where sums alone are kept."""
    clips = clips_of(n_clips, 9, d)
    found = estimate(clips)
    groups = np.array_split(np.arange(n_clips), n_clips) if n_clips < 20 else None
    if groups is None:
        groups = [np.arange(n_clips * g // 20, n_clips * (g + 1) // 20) for g in range(20)]
    values = np.array([distance_of([c for i, c in enumerate(clips) if i not in group]) for group in groups])
    error = np.sqrt((len(groups) - 1) / len(groups) * ((values - values.mean()) ** 2).sum())
    assert found.groups == len(groups)
    assert found.value == pytest.approx(distance_of(clips), rel=1e-9)
    assert found.high - found.value == pytest.approx(1.96 * error, rel=1e-5)
    assert found.low == pytest.approx(max(0, found.value - 1.96 * error), rel=1e-5)
    assert 0 < found.low < found.value


@pytest.mark.parametrize("d", [400, 24])
def test_the_order_of_clips_does_not_move_the_figure(d: int) -> None:
    clips = clips_of(12, 9, d)
    assert estimate(clips[::-1]).value == pytest.approx(estimate(clips).value, rel=1e-9)


def test_the_interval_covers_what_more_clips_would_give() -> None:
    """Of samples of 25 clips, the intervals of most hold the figure that the jackknife estimates."""
    runs = [estimate(clips_of(25, 12, 6, seed)) for seed in range(30)]
    middle = np.mean([run.value for run in runs])
    assert sum(run.low <= middle <= run.high for run in runs) >= 24
    assert all(run.high < 4 * run.value for run in runs)


def test_without_two_clips_or_two_frames_there_is_no_interval(fid: FidPytorchFid) -> None:
    one = fid.reduce(clips_of(1, 5, 30))
    assert one.values[""] > 0 and not one.low and not one.high and one.interval == ""
    (a, b), *_ = clips_of(2, 3, 30)
    lopsided = estimate([(a, b), (a[:1], b[:1])])  # without the first clip there is one frame
    assert lopsided.value > 0 and lopsided.low is None


def test_the_metric_names_its_interval(fid: FidPytorchFid) -> None:
    found = fid.reduce(clips_of(25, 4, 150))
    assert found.interval == "jackknife (20 groups of clips)"
    assert found.low[""] < found.values[""] < found.high[""]
    assert fid.reduce(clips_of(3, 4, 150)).interval == "jackknife (3 groups of clips)"


@pytest.mark.parametrize("d", [400, 24])
def test_truth_against_itself_is_exactly_nothing(d: int) -> None:
    clips = [(truth, truth.copy()) for _, truth in clips_of(8, 9, d)]
    found = estimate(clips)
    assert (found.value, found.low, found.high, found.groups) == (0.0, 0.0, 0.0, 8)


@pytest.mark.parametrize("clips", [[], [(vectors(1, 9, 0), vectors(1, 9, 1))]])
def test_a_single_frame_has_no_covariance(fid: FidPytorchFid, clips: Any) -> None:
    with pytest.raises(Unscorable, match="at least 2 frames"):
        fid.reduce(clips)


class Lazy(Sequence):
    """Clips that are made anew at each access, as they are read anew from disk; one at a time."""

    def __init__(self, n: int) -> None:
        self.n, self.reads = n, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(index, (int, np.integer)) and 0 <= index < self.n
        self.reads += 1
        rng = np.random.default_rng(int(index))
        truth = rng.standard_normal((50, 64), np.float32) + rng.standard_normal((1, 64), np.float32)
        return truth * np.float32(1.2), truth


def test_memory_is_flat_over_many_clips() -> None:
    peaks = []
    for n in (40, 2000):
        clips = Lazy(n)
        tracemalloc.start()
        found = estimate(clips)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.low < found.value < found.high
        assert clips.reads <= 2 * n + 3
    assert peaks[1] < 2 * peaks[0]


def test_small_pictures_are_those_of_iplap(store: WeightStore, fid: FidPytorchFid) -> None:
    frames = pictures(2, 200, 150)
    assert squashed(frames).shape == (2, 128, 128, 3)
    found = FidAt128(Context(store)).features(frames)
    np.testing.assert_array_equal(found, fid.features(squashed(frames)))


@pytest.mark.parametrize(("n_clips", "n_batches"), [(5, 1), (96, 1), (191, 1), (200, 2)])
def test_batches_of_96_frames(store: WeightStore, n_clips: int, n_batches: int) -> None:
    clips = clips_of(n_clips, 7, 20)
    found = FidBatches(Context(store)).reduce(clips)
    order = np.random.default_rng(0).permutation(n_clips)
    if n_clips < 96:
        # 20 frames of each clip, 16 of the last four
        frames = [int((r + 0.5) / 20 * len(clips[c][1])) for r in range(20) for c in order][:96]
        chosen = [(int(order[i % n_clips]), frame) for i, frame in enumerate(frames)]
    else:
        chosen = [(int(c), len(clips[c][1]) // 2) for c in order[: 96 * n_batches]]
    pairs = [(clips[c][0][f : f + 1], clips[c][1][f : f + 1]) for c, f in chosen]
    expected = np.mean([distance_of(pairs[96 * b : 96 * b + 96]) for b in range(n_batches)])
    assert found.values[""] == pytest.approx(expected, rel=1e-9)
    assert not found.low and found.interval == ""
