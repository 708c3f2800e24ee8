"""Decoded pictures that stay in memory: the same samples, no more memory than counted, and nothing left behind."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from prep import frame_cache, pictures
from prep.dataset import StillDataset, WindowDataset
from prep.frame_cache import FrameCache
from prep.order import WindowStream
from prep.sample_spec import SampleSpec
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset
from tests.prep.test_dataset import same

SPEC = SampleSpec(window=3, references=2, view="box128", view_frames=(1, 2), landmarks="lips", size=40)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine clips, some with frames in which no face was found."""
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 9})
    return folder


class Decoding:
    """Counts the pictures that this process decodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._decode = pictures.decode_planes
        monkeypatch.setattr(pictures, "decode_planes", self)

    def __call__(self, encoded, *args):
        self.count += len(encoded)
        return self._decode(encoded, *args)


# The array ----------------------------------------------------------------------------------------------------


def test_each_frame_is_made_once() -> None:
    cache = FrameCache(np.array([3, 0, 4]), (2,))
    asked: list[list[int]] = []

    def make(frames: np.ndarray) -> np.ndarray:
        asked.append(frames.tolist())
        return np.stack([frames, frames + 100], axis=1).astype(np.uint8)

    for frames in ([2, 0], [0, 1, 2, 0], [1]):
        found = cache.take(2, np.array(frames), make)
        assert found.tolist() == [[f, f + 100] for f in frames]
    assert asked == [[2, 0], [1]] and cache.filled == 3
    found[:] = 0  # a copy
    assert cache.take(2, np.array([1]), make).tolist() == [[1, 101]]
    assert cache.take(0, np.array([1]), make).tolist() == [[1, 101]] and asked[2:] == [[1]]


def test_nothing_is_added_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_cache, "_LOOK_EVERY", 2)
    cache = FrameCache(np.array([4]), (1,))
    free = frame_cache.RESERVE
    monkeypatch.setattr(frame_cache, "free_memory", lambda: free)

    def make(frames: np.ndarray) -> np.ndarray:
        return frames[:, None].astype(np.uint8)

    cache.take(0, np.array([0, 1]), make)
    free -= 1
    for _ in range(2):
        assert cache.take(0, np.array([0, 2, 3]), make).tolist() == [[0], [2], [3]]
    assert cache.filled == 2 and cache.closed


# The data sets ------------------------------------------------------------------------------------------------


def test_samples_are_the_same_and_decoded_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, kept = (WindowDataset(data, "train", SPEC, seed=3) for _ in range(2))
    kept.keep_pictures()
    decoding = Decoding(monkeypatch)
    epochs = range(40)
    for epoch in epochs:
        for i in range(len(plain)):
            before = decoding.count
            expected = plain.sample(epoch, i)
            assert decoding.count == before + 4
            assert same(kept.sample(epoch, i), expected)
    drawn = 4 * len(plain) * len(epochs)
    stored = int(kept._index.pictures(kept._windows.clips).sum())
    cache = kept._pictures._cache
    assert drawn < decoding.count == drawn + cache.filled <= drawn + stored
    assert kept.picture_bytes() == stored * (3 * 40 * 40 + 1)
    assert plain.fingerprint == kept.fingerprint


def test_stills_are_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, kept = (StillDataset(data, "train", "box128", size=32) for _ in range(2))
    kept.keep_pictures()
    for _ in range(2):
        for i in range(len(plain)):
            assert same(kept.sample(5, i), plain.sample(5, i))
    decoding = Decoding(monkeypatch)
    assert kept.sample(5, 2)["image"].shape == (3, 32, 32) and decoding.count == 0
    kept.forget_pictures()
    kept.sample(5, 2)
    assert decoding.count == 1


def test_only_the_clips_in_use_are_counted_and_no_more_than_will_be_read(data: Path) -> None:
    every = WindowDataset(data, "train", SPEC)
    (first, *_) = every._index.clip_ids
    one = WindowDataset(data, "train", SPEC, clips=[first])
    each = 3 * 40 * 40 + 1
    assert one.picture_bytes() == 40 * each  # a clip of 40 frames, all with a face
    assert every.picture_bytes() > 8 * one.picture_bytes()
    assert every.picture_bytes(2) == 2 * 4 * each and one.picture_bytes(1000) == 40 * each
    assert WindowDataset(data, "train", SampleSpec(landmarks="lips")).picture_bytes() == 0
    one.keep_pictures()
    assert len(one._pictures._cache._values) == 40


def test_workers_share_what_each_of_them_decodes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, kept = (WindowDataset(data, "train", SPEC) for _ in range(2))
    kept.keep_pictures()
    for _ in range(2):
        batches = DataLoader(WindowStream(kept, 3), 3, num_workers=2, multiprocessing_context="fork")
        expected = DataLoader(WindowStream(plain, 3), 3)
        for ours, theirs, _ in zip(batches, expected, range(9), strict=False):
            assert same(ours, theirs)
    # Epochs 0 to 2, which the workers have read between them.
    decoding = Decoding(monkeypatch)
    for epoch in range(3):
        for i in range(len(kept)):
            kept.sample(epoch, i)
    assert decoding.count == 0


def test_a_copy_by_pickle_has_no_cache_and_the_same_samples(data: Path) -> None:
    kept = WindowDataset(data, "train", SPEC)
    kept.keep_pictures()
    kept[0]
    copy = pickle.loads(pickle.dumps(kept))
    assert copy._pictures._cache is None and same(copy[0], kept[0])


def test_several_data_sets(data: Path, tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "b", [fake_clip("b/1", 12), fake_clip("b/2", 9, undetected=(4,))])
    plain, kept = (WindowDataset([tmp_path / "b", data], "train", SPEC) for _ in range(2))
    kept.keep_pictures()
    assert len(kept) == 11
    for epoch in (0, 1, 0):
        for i in range(11):
            assert same(kept.sample(epoch, i), plain.sample(epoch, i))


# Nothing is left behind ---------------------------------------------------------------------------------------

_CHILD = """
import signal, sys, time
# A background job of a shell ignores Ctrl-C, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)
from torch.utils.data import DataLoader
from prep.dataset import WindowDataset
from prep.order import WindowStream
from tests.prep.test_frame_cache import SPEC
dataset = WindowDataset(sys.argv[1], "train", SPEC)
dataset.keep_pictures()
batches = iter(DataLoader(WindowStream(dataset, 2), 2, num_workers=2, multiprocessing_context="fork"))
for _ in range(20):
    next(batches)
print(dataset._pictures._cache.filled, flush=True)
time.sleep(60)
"""


def _shared() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()} if Path("/dev/shm").is_dir() else set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_training_leaves_no_memory_and_no_file(data: Path, tmp_path: Path, number: int) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    before = _shared()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(data)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert child.stdout is not None and int(child.stdout.readline()) > 50
    os.killpg(child.pid, number)
    child.wait(30)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    # Other programs come and go; torch itself cannot remove what it was sending when it was killed.
    for _ in range(100):
        named = {name for name in _shared() - before if not name.startswith("torch_")}
        if not named:
            return
        time.sleep(0.1)
    pytest.fail(f"left behind: {named}")
