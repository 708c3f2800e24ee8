"""The embedded corpus: ten synthetic people who speak synthetic sentences, laid out as LRS2 is.

``bench toy`` needs no download: the portraits lie in the wheels of scikit-image and Matplotlib, the synthesiser in that
of ``espeakng-loader``. It is only for regression tests and for learning the tool.

    OUT/mvlrs_v1/main/<speaker>/<n>.mp4     25 fps, H.264; 16 kHz mono, AAC
    OUT/mvlrs_v1/main/<speaker>/<n>.txt     Text and Conf, as LRS2 has them
    OUT/mvlrs_v1/{train,val,test}.txt       the lists; test lines carry the tag NF
    OUT/toy.json                            what was asked for, and for every clip the intended movement of the mouth

Nobody in the training split appears in another one, and no sentence does. A clip is as many whole sentences as fit
into ``seconds``, with some silence before and after; it is rarely exactly that long.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from prep.errors import PrepError
from prep.rates import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from prep.toy.acting import blinking, coefficients, head_motion, raised_brows
from prep.toy.actor import Actor
from prep.toy.backdrops import backdrop
from prep.toy.heads import Head
from prep.toy.looks import LOOKS, build_head, load_bases
from prep.toy.portraits import MARGIN
from prep.toy.sentences import HELD_OUT, TRAIN, transcript
from prep.toy.speech import Phoneme, speak
from prep.toy.visemes import CHANNELS, articulate
from prep.video_writing import write_video

#: Changes whenever the same options would give other bytes.
RECIPE = 1
SPLITS = ("train", "val", "test")
#: Speakers are numbered as LRS2 numbers its broadcasts, in nineteen digits.
_FIRST_SPEAKER = 9_000_000_000_000_000_001
#: Silence before the first and after the last sentence, seconds.
SILENCE = (0.12, 0.32)
#: Standard deviation of the microphone's hiss, in steps of 16 bits.
NOISE = 5.0
#: Clips that a worker makes at a time.
_GROUP = 4


@dataclass(frozen=True)
class ToyClip:
    """One clip as it was meant.

    Attributes:
        clip_id: ``<speaker>/<n>``.
        split: ``train``, ``val`` or ``test``.
        text: what is said, as in the clip's text file.
        opening: for every frame the distance between the inner lips, in distances between the outer eye corners.
        phonemes: (IPA, begin, end) in seconds, ``""`` for silence, from 0 to the end of the clip.
    """

    clip_id: str
    split: str
    text: str
    opening: tuple[float, ...]
    phonemes: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class ToyReport:
    """What :func:`write_corpus` left behind.

    Attributes:
        root: the folder.
        fresh: False where the same corpus was already there and nothing was done.
        clips: in the order of their ids.
    """

    root: Path
    fresh: bool
    clips: tuple[ToyClip, ...]

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return sum(len(clip.opening) for clip in self.clips) / FPS


@dataclass(frozen=True)
class _Options:
    clips: int
    seconds: float
    size: int
    seed: int


def write_corpus(
    out: Path,
    *,
    clips: int = 40,
    seconds: float = 4.0,
    size: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> ToyReport:
    """Write the toy corpus; the same arguments give the same bytes, whatever the number of workers.

    The folder appears all at once when everything is written. A folder that already holds the same corpus is left as
    it is.

    Args:
        out: the folder; it must be absent, empty, or hold the corpus that is asked for.
        clips: how many, at least 1; they go round the ten speakers, the first three of whom are in three splits.
        seconds: longest clip, 1 to 60.
        size: side of the square frames in pixels, even, 64 to 1024; below 128 FaceMesh no longer sees the lips well.
        seed: chooses sentences, backgrounds and movements.
        progress: called with (clips written, clips in all).
        workers: processes; the machine's cores, but not more than 8, by default.

    Raises:
        PrepError: a bad argument, an extra that is not installed, or a folder that holds something else.
    """
    if workers is not None and workers < 1:
        raise PrepError(f"workers must be at least 1, not {workers}")
    options = _checked(clips, seconds, size, seed)
    out = Path(out)
    there = _existing(out, options)
    if there is not None:
        return there
    jobs = _jobs(options)
    # One speaker after the other, since a head takes longer to build than a second of it to draw.
    batches = groupby(sorted(jobs, key=_batch), key=_batch)
    groups = [list(batch) for _, batch in batches]
    workers = min(workers or min(os.cpu_count() or 1, 8), len(groups))
    bases = load_bases(round(size * (1 + 2 * MARGIN) * 1.5))

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.absolute().with_name(f".{out.name}.partial")
        # Left there by a run that was killed.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise PrepError(f"cannot write to {out.parent}: {error.strerror}") from None
    try:
        done: list[ToyClip] = []
        for written in _run(groups, options, partial, bases, workers):
            done += written
            if progress is not None:
                progress(len(done), len(jobs))
        done.sort(key=lambda clip: clip.clip_id)
        _write_lists(partial, options, done)
        # Takes the place of an empty folder, too.
        partial.rename(out)
    except OSError as error:
        raise PrepError(f"cannot write the toy corpus to {out}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ToyReport(out, True, tuple(done))


def read_report(out: Path) -> ToyReport:
    """What is written in ``OUT/toy.json``; PrepError where there is none."""
    try:
        data = json.loads((out / "toy.json").read_text(encoding="utf-8"))
        clips = tuple(
            ToyClip(
                clip["clip_id"],
                clip["split"],
                clip["text"],
                tuple(clip["opening"]),
                tuple((name, start, stop) for name, start, stop in clip["phonemes"]),
            )
            for clip in data["clips"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise PrepError(f"{out} holds no toy corpus (toy.json is missing or damaged)") from None
    return ToyReport(out, False, clips)


def _checked(clips: int, seconds: float, size: int, seed: int) -> _Options:
    if clips < 1:
        raise PrepError(f"clips must be at least 1, not {clips}")
    if not 1 <= seconds <= 60:
        raise PrepError(f"seconds must be between 1 and 60, not {seconds:g}")
    if not 64 <= size <= 1024 or size % 2:
        raise PrepError(f"size must be an even number between 64 and 1024, not {size}")
    if seed < 0:
        raise PrepError(f"seed must not be negative, as {seed} is")
    return _Options(clips, float(seconds), size, seed)


def _existing(out: Path, options: _Options) -> ToyReport | None:
    """The report of the same corpus if it is there, None if the place is free."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise PrepError(f"{out} is not a folder")
    if not any(out.iterdir()):
        return None
    report = read_report(out)
    found = json.loads((out / "toy.json").read_text(encoding="utf-8")).get("options", {})
    for name, value in _described(options).items():
        if found.get(name) != value:
            raise PrepError(
                f"{out} holds a toy corpus with {name} {found.get(name)}, not {value}; remove it or name another folder"
            )
    return report


