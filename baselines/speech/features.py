"""Speech features for methods that hear as AD-NeRF and DINet do: logits in DeepSpeech's form, from a source of choice.

A method has a :class:`SpeechSource` among its options, and gives what :func:`speech_features` makes of it as its
derivations and assets. Its samples then ask for ``Sound("speech.logits", …)``, and its generation for
``speech.feature("speech.logits")``, (2 T, 29) float32 for T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import Field, model_validator

from baselines.speech.external import check_model, held, logits_of, place_of_symbols
from baselines.speech.network import RATE, SpeechEncoder
from baselines.speech.text import SYMBOLS
from models.base import Asset, Derivation, Section, Speech
from prep.sample_spec import Column

#: The feature's name in samples and at generation.
LOGITS = "speech.logits"
#: The run that ``bench train speech`` writes without ``--run``.
USUAL_RUN = "runs/speech"

_SAMPLE_RATE = 16_000
#: Columns that a file may have more or fewer than its sound: 0.1 s.
_SLACK = 5
_BLOCK = 1 << 20


class SpeechSource(Section):
    """Where speech logits come from: ``files`` if it is given, else ``model`` if it is given, else ``run``.

    Attributes:
        run: the folder of a run of ``bench train speech``.
        width: of that run.
        layers: of that run.
        model: a CTC model in ONNX (``.onnx``, needs onnxruntime) or TorchScript (``.pt``, ``.ts``); see
            :mod:`baselines.speech.external`.
        symbols: all outputs of the model, in order; those of HuBERT and wav2vec 2.0 in torchaudio by default.
        blank: which of them is the blank of CTC.
        space: which of them is the space.
        rate: rows that the model gives a second.
        files: a folder with outputs of DeepSpeech's frozen graph, one file a clip: ``<clip id>.npy``, (t, 29), 50
            a second. For a sound that is no clip of a data set, the file lies beside it: ``speech.npy`` for
            ``speech.wav``.
    """

    run: str = USUAL_RUN
    width: int = Field(default=512, ge=2, multiple_of=2)
    layers: int = Field(default=3, ge=1)
    model: Path | None = None
    symbols: tuple[str, ...] = tuple("-|etaonihsrdlumwcfgypbvk'xjqz")
    blank: str = "-"
    space: str = "|"
    rate: float = Field(default=50.0, gt=0)
    files: Path | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> SpeechSource:
        if self.model is not None and self.files is not None:
            raise ValueError("speech.model and speech.files are both given: leave one out")
        return self


@dataclass(frozen=True)
class SpeechFeatures:
    """What a method adds to its own derivations and assets, by name.

    Attributes:
        derivations: ``speech``, with the column ``logits``.
        assets: ``speech``, the encoder of a run; empty for the other sources.
    """

    derivations: Mapping[str, Derivation]
    assets: Mapping[str, Asset] = field(default_factory=dict)


def speech_features(source: SpeechSource) -> SpeechFeatures:
    """The derivation of ``speech.logits`` from a source, and the network that it needs.

    The key of the derived columns depends on the weights of the run, the file of the model, or all files of the folder.

    Raises:
        ValueError: a file or folder is missing, onnxruntime is not installed, or ``symbols`` lacks one of the 29.
    """
    said: dict[str, Any]
    if source.files is not None:
        said = {"source": "files", "sha256": _folder_digest(source.files)}
        return SpeechFeatures({"speech": _derivation(partial(_from_files, source.files), said)})
    if source.model is not None:
        check_model(source.model)
        places = place_of_symbols(source.symbols, source.blank, source.space)
        said = {"source": "model", "sha256": _digest(source.model), "rate": source.rate}
        said |= {"places": places.tolist(), "symbols": len(source.symbols)}
        return SpeechFeatures({"speech": _derivation(partial(_from_model, source, places), said)})
    encoder = SpeechEncoder(source.width, source.layers)
    said = {"source": "run", "width": source.width, "layers": source.layers}
    folder = "" if source.run == USUAL_RUN else f" --run {source.run}"
    asset = Asset(
        encoder,
        source.run if "/" in source.run else f"./{source.run}",
        frozenset({"derive"}),
        network="encoder",
        purpose="the speech features",
        remedy=(
            f"train one with the same --preset: bench train speech --data DATA{folder}; or name logits from "
            "elsewhere with speech.model or speech.files (docs/speech.md)"
        ),
    )
    return SpeechFeatures(
        {"speech": _derivation(partial(_from_encoder, encoder), said, "speech")}, {"speech": asset}
    )


def frame_logits(logits: np.ndarray, reach: int = 2) -> np.ndarray:
    """What DINet hears at generation: every second column, and those of the frames around each frame.

    Args:
        logits: (2 T, 29) float32, 50 a second.
        reach: frames on either side; beyond both ends the first and the last are repeated (``inference.py``).

    Returns:
        (T, 29, 2 reach + 1) float32, time last.
    """
    padded = np.pad(logits[::2], ((reach, reach), (0, 0)), mode="edge")
    return np.ascontiguousarray(sliding_window_view(padded, 2 * reach + 1, axis=0))


def _derivation(hear: Any, said: Mapping[str, Any], *assets: str) -> Derivation:
    def heard(speech: Speech) -> dict[str, np.ndarray]:
        return {"logits": hear(speech)}

    column = Column("logits", "sound", (SYMBOLS,), rate=RATE)
    return Derivation("speech", (column,), hear=heard, parameters={"version": 1, **said}, assets=assets)


def _columns(speech: Speech) -> int:
    """Two for each frame."""
    return len(speech.samples) * RATE // _SAMPLE_RATE


def _from_encoder(encoder: SpeechEncoder, speech: Speech) -> np.ndarray:
    device = encoder.output.weight.device
    mel = torch.from_numpy(np.ascontiguousarray(speech.feature("mel").T))[None].to(device)
    logits = encoder.hear(mel, [mel.shape[2]])
    found: np.ndarray = logits[0].float().cpu().numpy()
    return found


def _from_model(source: SpeechSource, places: np.ndarray, speech: Speech) -> np.ndarray:
    assert source.model is not None
    return logits_of(source.model, speech.samples, places, len(source.symbols), source.rate, _columns(speech))


def _from_files(folder: Path, speech: Speech) -> np.ndarray:
    # The name of a sound that is no clip is its absolute path, so that the folder falls away.
    path = folder / f"{speech.name}.npy"
    try:
        logits = np.load(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: write DeepSpeech's logits of this sound there, (t, {SYMBOLS}), {RATE} a second"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no .npy file of numbers ({error}): write it anew") from None
    if logits.ndim != 2 or logits.shape[1] != SYMBOLS or logits.dtype.kind != "f" or not len(logits):
        raise ValueError(
            f"{path} holds {logits.dtype} {logits.shape}, not floats (t, {SYMBOLS}): the raw output of the graph"
        )
    expected = speech.length / _SAMPLE_RATE * RATE
    if abs(len(logits) - expected) > _SLACK:
        raise ValueError(
            f"{path} has {len(logits)} columns for {expected / RATE:.2f} s, not {expected:.0f}: it must be of this "
            f"sound, {RATE} columns a second"
        )
    return held(logits, _columns(speech)).astype(np.float32)


def _digest(path: Path) -> str:
    found = sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _folder_digest(folder: Path) -> str:
    """Of the names and contents of all ``.npy`` files."""
    paths = sorted(folder.rglob("*.npy"))
    if not paths:
        raise ValueError(f"speech.files: {folder} holds no .npy file; name the folder with <clip id>.npy")
    found = sha256()
    for path in paths:
        found.update(f"{path.relative_to(folder).as_posix()} {_digest(path)}\n".encode())
    return found.hexdigest()
