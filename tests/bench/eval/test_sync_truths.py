"""Synthetic truths of lip sync, on people that the judge was not fitted on: sound that is moved by known delays, lips
that do not move, silence, and videos in a known order."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from baselines.sync_judges.offset import Offset, clip_offset
from baselines.sync_judges.speech import speech_frames
from bench.cli.app import app
from bench.eval.explain_sync import ROWS, explain_sync
from bench.metrics.base import Context
from bench.metrics.sync_judges import SyncJudge, build_judge, find_judges
from bench.train import train
from bench.weights.store import WeightStore
from prep.dataset import split_shards
from prep.shards import open_shard, read_clip
from prep.sound.mel import melspectrogram

pytestmark = pytest.mark.slow

#: Frames of the shortest clip whose offset must be found: 5 s.
LONG = 125
DELAYS = range(-7, 8)


@dataclass(frozen=True)
class Case:
    """A prepared data set, and a linear judge that was fitted on its split ``train``."""

    name: str
    data: Path
    run: Path

    @property
    def judge(self) -> SyncJudge:
        store = WeightStore.default()
        return build_judge(find_judges((self.run,), (), store)[0][0], Context(store))


def _toy(folder: Path, request: pytest.FixtureRequest) -> Path:
    pytest.importorskip("espeakng_loader", reason="the extra `toy` is not installed")
    from prep.toy.corpus import write_corpus

    write_corpus(folder / "corpus", clips=60, seconds=4.0, size=192, seed=0, workers=2)
    app(
        ["prep", "lrs2", str(folder / "corpus"), "--out", str(folder / "data"), "--views", "face96"],
        standalone_mode=False,
    )
    return folder / "data"


def _real(folder: Path, request: pytest.FixtureRequest) -> Path:
    """Real people, split by person, without the clips whose sound is said to be off."""
    real = request.getfixturevalue("clips_dir") / "real"
    if not real.is_dir():
        pytest.skip("the real clips of many people are not on this machine")
    lists: dict[str, list[str]] = {}
    for row in csv.DictReader((real / "index.csv").read_text("utf-8").splitlines()):
        if "sync not confirmed" in row["notes"] or "may be off" in row["notes"]:
            continue
        path = Path(row["person"], row["file"])
        (folder / "corpus" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "corpus" / path).symlink_to(real / row["file"])
        lists.setdefault(row["split"], []).append(path.as_posix())
    for split, paths in lists.items():
        (folder / "corpus" / f"{split}.txt").write_text("\n".join(paths) + "\n")
    words = ["prep", "folder", str(folder / "corpus"), "--out", str(folder / "data"), "--views", "face96"]
    app(words, standalone_mode=False)
    return folder / "data"


@pytest.fixture(scope="module", params=["toy", "real"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    data = {"toy": _toy, "real": _real}[request.param](folder, request)
    train("sync-cca", [data], run=folder / "run")
    return Case(request.param, data, folder / "run")


@dataclass(frozen=True)
class Video:
    """What is judged: (T, 478, 3) landmarks, and (n,) int16 samples."""

    person: str
    landmarks: np.ndarray
    samples: np.ndarray


def held_out(case: Case) -> list[Video]:
    """Clips of 5 s and more; the toy corpus has shorter ones, of which two of a person are one after the other."""
    videos = []
    for path in split_shards([case.data], ("val", "test")):
        file = open_shard(path)
        for group in range(file.num_row_groups):
            clip = read_clip(file, group, ["landmarks", "audio"])
            samples = np.resize(np.append(clip.audio, np.zeros(640, np.int16)), 640 * clip.n_frames)
            videos.append(Video(clip.speaker, clip.landmarks, samples))
    if case.name == "toy":
        videos = [
            Video(a.person, np.concatenate([a.landmarks, b.landmarks]), np.append(a.samples, b.samples))
            for a, b in pairwise(videos)
            if a.person == b.person
        ]
    found = [video for video in videos if len(video.landmarks) >= LONG]
    assert len(found) >= 8
    return found


def offset(judge: SyncJudge, landmarks: np.ndarray, samples: np.ndarray) -> Offset:
    speech = speech_frames(melspectrogram(samples), len(landmarks))
    return clip_offset(judge.see(landmarks), judge.hear(samples), speech)


def late(samples: np.ndarray, frames: int) -> np.ndarray:
    """The same sound, so many frames late (negative: early), of the same length."""
    n = 640 * abs(frames)
    silence = np.zeros(n, np.int16)
    return np.append(silence, samples[: len(samples) - n]) if frames > 0 else np.append(samples[n:], silence)


def test_delayed_sound_is_found_to_the_frame(case: Case) -> None:
    """Beside the offset that the clip has by itself; it may lie between two frames, so that one more is found."""
    judge = case.judge
    asked = given = exact = near = 0
    for video in held_out(case):
        own = offset(judge, video.landmarks, video.samples).frames
        if own is None:
            continue
        for delay in DELAYS:
            found = offset(judge, video.landmarks, late(video.samples, delay)).frames
            asked += 1
            if found is not None:
                given += 1
                exact += found == own - delay
                near += abs(found - own + delay) <= 1
    print(f"{case.name}: {asked} asked, {given} given, {exact} exact, {near} within a frame")
    assert asked >= 8 * len(DELAYS)
    assert given >= 0.9 * asked
    assert near == given
    assert exact >= (1.0 if case.name == "toy" else 0.93) * given


def test_most_talking_faces_have_an_offset_near_0(case: Case) -> None:
    found = [offset(case.judge, video.landmarks, video.samples) for video in held_out(case)]
    assert sum(one.frames is not None for one in found) >= 0.85 * len(found)
    assert sum(one.in_sync(2) for one in found) >= 0.85 * len(found)


def test_a_still_face_and_silence_are_undecidable(case: Case) -> None:
    judge = case.judge
    for video in held_out(case):
        seen = np.flatnonzero(np.isfinite(video.landmarks[:, 0, 0]))[0]
        still = np.repeat(video.landmarks[[seen]], len(video.landmarks), axis=0)
        for landmarks, samples, reason in (
            (still, video.samples, "the lips do not move"),
            (video.landmarks, np.zeros_like(video.samples), "the sound does not change"),
        ):
            found = offset(judge, landmarks, samples)
            assert (found.frames, found.confidence, found.undecidable) == (None, 0, reason)
        # Not the very same landmarks in each frame, and sound that is not quite silence.
        rng = np.random.default_rng(0)
        trembling = still + rng.normal(0, 0.02, still.shape).astype(np.float32)
        hiss = rng.integers(-2, 3, len(video.samples)).astype(np.int16)
        talking = offset(judge, video.landmarks, video.samples).confidence
        assert offset(judge, video.landmarks, hiss).frames is None
        assert offset(judge, trembling, video.samples).confidence < talking


def test_videos_are_ranked_as_they_were_made(case: Case) -> None:
    """By the mean of absolute offsets, where an undecidable one counts as 16; among equals by the confidence."""
    shown = explain_sync(data=case.data, split="test", sync_cca=[case.run], with_trivial=True)
    assert [row.method for row in shown.rows] == list(ROWS)
    found = []
    for row in shown.rows:
        means = {figure.output: figure.value for figure in row.figures}
        print(case.name, row.method, means["abs_offset"], means["confidence"])
        found.append((means["abs_offset"], -means["confidence"]))
    assert all(one < other for one, other in pairwise(found)), found
    offsets = [one for one, _ in found]
    assert all(one < other for one, other in pairwise(offsets[:-1])), offsets
    assert found[-1] == (16, 0)
