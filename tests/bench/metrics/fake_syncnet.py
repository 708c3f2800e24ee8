"""SyncNet with generated weights, and videos for it: figures that can be compared, but show no sync."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from scipy.io import wavfile

from bench.metrics.base import Batch, ClipInfo, Context, Metric, Pictures, Score
from bench.metrics.lossy import JpegEncoder, decode_jpeg
from bench.metrics.syncnet import original
from bench.weights.store import Entry, WeightStore
from tests.parity.fill import fill_state

PARITY = Path(__file__).resolve().parents[2] / "parity"
#: With these the distances are about 10, as with the real weights.
GAIN = {"netfclip.3": 0.01, "netfcaud.3": 0.05, "": 1.0}


@cache
def entries() -> list[list[object]]:
    """Key, shape and type of every tensor of ``syncnet_v2.model``."""
    found: list[list[object]] = json.loads((PARITY / "syncnet_v2" / "spec.json").read_text())["state_dict"]
    return found


def generated(gain: float | dict[str, float]) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in fill_state(entries(), gain).items()}


def weight_store(folder: Path) -> WeightStore:
    """A store that holds generated weights of SyncNet, and knows of S3FD, which is missing."""
    torch.save(generated(GAIN), folder / "syncnet_v2.model")
    known = {"syncnet_v2": Entry(name="syncnet_v2", file="syncnet_v2.model")}
    known["s3fd"] = Entry(name="s3fd", file="sfd_face.pth", urls=("https://example.org/sfd_face.pth",))
    return WeightStore(known, [folder])


def moving_pictures(n: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(n, height, width, 3) uint8: soft blots that change from frame to frame, so that windows differ."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 8, 8, 3), np.uint8)
    return np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse])


def voice(n_frames: int, seed: int = 0) -> np.ndarray:
    """(640 n_frames,) int16: noise whose loudness changes every frame."""
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(10, 6000, n_frames), 640)
    return (loudness * rng.standard_normal(640 * n_frames)).clip(-32768, 32767).astype(np.int16)


def score(
    metric: Metric,
    frames: np.ndarray,
    audio: np.ndarray | None,
    sizes: tuple[int, ...] = (16,),
    pictures: dict[int, Pictures] | None = None,
) -> Score:
    """Feed frames in batches of these sizes, in turn. ``pictures`` (start → batch) are shared between calls."""
    height, width = frames.shape[1:3]
    meter = metric.meter(ClipInfo("clip", len(frames), width, height, "clip", audio))
    shared = {} if pictures is None else pictures
    start = step = 0
    try:
        while start < len(frames):
            stop = min(len(frames), start + sizes[step % len(sizes)])
            batch = shared.setdefault(start, Pictures(frames[start:stop]))
            meter.update(Batch(start, batch, None))
            start, step = stop, step + 1
        return meter.finish()
    finally:
        meter.close()


def through_jpeg(frames: np.ndarray) -> list[np.ndarray]:
    """What SyncNet sees of RGB frames: coded by one encoder, BGR."""
    encoder = JpegEncoder()
    return [decode_jpeg(encoder.encode(frame)) for frame in frames]


def package_evaluation(
    context: Context, pictures: list[np.ndarray], samples: np.ndarray, folder: Path
) -> tuple[int, float, float]:
    """Offset, LSE-C and LSE-D by package syncnet-python's own evaluation of the files that it reads.

    The pictures are PNG under the names of JPEG files, so that both sides see the same: OpenCV goes by content.
    """
    from syncnet_python.SyncNetInstance import SyncNetInstance

    folder.mkdir()
    for i, picture in enumerate(pictures):
        data = cv2.imencode(".png", cv2.resize(picture, (224, 224)))[1]
        (folder / f"{i + 1:06d}.jpg").write_bytes(data.tobytes())
    wavfile.write(folder / "audio.wav", 16_000, samples)
    state = torch.load(context.weights.path("syncnet_v2"), weights_only=True)
    instance = SyncNetInstance(original(state), device="cpu")
    options = SimpleNamespace(tmp_dir=str(folder), batch_size=20, vshift=15)
    with torch.no_grad():
        found: tuple[int, float, float] = instance.evaluate(options)
    return found