def _described(options: _Options) -> dict[str, float]:
    return {"recipe": RECIPE, **asdict(options)}


@dataclass(frozen=True)
class _Job:
    """One clip to be made: number of the clip, of the speaker, of the clip among the speaker's and the split's."""

    index: int
    speaker: int
    take: int
    turn: int

    @property
    def clip_id(self) -> str:
        return f"{_FIRST_SPEAKER + self.speaker}/{self.take:05d}"


def _batch(job: _Job) -> tuple[int, int]:
    return job.speaker, (job.take - 1) // _GROUP


def _jobs(options: _Options) -> list[_Job]:
    turns = dict.fromkeys(SPLITS, 0)
    jobs = []
    for index in range(options.clips):
        round_, speaker = divmod(index, len(LOOKS))
        split = LOOKS[speaker].split
        jobs.append(_Job(index, speaker, round_ + 1, turns[split]))
        turns[split] += 1
    return jobs


def _run(
    groups: list[list[_Job]], options: _Options, root: Path, bases: dict[tuple[str, bool], Head], workers: int
) -> Iterator[list[ToyClip]]:
    if workers == 1:
        _start(options, root, bases)
        yield from map(_make_group, groups)
        return
    # Spawned, since the parent may have threads; nobody's result depends on who made it.
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (options, root, bases)
    )
    try:
        with _single_threaded_children():
            futures = [executor.submit(_make_group, group) for group in groups]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise PrepError("a process was killed, perhaps because memory ran out; try fewer workers") from None
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Processes started meanwhile do linear algebra in one thread; more would only wait for each other."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_state: dict[str, Any] = {}


def _start_worker(options: _Options, root: Path, bases: dict[tuple[str, bool], Head]) -> None:
    # Ctrl-C reaches the whole group of processes; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _start(options, root, bases)


