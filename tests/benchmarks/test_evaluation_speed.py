"""A whole evaluation against the reference tools run one after another on the same videos, in one run.

Weights are generated: they cost as much as real ones. Both sides use all cores that their libraries take by
themselves, and ours is one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile

from bench.clips.inputs import from_folders
from bench.eval import EvalOptions, evaluate_inputs
from bench.metrics import DEFAULT
from bench.metrics.arcface import R100, ArcFace, IResNet, align, five_points
from bench.metrics.syncnet import original
from bench.weights.store import Entry, WeightStore
from prep.mediapipe_mesh import MediaPipeMesh
from prep.sound_reading import sound
from prep.video_reading import frames
from prep.video_writing import write_video
from tests.bench.metrics import fake_syncnet, generated

N, SIDE = 16, 256
REPEATS = 2


@pytest.fixture(scope="module")
def folders(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two talking faces of 16 frames at 256², with sound, and blurred predictions of them."""
    out = tmp_path_factory.mktemp("speed")
    pred, truth = out / "pred", out / "truth"
    for folder in (pred, truth):
        folder.mkdir()
    for clip in ("talk3", "talk5"):
        video = [
            cv2.resize(f, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            for f in frames(clips_dir / f"{clip}.mp4", 0, N)
        ]
        blurred = [cv2.GaussianBlur(f, (0, 0), 1.5) for f in video]
        for folder, pictures in ((truth, video), (pred, blurred)):
            write_video(folder / f"{clip}.mp4", pictures, samples=fake_syncnet.voice(N))
    return pred, truth


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> WeightStore:
    """Generated weights of every network of the default set."""
    folder = tmp_path_factory.mktemp("weights")
    store = generated.weight_store(folder, "alexnet", "fid_inception")
    torch.manual_seed(0)
    torch.save(IResNet(R100).state_dict(), folder / "backbone.pth")
    arcface = Entry("arcface_r100", file="backbone.pth")
    return WeightStore(
        {**store.entries, **fake_syncnet.weight_store(folder).entries, "arcface_r100": arcface}, [folder]
    )


class Tools:
    """What a user runs today: each tool reads the videos again, and takes one frame at a time unless it batches.

    Args:
        pred: folder of predictions.
        truth: folder of true videos of the same names.
        scratch: an empty folder for the files that some tools want.
    """

    def __init__(self, pred: Path, truth: Path, scratch: Path, mesh: MediaPipeMesh) -> None:
        self.pred, self.truth, self.scratch, self.mesh = pred, truth, scratch, mesh
        self.alexnet = generated.lpips_package("alex", generated.state_dict("alexnet"))

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for path in sorted(self.truth.glob("*.mp4")):
            yield from zip(frames(path), frames(self.pred / path.name), strict=True)

    def psnr(self) -> None:
        from skimage.metrics import peak_signal_noise_ratio

        for t, p in self.pairs():
            peak_signal_noise_ratio(t, p, data_range=255)

    def ssim(self) -> None:
        from skimage.metrics import structural_similarity

        how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        for t, p in self.pairs():
            structural_similarity(t, p, data_range=255, channel_axis=2, **how)

    def lpips(self) -> None:
        for pair in self.pairs():
            t, p = (torch.from_numpy(f).permute(2, 0, 1)[None].float() / 127.5 - 1 for f in pair)
            with torch.no_grad():
                self.alexnet(t, p)

    def landmarks(self) -> None:
        """FaceMesh once for both landmark distances."""
        for pair in self.pairs():
            for f in pair:
                self.mesh.detect(f)


class AllTools(Tools):
    """The tools of the other default metrics as well."""

    def __init__(self, *arguments: Any) -> None:
        import dlib

        from bench.metrics.dlib_identity import POINTS_5, RECOGNITION, load_model

        super().__init__(*arguments)
        self.dlib = dlib
        self.detector = dlib.get_frontal_face_detector()
        self.points, self.identity = load_model(POINTS_5), load_model(RECOGNITION)
        self.inception = generated.fid_package(generated.state_dict("fid_inception"))
        torch.manual_seed(0)
        self.network = ArcFace(IResNet(R100), "cpu")
        state = fake_syncnet.generated(fake_syncnet.GAIN)
        self.sync = self._syncnet(state)

    @staticmethod
    def _syncnet(state: dict[str, torch.Tensor]) -> Any:
        from syncnet_python.SyncNetInstance import SyncNetInstance

        return SyncNetInstance(original(state), device="cpu")

    def fid(self) -> None:
        """The features alone: at so few frames the root of a 2048² matrix would outweigh everything else."""
        from pytorch_fid.fid_score import get_activations

        folder = self.scratch / "png"
        folder.mkdir(exist_ok=True)
        files: list[list[str]] = [[], []]
        for i, pair in enumerate(self.pairs()):
            for names, f, side in zip(files, pair, "tp", strict=True):
                names.append(str(folder / f"{side}{i:03d}.png"))
                cv2.imwrite(names[-1], f[..., ::-1])
        for names in files:
            with redirect_stderr(StringIO()):  # its progress bar
                get_activations(names, self.inception, batch_size=50)

    def arcface(self) -> None:
        for pair in self.pairs():
            for f in pair:
                face = self.mesh.detect(f)[:1]
                self.network.embed(align(f[None], five_points(face)))

    def dlib_identity(self) -> None:
        """As package face_recognition does: its detector, enlarging once, and five points."""
        for pair in self.pairs():
            for f in pair:
                box = self.detector(f, 1)[0]
                chip = self.dlib.get_face_chip(f, self.points(f, box), size=150, padding=0.25)
                self.identity.compute_face_descriptor(chip)

    def lse(self) -> None:
        for path in sorted(self.pred.glob("*.mp4")):
            folder = self.scratch / path.stem
            folder.mkdir(exist_ok=True)
            for i, f in enumerate(frames(path)):
                picture = cv2.resize(f[..., ::-1], (224, 224))
                cv2.imwrite(str(folder / f"{i + 1:06d}.jpg"), picture)
            wavfile.write(folder / "audio.wav", 16_000, sound(path).samples)
            with torch.no_grad():
                self.sync.evaluate(SimpleNamespace(tmp_dir=str(folder), batch_size=20, vshift=15))


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _compare(benchmark: Any, tools: list[Callable[[], None]], ours: Callable[[], Any]) -> float:
    """Median of how many times longer the tools take, of the rounds after the first, which loads and compiles."""
    benchmark.pedantic(ours, rounds=1)
    for tool in tools:
        tool()
    seconds: dict[str, list[float]] = {run.__name__: [] for run in [ours, *tools]}
    for _ in range(REPEATS):
        for run in [ours, *tools]:
            seconds[run.__name__].append(_seconds(run))
    mine = seconds[ours.__name__]
    whole = [sum(row) for row in zip(*seconds.values(), strict=True)]
    ratio = median(total / one - 1 for total, one in zip(whole, mine, strict=True))
    benchmark.extra_info["times_tools"] = round(ratio, 2)
    benchmark.extra_info["seconds"] = {name: round(median(values), 2) for name, values in seconds.items()}
    return ratio


@pytest.fixture
def ours(
    folders: tuple[Path, Path], weights: WeightStore, tmp_path: Path
) -> Callable[[tuple[str, ...]], Callable[[], Any]]:
    """Evaluates some metrics, each time anew."""
    pred, truth = folders

    def of(metrics: tuple[str, ...]) -> Callable[[], Any]:
        def evaluation() -> Any:
            options = EvalOptions(metrics, regions=("full",))
            found = evaluate_inputs(
                from_folders({"mine": pred}, truth), tmp_path / "out", options, weights, overwrite=True
            )
            assert len(found.metrics) == len(metrics), found.missing
            return found

        return evaluation

    return of


def test_default_set(benchmark: Any, folders: tuple[Path, Path], ours: Any, tmp_path: Path) -> None:
    """The whole default set, all nine metrics, at least twice as fast as the tools one after another."""
    pytest.importorskip("dlib", reason="the extra `dlib` is not installed")
    with MediaPipeMesh() as mesh:
        tools = AllTools(*folders, tmp_path, mesh)
        of_tools = [
            tools.psnr,
            tools.ssim,
            tools.lpips,
            tools.landmarks,
            tools.fid,
            tools.arcface,
            tools.dlib_identity,
            tools.lse,
        ]
        assert _compare(benchmark, of_tools, ours(DEFAULT)) >= 2, benchmark.extra_info
