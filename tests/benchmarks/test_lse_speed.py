"""SyncNet's figures of a clip at least 1.3 times faster than by package syncnet-python (``--benchmark-only``).

Both start from the same JPEG files of 224² and the same sound, on one core, and end in offset, LSE-C and LSE-D; the
two take turns. Generated weights: they cost as much as real ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace

import cv2
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.io import wavfile

from bench.metrics.lossy import JpegEncoder
from bench.metrics.syncnet import Sync, SyncNetV2, SyncReader, original
from tests.bench.metrics.fake_syncnet import GAIN, generated, moving_pictures, voice

FRAMES, PAIRS = 50, 7
FACTOR = 1.3


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    encoder = JpegEncoder()
    for i, picture in enumerate(moving_pictures(FRAMES, 224, 224)):
        (tmp_path / f"{i:06d}.jpg").write_bytes(encoder.encode(picture))
    wavfile.write(tmp_path / "audio.wav", 16_000, voice(FRAMES))
    return tmp_path


def test_a_clip_is_judged_faster_than_by_the_package(benchmark: BenchmarkFixture, files: Path) -> None:
    from syncnet_python.SyncNetInstance import SyncNetInstance

    state = generated(GAIN)
    instance, net = SyncNetInstance(original(state), device="cpu"), SyncNetV2(state)
    count = itertools.count(int(voice(FRAMES)[0]))
    options = SimpleNamespace(tmp_dir=str(files), batch_size=20, vshift=15)

    def theirs() -> tuple[int, float, float]:
        with torch.no_grad():
            found: tuple[int, float, float] = instance.evaluate(options)
        return found

    def ours() -> Sync:
        samples = wavfile.read(files / "audio.wav")[1]
        samples[0] = next(count)  # another sound each time, for features of sounds are remembered
        reader = SyncReader(net, samples)
        reader.add(cv2.imread(str(path)) for path in sorted(files.glob("*.jpg")))
        return reader.finish()

    offset, confidence, distance = theirs()
    found = ours()
    assert found.offset == offset
    assert found.distance == pytest.approx(distance, abs=1e-4)
    assert found.confidence == pytest.approx(confidence, abs=1e-4)
    ratios = []

    def pair() -> None:
        started = perf_counter()
        theirs()
        between = perf_counter()
        ours()
        ratios.append((between - started) / (perf_counter() - between))

    benchmark.pedantic(pair, rounds=PAIRS, warmup_rounds=1)
    benchmark.extra_info["times faster"] = round(median(ratios), 2)
    assert median(ratios) >= FACTOR
