"""What every run has beside the options of its method: tables of options, and the clips of its person."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.base import Section

RUNNER = "runner"
SOUND = "sound"


class RunnerConfig(Section):
    """How the runner works, whatever the method.

    Attributes:
        seed: of weights, samples, their order, and all that stages draw.
        precision: of the forward passes: ``no`` (float32), ``bf16`` or ``fp16``, by autocast.
        device: ``auto`` (CUDA where there is one), ``cpu`` or ``cuda``.
        workers: processes a data loader; 0: samples are read between the steps.
        compile: networks are compiled with ``torch.compile``.
        deterministic: only algorithms that give the same bits again; slower on a GPU.
        log_every: steps between two lines of the log.
        tensorboard: TensorBoard files are written beside the log.
        keep_last: checkpoints kept of each stage, beside the best.
    """

    seed: int = Field(0, ge=0)
    precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: int = Field(2, ge=0)
    compile: bool = False
    deterministic: bool = False
    log_every: int = Field(50, ge=1)
    tensorboard: bool = True
    keep_last: int = Field(2, ge=1)


class SoundConfig(Section):
    """How the sound was prepared that the networks learnt from; videos are generated with the same.

    Attributes:
        mel_padding: of the waveform before the mel spectrogram, ``constant`` (zeros; librosa ≥ 0.9, IP-LAP) or
            ``reflect`` (librosa 0.7, Wav2Lip).
    """

    mel_padding: Literal["constant", "reflect"] = "constant"


#: Their names and types.
TABLES: dict[str, type[BaseModel]] = {RUNNER: RunnerConfig, SOUND: SoundConfig}


class Person(BaseModel):
    """One person of a run set.

    Attributes:
        speaker: name, as the corpus gives it, or of the folder in the clips' ids.
        folder: of the person's run, within that of the run set.
        train: ids of the clips to train on.
        val: of those to validate with.
        test: of those that take no part in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: str
    folder: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
