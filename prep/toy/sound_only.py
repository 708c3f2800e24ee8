"""Toy speech without pictures: a prepared data set of sounds and texts, made in minutes.

A recogniser needs more sentences than the toy corpus has, and no faces. Here everyday words are spoken in random order,
by the voices of the toy corpus and some more. ``val`` are voices and sentences that the toy corpus holds out, too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from prep.errors import PrepError
from prep.options import suite_version
from prep.rates import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from prep.schema import N_LANDMARKS, Clip, make_schema
from prep.shards import MANIFEST, SHARDS, ShardWriter, write_failures, write_json
from prep.sound.mel import melspectrogram
from prep.toy.corpus import NOISE, SILENCE
from prep.toy.looks import LOOKS
from prep.toy.phrases import phrases
from prep.toy.sentences import HELD_OUT, TRAIN, transcript
from prep.toy.speech import Voice, speak

#: Changes whenever the same arguments would give other bytes.
RECIPE = 1
#: Name of the data set.
NAME = "toy-sound"
#: Voices beside those of the toy corpus; none is that of a speaker whom it holds out.
_MORE_VOICES = ("en-us", "en-us+m1", "en-us+m3", "en-us+m7", "en+f4", "en-us+f1")
#: One clip of so many is held out; one of so many others says sentences of the toy corpus.
_HELD, _SENTENCES = 12, 6
_CLIPS_A_SHARD = 64
_PITCH, _WORDS_A_MINUTE = (25, 65), (135, 185)
#: More than fit into a clip.
_PHRASES = 6


def write_sound(
    out: Path,
    *,
    clips: int = 600,
    seconds: float = 4.0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> float:
    """Write the data set; the same arguments give the same bytes.

    Its clips have sound, text and speaker, and frames without a face: what needs pictures finds nothing in it.

    Args:
        out: the folder; absent or empty.
        clips: how many, at least 24; one of 12 is ``val``, the others ``train``.
        seconds: longest clip, 2 to 10.
        seed: chooses words, pitch, tempo and silence.
        progress: called with (clips written, clips in all).
        workers: synthesisers at a time.

    Returns:
        Seconds of sound.

    Raises:
        PrepError: a bad argument, an extra that is not installed, a folder that is not empty, or one that cannot be
            written.
    """
    if clips < 2 * _HELD or not 2 <= seconds <= 10:
        raise PrepError(
            f"{clips} clips of {seconds:g} s: give at least {2 * _HELD} clips, and 2 to 10 seconds"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PrepError(f"{out} is there already: remove it, or name another folder")
    try:
        return _write(out, clips, seconds, seed, progress, workers)
    except OSError as error:
        raise PrepError(f"cannot write {out}: {error.strerror or error}") from None


def _write(
    out: Path,
    clips: int,
    seconds: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
    workers: int,
) -> float:
    (out / SHARDS).mkdir(parents=True)
    numbers = {
        "train": [n for n in range(clips) if n % _HELD],
        "val": [n for n in range(clips) if not n % _HELD],
    }
    infos, done, frames = [], 0, 0
    with ThreadPoolExecutor(workers) as pool:
        for split, mine in numbers.items():
            made = pool.map(partial(_clip, split, seconds=seconds, seed=seed), mine)
            for shard, begin in enumerate(range(0, len(mine), _CLIPS_A_SHARD)):
                path = out / SHARDS / f"{split}-{shard:05d}.parquet"
                with ShardWriter(path, make_schema([], {"suite_version": suite_version()})) as writer:
                    for _, clip in zip(mine[begin : begin + _CLIPS_A_SHARD], made, strict=False):
                        writer.add(clip)
                        frames += clip.n_frames
                        done += 1
                        if progress is not None:
                            progress(done, clips)
                    infos.append(writer.finish(split))
    write_failures(out, [])
    options = {
        "name": NAME,
        "source": "toy",
        "recipe": RECIPE,
        "clips": clips,
        "seconds": seconds,
        "seed": seed,
    }
    manifest = {"complete": True, "options": options, "shards": [asdict(info) for info in infos]}
    write_json(out / MANIFEST, manifest)
    return frames / FPS


def _clip(split: str, number: int, seconds: float, seed: int) -> Clip:
    rng = np.random.default_rng([seed, number])
    train = split == "train"
    names = [look.voice.name for look in LOOKS if (look.split == "train") == train]
    names += _MORE_VOICES if train else ()
    name = names[(number // _HELD if split == "val" else number) % len(names)]
    voice = Voice(name, int(rng.integers(*_PITCH)), int(rng.integers(*_WORDS_A_MINUTE)))
    if train and rng.integers(_SENTENCES):
        sentences = phrases(rng, _PHRASES)
    else:
        pool = TRAIN if train else HELD_OUT
        sentences = [pool[i] for i in rng.permutation(len(pool))]
    lead, tail = rng.uniform(*SILENCE, 2)
    speech = speak(sentences, voice, seconds - lead - tail)
    n_frames = min(int(np.ceil((lead + len(speech.samples) / SAMPLE_RATE + tail) * FPS)), int(seconds * FPS))
    sound = rng.normal(0, NOISE, n_frames * SAMPLES_PER_FRAME)
    first = round(lead * SAMPLE_RATE)
    part = speech.samples[: len(sound) - first]
    sound[first : first + len(part)] += 32767 * part
    samples = np.rint(sound).astype(np.int16)
    return Clip(
        clip_id=f"{name}/{number:05d}",
        dataset=NAME,
        split=split,
        source="",
        n_frames=n_frames,
        width=0,
        height=0,
        landmarks=np.full((n_frames, N_LANDMARKS, 3), np.nan, np.float32),
        detected=np.zeros(n_frames, bool),
        n_faces=np.zeros(n_frames, np.uint8),
        speaker=name,
        text=" ".join(transcript(sentence) for sentence in speech.sentences),
        stop=n_frames / FPS,
        source_fps=float(FPS),
        audio_mix="mono",
        audio=samples,
        mel=melspectrogram(samples),
    )
