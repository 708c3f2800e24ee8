"""LPIPS: equal to the package on the same (generated) backbone, and to itself whatever the way the frames come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.common.errors import Unavailable, Unscorable
from bench.metrics import lpips as module
from bench.metrics.base import ClipInfo, Context, Pictures
from bench.metrics.lpips import LpipsAlex, LpipsAlexUnit, LpipsVgg
from bench.weights.store import WeightStore
from tests.bench.metrics.generated import (
    FILES,
    cut,
    feed,
    lpips_package,
    noisy,
    pictures,
    score,
    shapes,
    state_dict,
    weight_store,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> WeightStore:
    return weight_store(tmp_path_factory.mktemp("weights"), "alexnet", "vgg16")


@pytest.fixture(scope="module")
def alex(store: WeightStore) -> LpipsAlex:
    return LpipsAlex(Context(store))


def package_values(name: str, pred: np.ndarray, truth: np.ndarray, low: float = -1.0) -> np.ndarray:
    """The package's figures, frame by frame."""
    network = lpips_package(name, state_dict({"alex": "alexnet", "vgg": "vgg16"}[name]))

    def tensor(frames: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * (1 - low) + low

    with torch.no_grad():
        pairs = zip(tensor(pred).split(1), tensor(truth).split(1), strict=True)
        return np.array([network(a, b).item() for a, b in pairs])


@pytest.mark.parametrize(
    ("metric", "name", "low", "side"),
    [
        (LpipsAlex, "alex", -1.0, (97, 131)),
        (LpipsAlex, "alex", -1.0, (256, 256)),
        (LpipsVgg, "vgg", -1.0, (97, 131)),
        (LpipsAlexUnit, "alex", 0.0, (97, 131)),
    ],
)
def test_equals_the_package(
    store: WeightStore, metric: type, name: str, low: float, side: tuple[int, int]
) -> None:
    truth = pictures(5, *side)
    pred = np.concatenate([noisy(truth[:3], 20, seed=1), pictures(2, *side, seed=2)])
    expected = package_values(name, pred, truth, low)
    found = score(metric(Context(store)), pred, truth)
    assert expected.min() > 1e-3
    np.testing.assert_allclose(found.series[""], expected, rtol=0, atol=1e-6)
    assert found.series[""].dtype == np.float32
    assert found.values[""] == pytest.approx(expected.mean(), abs=1e-6)


def test_a_video_is_at_no_distance_from_itself(alex: LpipsAlex) -> None:
    truth = pictures(9, 64, 80)
    assert score(alex, truth.copy(), truth).values[""] == 0
    same = cut(truth, 4)
    found = feed(alex.meter(ClipInfo("clip", 9, 80, 64, "full")), same, same)
    assert found.values[""] == 0
    np.testing.assert_array_equal(found.series[""], np.zeros(9, np.float32))


def test_more_noise_is_farther_and_the_order_of_the_two_does_not_matter(alex: LpipsAlex) -> None:
    truth = pictures(4, 96, 96)
    weak, strong = (score(alex, noisy(truth, sigma), truth).values[""] for sigma in (5, 25))
    assert 0 < weak < strong / 2
    assert score(alex, truth, noisy(truth, 25)).values[""] == pytest.approx(strong, rel=1e-6)


def test_the_size_of_batches_does_not_matter(alex: LpipsAlex, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = pictures(11, 72, 65)
    pred = noisy(truth, 15)
    whole = score(alex, pred, truth)
    for size in (1, 3, 16):
        found = score(alex, pred, truth, size)
        np.testing.assert_allclose(found.series[""], whole.series[""], rtol=0, atol=1e-7)
        assert found.values[""] == pytest.approx(whole.values[""], abs=1e-7)
    monkeypatch.setattr(module, "_PIXELS", 1)  # a frame at a time, as with large frames
    np.testing.assert_allclose(score(alex, pred, truth).series[""], whole.series[""], rtol=0, atol=1e-7)


def test_truth_is_computed_once_for_all_methods(alex: LpipsAlex, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    original = alex.net.features

    def counted(frames: np.ndarray) -> list[torch.Tensor]:
        nonlocal seen
        seen += len(frames)
        return original(frames)

    monkeypatch.setattr(alex.net, "features", counted)
    truth = pictures(10, 64, 64)
    batches = cut(truth, 4)
    for i in range(3):
        meter = alex.meter(ClipInfo("clip", 10, 64, 64, "full"))
        found = feed(meter, cut(noisy(truth, 9, seed=i), 4), batches)
        assert found.values[""] > 0
    assert seen == 4 * 10
    feed(alex.meter(ClipInfo("clip", 10, 64, 64, "full")), batches, batches)
    assert seen == 4 * 10


def test_features_that_would_fill_memory_are_not_kept(
    alex: LpipsAlex, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, pred = pictures(6, 64, 64), pictures(6, 64, 64, seed=1)
    expected = score(alex, pred, truth)
    monkeypatch.setattr(module, "_PIXELS", 2 * 64 * 64)
    of_two = sum(layer.nbytes for layer in alex.net.features(truth[:2]))
    monkeypatch.setattr(module, "_BUDGET", int(2.5 * of_two))
    shared = Pictures(truth)
    found = feed(alex.meter(ClipInfo("clip", 6, 64, 64, "full")), [Pictures(pred)], [shared])
    np.testing.assert_allclose(found.series[""], expected.series[""], rtol=0, atol=1e-7)
    kept = shared.shared((alex.key, 2), dict)
    assert sorted(kept) == [0, 2]


@pytest.mark.parametrize(("metric", "name"), [(LpipsAlex, "alex"), (LpipsVgg, "vgg")])
def test_pictures_too_small_for_the_network_are_refused(store: WeightStore, metric: type, name: str) -> None:
    least = module.BACKBONES[name][3]
    small = pictures(2, least - 1, 40)
    with pytest.raises(Unscorable, match=f"less than {least} px"):
        score(metric(Context(store)), small, small)
    with pytest.raises(RuntimeError):
        package_values(name, small, small)
    enough, other = pictures(2, least, 40), pictures(2, least, 40, seed=1)
    assert score(metric(Context(store)), enough, other).values[""] > 0


def test_a_clip_without_frames_is_refused(alex: LpipsAlex) -> None:
    with pytest.raises(Unscorable, match="no frames"):
        alex.meter(ClipInfo("clip", 0, 64, 64, "full")).finish()


def test_missing_weights_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="weights alexnet are missing") as caught:
        LpipsAlex(Context(weight_store(tmp_path)))
    assert caught.value.remedy == "bench weights fetch alexnet"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.6.bias"), "it lacks features.6.bias"),
        (
            lambda state: state.update({"features.3.weight": torch.zeros(192, 64, 3, 3)}),
            r"features.3.weight is \(192, 64, 3, 3\), not \(192, 64, 5, 5\)",
        ),
    ],
)
def test_another_networks_weights_are_refused(tmp_path: Path, change: object, message: str) -> None:
    state = state_dict("alexnet")
    change(state)
    store = weight_store(tmp_path)
    torch.save(state, tmp_path / FILES["alexnet"])
    with pytest.raises(Unavailable, match=message) as caught:
        LpipsAlex(Context(store))
    assert str(tmp_path / FILES["alexnet"]) in caught.value.reason
    assert caught.value.remedy == "bench weights fetch alexnet"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILES["alexnet"]).write_bytes(b"not a checkpoint")
    with pytest.raises(Unavailable, match=FILES["alexnet"]):
        LpipsAlex(Context(weight_store(tmp_path)))


def test_nothing_is_downloaded(store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    LpipsAlex(Context(store))


def test_generated_weights_have_the_official_layout() -> None:
    assert shapes("alexnet")["features.0.weight"] == (64, 3, 11, 11)
    assert shapes("vgg16")["features.28.weight"] == (512, 512, 3, 3)
    assert len([key for key in shapes("vgg16") if key.startswith("features.")]) == 26
