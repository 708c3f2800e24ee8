"""Spoken sentences with the times of their phonemes, 16 kHz."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from prep.errors import PrepError
from prep.rates import SAMPLE_RATE
from prep.toy.portraits import NEEDS

#: Seconds of silence between two sentences.
GAP = 0.28
_TIMEOUT = 120
_PEAK = 0.55
_PLOSIVES = frozenset("pbtdkɡg")


@dataclass(frozen=True)
class Voice:
    """How somebody speaks: espeak-ng's name of the voice, pitch (0 to 100), words a minute."""

    name: str
    pitch: int
    rate: int


@dataclass(frozen=True)
class Phoneme:
    """A stretch of sound: IPA as espeak-ng writes it (``""`` is silence), begin and end in seconds."""

    name: str
    start: float
    stop: float


@dataclass(frozen=True)
class Speech:
    """Sentences that were spoken.

    Attributes:
        sentences: as they were given.
        samples: float64 (n,), 16 kHz, the loudest at 0.55.
        phonemes: without holes from 0 to the end of the sound, silences included.
    """

    sentences: tuple[str, ...]
    samples: NDArray[np.float64]
    phonemes: tuple[Phoneme, ...]


def speak(sentences: Sequence[str], voice: Voice, seconds: float) -> Speech:
    """Speak as many of the sentences, in their order, as fit into ``seconds``; the rest are left out whole.

    The same arguments give the same samples, in whatever process and order.

    Raises:
        PrepError: the synthesiser is not installed or failed, or not one of the sentences fits.
    """
    if importlib.util.find_spec("espeakng_loader") is None:
        raise PrepError(NEEDS)
    request = {
        "voice": voice.name,
        "pitch": voice.pitch,
        "rate": voice.rate,
        "seconds": seconds,
        "gap": GAP,
        "sentences": list(sentences),
    }
    # -P and friends are not on Python 3.10; the script's own folder on sys.path holds nothing that shadows a module.
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("espeak.py"))],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it was killed"]
        raise PrepError(f"espeak-ng cannot speak with voice {voice.name}: {lines[-1]}")
    line, _, data = done.stdout.partition(b"\n")
    header = json.loads(line)
    spoken = header["spoken"]
    if not spoken:
        raise PrepError(
            f"no sentence is short enough for clips of {seconds:.2f} s of speech; ask for longer clips"
        )
    sound = np.frombuffer(data, "<i2").astype(np.float64)
    rate = header["sample_rate"]
    common = np.gcd(SAMPLE_RATE, rate)
    samples = resample_poly(sound, SAMPLE_RATE // common, rate // common)
    samples *= _PEAK / max(np.abs(samples).max(), 1.0)

    marks: list[tuple[str, int]] = [("", 0)]
    for sentence in spoken:
        for name, at in sentence["phonemes"]:
            if name[:1] in _PLOSIVES:
                at = max(_closing(sound, at, rate), (marks[-1][1] + at) // 2)
            marks.append((name, at))
        marks.append(("", sentence["stop"]))
    ends = [at for _, at in marks[1:]] + [len(sound)]
    phonemes = tuple(
        Phoneme(name, at / rate, end / rate) for (name, at), end in zip(marks, ends, strict=True) if end > at
    )
    return Speech(tuple(s["sentence"] for s in spoken), samples, phonemes)


def _closing(sound: NDArray[np.float64], burst: int, rate: int) -> int:
    """Where the silence begins that leads to a plosive's burst, at most 0.09 s before it.

    espeak-ng reports a plosive when it bursts and counts the silence before to the phoneme before; the mouth closes
    at the beginning of that silence.
    """
    step = rate // 250
    quiet = 0.02 * np.abs(sound).max()
    at = burst
    while burst - at < 0.09 * rate and at >= step and np.abs(sound[at - step : at]).max() < quiet:
        at -= step
    return at
