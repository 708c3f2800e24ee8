"""Logits of a CTC model from elsewhere, in ONNX or TorchScript, brought into DeepSpeech's form.

The model takes the sound, (1, n) float32 in [-1, 1], mono, 16 kHz, and returns (1, t, c) logits of c symbols, or a
tuple whose first part they are. Whatever it does with the sound (features, normalisation) is part of the model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from baselines.speech.network import RATE
from baselines.speech.text import LETTERS

_SAMPLE_RATE = 16_000
#: Longer sounds are cut into pieces of so many seconds, each heard with some seconds on both sides.
PIECE, CONTEXT = 30, 2
#: Rows that a model may give more or fewer than its rate says: what its windows lose at the ends.
_SLACK = 4
# As no symbol is called: their names are in lower case.
_BLANK = "BLANK"
#: (1, n) float32 → (1, t, c).
Run = Callable[[np.ndarray], np.ndarray]


def place_of_symbols(symbols: Sequence[str], blank: str, space: str) -> np.ndarray:
    """Where the 29 symbols stand among those of a model.

    Args:
        symbols: of the model, in the order of its outputs; letters of either case. Others, such as ``<unk>``, are left
            out.
        blank: which of them is the blank.
        space: which of them is the space.

    Returns:
        (29,) int64.

    Raises:
        ValueError: one of the 29 is missing, or is there twice.
    """

    def meant(name: str) -> str:
        return _BLANK if name == blank else " " if name == space else name.lower()

    names = [meant(name) for name in symbols]
    for wanted in (*LETTERS, _BLANK):
        if names.count(wanted) != 1:
            many = f"stands there {names.count(wanted)} times" if wanted in names else "is missing"
            called = {" ": "space", _BLANK: "blank"}.get(wanted, wanted)
            raise ValueError(
                f"speech.symbols: the {called} {many} among the {len(names)} symbols of the model; list all of its "
                "outputs in order, and name its blank and its space in speech.blank and speech.space"
            )
    return np.array([names.index(wanted) for wanted in (*LETTERS, _BLANK)])


def check_model(path: Path) -> None:
    """Check that a model can be tried.

    Raises:
        ValueError: there is no such file, it is neither ``.onnx`` nor ``.pt``, or onnxruntime is not installed.
    """
    if not path.is_file():
        raise ValueError(f"speech.model: {path} is not a file; name a CTC model in ONNX or TorchScript")
    if path.suffix not in (".onnx", ".pt", ".ts"):
        raise ValueError(f"speech.model: {path} must end in .onnx (ONNX) or .pt or .ts (TorchScript)")
    if path.suffix == ".onnx" and importlib.util.find_spec("onnxruntime") is None:
        raise ValueError(
            f"speech.model: {path} needs onnxruntime: install it (the extra onnx), or name a TorchScript model"
        )


@lru_cache(maxsize=1)
def opened(path: Path) -> Run:
    """A model, loaded on the CPU; it stays in memory.

    Raises:
        ValueError: it cannot be read.
    """
    check_model(path)
    try:
        return _onnx(path) if path.suffix == ".onnx" else _torchscript(path)
    except Exception as error:  # what the two libraries raise has no common class
        raise ValueError(f"{path} cannot be loaded: {_line(error)}") from error


def logits_of(
    path: Path, samples: np.ndarray, places: np.ndarray, count: int, rate: float, columns: int
) -> np.ndarray:
    """The logits of a sound.

    Args:
        path: the model.
        samples: (n,) int16, mono, 16 kHz.
        places: of :func:`place_of_symbols`.
        count: number of the model's symbols.
        rate: rows that the model gives a second.
        columns: to return.

    Returns:
        (columns, 29) float32, raw, 50 a second.

    Raises:
        ValueError: the model fails, or gives another shape or number of rows.
    """
    run, parts = opened(path), []
    sound = samples.astype(np.float32) / 32768
    for begin in range(0, max(1, len(sound)), PIECE * _SAMPLE_RATE):
        before = min(begin, CONTEXT * _SAMPLE_RATE)
        piece = sound[begin - before : begin + (PIECE + CONTEXT) * _SAMPLE_RATE]
        try:
            rows = np.asarray(run(np.ascontiguousarray(piece[None])))
        except Exception as error:
            raise ValueError(f"{path} fails on {len(piece)} samples: {_line(error)}") from error
        expected = len(piece) / _SAMPLE_RATE * rate
        if rows.ndim != 3 or rows.shape[0] != 1 or rows.shape[2] != count:
            raise ValueError(f"{path} gives {rows.shape}, not (1, t, {count}) as speech.symbols says")
        if abs(rows.shape[1] - expected) > _SLACK + 0.02 * expected:
            raise ValueError(
                f"{path} gives {rows.shape[1]} rows for {len(piece) / _SAMPLE_RATE:.2f} s, not about {expected:.0f} as "
                "speech.rate says: correct it"
            )
        part = resampled(rows[0][:, places], rate)
        first = before * RATE // _SAMPLE_RATE
        parts.append(held(part, first + PIECE * RATE)[first:])
    return held(np.concatenate(parts), columns)


def resampled(rows: np.ndarray, rate: float) -> np.ndarray:
    """Rows at a rate → float32 (n, 29), 50 a second, by linear interpolation; the ends are held.

    Row i stands for the time (i + ½) / rate, column j for (j + ½) / 50.
    """
    if rate == RATE:
        return rows.astype(np.float32)
    at = (np.arange(max(1, round(len(rows) / rate * RATE))) + 0.5) / RATE * rate - 0.5
    at = at.clip(0, len(rows) - 1)
    left = at.astype(int)
    right = np.minimum(left + 1, len(rows) - 1)
    share = (at - left)[:, None]
    return (rows[left] * (1 - share) + rows[right] * share).astype(np.float32)


def held(rows: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` rows; where there are fewer, the last one is repeated."""
    return rows[np.arange(count).clip(max=len(rows) - 1)]


def _onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda sound: session.run(None, {name: sound})[0]


def _torchscript(path: Path) -> Run:
    model = torch.jit.load(str(path), map_location="cpu").eval()

    def run(sound: np.ndarray) -> np.ndarray:
        found = model(torch.from_numpy(sound))
        logits: np.ndarray = (found[0] if isinstance(found, tuple) else found).float().numpy()
        return logits

    return run


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
