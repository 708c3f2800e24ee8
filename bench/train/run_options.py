"""What every run has in addition to the options of its method: tables of options, and the clips of its person."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.base import Section

RUNNER = "runner"
SOUND = "sound"


class RunnerConfig(Section):
    """Options of the runner, the same for every method.

    Attributes:
        seed: of weights, samples, their order, and all random numbers of stages.
        precision: of the forward passes: ``no`` (float32), ``bf16`` or ``fp16``, by autocast. ``auto``: ``bf16`` if it
            is measured to be faster on this device, else ``no``; a run keeps what was chosen when it began.
        device: ``auto`` (CUDA if available), ``cpu`` or ``cuda``.
        workers: worker processes per data loader; 0: samples are read by a thread of the process that trains;
            ``auto``: 0 with two cores or fewer for each such process, else half of its cores, at most 4.
        cache: memory for decoded pictures, which are then decoded once and not in every epoch: ``auto`` (if all fit in
            a quarter of what is free), ``off``, or MiB of each process that trains, which its workers share.
        compile: networks are compiled with ``torch.compile``, unless ``<stage>.train.compile`` says otherwise.
        deterministic: use only deterministic algorithms; slower on a GPU.
        log_every: steps between two lines of the log.
        tensorboard: TensorBoard files are written beside the log.
        keep_last: number of newest checkpoints kept for each stage, in addition to the best.
    """

    seed: int = Field(0, ge=0)
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    cache: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = "auto"
    compile: bool = False
    deterministic: bool = False
    log_every: int = Field(50, ge=1)
    tensorboard: bool = True
    keep_last: int = Field(2, ge=1)


class SoundConfig(Section):
    """How the training sound was prepared; generation prepares sound in the same way.

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
        speaker: name in the corpus, or the folder in the clips' ids.
        folder: of the person's run, inside that of the run set.
        train: ids of the clips for training.
        val: ids of the clips for validation.
        test: ids of the clips that are not used in training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speaker: str
    folder: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