def _start(options: _Options, root: Path, bases: dict[tuple[str, bool], Head]) -> None:
    _state.update(options=options, root=root, bases=bases)
    _actor.cache_clear()


@lru_cache(maxsize=1)
def _actor(speaker: int) -> Actor:
    look = LOOKS[speaker]
    head = build_head(look, _state["bases"])
    lids = 0.06 if look.glasses else 0.14
    return Actor(head, _state["options"].size, look.zoom, lids=lids, light=look.light)


def _make_group(jobs: list[_Job]) -> list[ToyClip]:
    # One thread a process: the frames are small, and the cores are taken by the other workers.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return [_make(job, _state["options"], _state["root"]) for job in jobs]
    except OSError as error:
        raise PrepError(f"cannot write the toy corpus: {error.strerror or error}") from None
    finally:
        cv2.setNumThreads(threads)


def _make(job: _Job, options: _Options, root: Path) -> ToyClip:
    """Write one clip and its text file."""
    look = LOOKS[job.speaker]
    rng = np.random.default_rng([options.seed, job.index])
    lead, tail = rng.uniform(*SILENCE, 2) if options.seconds >= 2 else (SILENCE[0], SILENCE[0])

    pool = TRAIN if look.split == "train" else HELD_OUT
    # Every split goes through its sentences in one order, a few further on for each clip, so that few come twice.
    shuffled = np.random.default_rng([options.seed, SPLITS.index(look.split)]).permutation(len(pool))
    order = np.roll(shuffled, -2 * job.turn)
    speech = speak([pool[i] for i in order], look.voice, options.seconds - lead - tail)
    text = " ".join(transcript(sentence) for sentence in speech.sentences)

    most = int(options.seconds * FPS + 1e-6)
    n_frames = min(int(np.ceil((lead + len(speech.samples) / SAMPLE_RATE + tail) * FPS)), most)
    length = n_frames / FPS
    # Whole samples, so that sound and picture start together.
    lead = round(lead * SAMPLE_RATE) / SAMPLE_RATE
    spoken = [Phoneme(p.name, p.start + lead, p.stop + lead) for p in speech.phonemes]
    phonemes = [Phoneme("", 0.0, lead), *spoken, Phoneme("", spoken[-1].stop, length)]
    times = np.arange(n_frames) / FPS
    mouth = articulate(phonemes, times)
    samples = _sound(speech.samples, round(lead * SAMPLE_RATE), n_frames * SAMPLES_PER_FRAME, rng)

    scenery = backdrop(look.backdrop, look.wall, options.size, rng)
    actor = _actor(job.speaker)
    brows = raised_brows(times, rng) * (not look.glasses)
    modes = coefficients(mouth, look.opening, head_motion(times, rng), brows)
    blinks, tongue = blinking(times, rng), mouth[:, CHANNELS.index("tongue")]

    path = root / "mvlrs_v1" / "main" / f"{job.clip_id}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = (actor.draw(scenery, modes[k], float(blinks[k]), float(tongue[k])) for k in range(n_frames))
    write_video(path, frames, fps=FPS, samples=samples, sample_rate=SAMPLE_RATE)
    path.with_suffix(".txt").write_text(f"Text:  {text}\nConf:  5\n", encoding="utf-8")
    return ToyClip(
        job.clip_id,
        look.split,
        text,
        tuple(np.round(mouth[:, 0] * look.opening, 5).tolist()),
        tuple((p.name, round(p.start, 5), round(p.stop, 5)) for p in phonemes),
    )


def _sound(
    speech: NDArray[np.float64], lead: int, length: int, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Speech after ``lead`` samples of silence, ``length`` samples in all, with the hiss of a microphone."""
    sound = rng.normal(0, NOISE, length)
    part = speech[: length - lead]
    sound[lead : lead + len(part)] += 32767 * part
    return np.rint(sound).astype(np.int16)


def _write_lists(root: Path, options: _Options, clips: list[ToyClip]) -> None:
    for split in SPLITS:
        tag = " NF" if split == "test" else ""
        lines = [f"{clip.clip_id}{tag}\n" for clip in clips if clip.split == split]
        (root / "mvlrs_v1" / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    report = {"options": _described(options), "clips": [asdict(clip) for clip in clips]}
    (root / "toy.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
