"""What a method is to the rest of the suite: stages that train it, and frames that it generates.

The bench brings data, devices, files and progress; a method brings networks, losses and the order of its steps.
Pictures are RGB and channels-first in batches, RGB (H, W, 3) uint8 in footage, unless a docstring says otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from prep.sample_spec import SampleSpec, StillSpec

Batch = dict[str, Any]


# Configuration ------------------------------------------------------------------------------------------------


class Section(BaseModel):
    """A table of a preset: an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainConfig(Section):
    """How the runner trains one stage.

    Attributes:
        batch_size: samples a process and micro-batch.
        accumulate: micro-batches a step.
        steps: optimizer steps at most.
        epochs: passes over the training split at most; the earlier of the two limits ends the stage.
        clip_norm: of an optimizer's gradient, L2; None: not clipped.
        ema: decay a step of the averaged copy that is validated and generated with; None: no such copy.
        validate_every: steps.
        validate_samples: windows of the validation split: the first so many, or several of each clip where there
            are fewer clips; None: one of each.
        monitor: figure of :meth:`Stage.validate` that decides which checkpoint is best.
        mode: whether that figure should fall or rise.
        patience: validations without a better figure after which the stage ends; None: it goes on.
        sample_every: steps between two grids of pictures; 0: none.
        checkpoint_every: steps.
    """

    batch_size: int = Field(ge=1)
    accumulate: int = Field(1, ge=1)
    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    validate_every: int = Field(1000, ge=1)
    validate_samples: int | None = Field(None, ge=1)
    monitor: str = "loss"
    mode: Literal["min", "max"] = "min"
    patience: int | None = Field(None, ge=1)
    sample_every: int = Field(1000, ge=0)
    checkpoint_every: int = Field(1000, ge=1)


# Training -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """Where training stands when a batch comes.

    Attributes:
        step: optimizer steps made so far.
        epoch: passes over the training split made so far, with the fraction of the current one.
    """

    step: int
    epoch: float


@dataclass(frozen=True)
class Update:
    """One optimizer step that the runner is to make.

    The gradient of ``loss`` is taken for the parameters of ``optimizer`` and for no others: a generator's loss
    leaves nothing in its discriminator.

    Attributes:
        loss: () float, to be minimised.
        optimizer: a key of :meth:`Stage.optimizers`.
        logs: name, in the paper's terms → () tensor, with or without gradient.
    """

    loss: Tensor
    optimizer: str
    logs: Mapping[str, Tensor] = field(default_factory=dict)


class Stage(ABC):
    """One training problem of a method. It touches no device, no file and no progress bar.

    The runner moves ``networks`` and ``frozen`` to a device and batches after them, sets ``networks`` to training
    mode for updates and to evaluation mode for validation, and keeps ``frozen`` in evaluation mode, without
    gradients. Randomness must come from torch's default generators.

    Attributes:
        name: its key in :attr:`Method.stages`, in logs and folders.
        sample: what the data set must deliver.
        train: how it is trained.
        networks: name → module, trained here and saved with checkpoints.
        frozen: name → module, used and not trained: of an earlier stage, or pretrained.
    """

    name: str
    sample: SampleSpec | StillSpec
    train: TrainConfig
    networks: dict[str, nn.Module]
    frozen: dict[str, nn.Module]

    def prepare(self, sample: Batch) -> Batch:
        """Complete one sample, in a worker of the data loader, before samples are collated.

        It must be a pure function of the sample, on the CPU.
        """
        return sample

    @abstractmethod
    def optimizers(self) -> dict[str, Optimizer]:
        """Build the optimizers, each over its own parameters; called once the networks are on their device."""

    def schedulers(self, optimizers: Mapping[str, Optimizer]) -> dict[str, LRScheduler]:
        """Build schedules of learning rates, each a key of ``optimizers``, advanced at each of its steps."""
        return {}

    @abstractmethod
    def updates(self, batch: Batch, progress: Progress) -> Iterator[Update]:
        """Yield the optimizer steps for one batch, in order.

        The code after a ``yield`` runs when that step has been made (with ``accumulate`` > 1: at the last
        micro-batch). The order and the names of optimizers must depend on ``progress`` alone.
        """

    @abstractmethod
    def validate(self, batch: Batch) -> dict[str, Tensor]:
        """Figures of a held-out batch, each () float and a mean over its samples."""

    def validated(self, figures: Mapping[str, float]) -> None:
        """Take note of a whole validation's figures, for schedules that depend on them."""
        return

    def hint(self, logs: Mapping[str, float], progress: Progress) -> str | None:
        """One line, where the logged losses show something that a person should know and can mend."""
        return None

    def samples(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures to look at: column → (B, 3, H, W) float in [0, 1], RGB."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What schedules remember, as JSON can hold it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        return


# Generation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """One frame of footage.

    Attributes:
        index: its place in the footage.
        frame: (H, W, 3) uint8 RGB, the whole frame. It may be written to.
        crop: (h, w, 3) uint8 RGB, what :attr:`Method.view` cuts out; None where no face was found.
        transform: (2, 3) float64, full-frame to crop pixels; None where no face was found.
    """

    index: int
    frame: np.ndarray
    crop: np.ndarray | None = None
    transform: np.ndarray | None = None


class Footage(Protocol):
    """The video that is to speak, as long as the driving sound; it can be gone through several times.

    Attributes:
        n_frames: at 25 a second.
        n_unique: the first so many frames differ; what follows repeats them, to fill the driving sound.
        width: pixels of a frame.
        height: pixels of a frame.
        detected: (n_frames,) bool: a face was found.
    """

    n_frames: int
    n_unique: int
    width: int
    height: int
    detected: np.ndarray

    def landmarks(self, name: str) -> np.ndarray:
        """Return (n_frames, P, 2) float32 landmarks of a named set, full-frame pixels; NaN where no face was found."""
        ...

    def boxes(self, landmarks: np.ndarray, margin: float) -> np.ndarray:
        """Return (n, 4) float64 x0, y0, x1, y1 in the frame: (n, P, 2) landmarks and ``margin`` pixels around."""
        ...

    def shots(self) -> Iterator[Shot]:
        """Read all frames in order, from the beginning, few at a time."""
        ...

    def pick(self, indices: Sequence[int]) -> list[Shot]:
        """Read some frames, in the order asked for."""
        ...


class Speech(Protocol):
    """The driving sound, as long as the footage."""

    def chunk(self, frame: int, rule: str) -> np.ndarray:
        """Return (80, 16) float32 in [-4, 4]: the mel columns of a frame by a named rule; silence beyond the ends."""
        ...


# A method -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pretrained:
    """A network of a method whose weights come from elsewhere.

    Attributes:
        module: it; its keys are those of the file.
        weights: an entry of ``bench weights list``; or, where it has a ``/``, the folder of a run.
        network: with a run, which of its networks.
        purpose: what it is for, in a few words.
        without: the option that does without it, as ``--set`` takes it, or ``""``.
    """

    module: nn.Module
    weights: str
    network: str = ""
    purpose: str = ""
    without: str = ""


class Method(ABC):
    """A paper's method, or a baseline in the same form.

    Attributes:
        name: as the command line calls it.
        title: as tables call it.
        config_class: type of its configuration; presets lie beside it as ``paper.toml`` and ``tiny.toml``.
        view: what :attr:`Shot.crop` shows, or None.
        networks: name → module: all that generation needs and stages train.
        stages: in the order in which they are trained.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config_class: ClassVar[type[Section]]
    view: ClassVar[str | None] = None
    networks: dict[str, nn.Module]
    stages: dict[str, Stage]

    @abstractmethod
    def __init__(self, config: Any) -> None:
        """Build the networks, with torch's default generator, and the stages over them."""

    @property
    def pretrained(self) -> dict[str, Pretrained]:
        """Networks that training needs and somebody else trained, by name."""
        return {}

    @property
    def generates_with(self) -> tuple[str, ...]:
        """Names of the networks that :meth:`generate` uses."""
        return tuple(self.networks)

    @abstractmethod
    def generate(self, footage: Footage, speech: Speech) -> Iterator[np.ndarray]:
        """Make the face of ``footage`` say ``speech``.

        Networks are in evaluation mode, on the device where inference is to run; gradients are off.

        Yields:
            (H, W, 3) uint8 RGB, full frames, ``footage.n_frames`` of them. A frame without a face is its own.
        """

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Sort the content of an official checkpoint: network → its state dict.

        Raises:
            ValueError: it is not a checkpoint of this method; says which keys it expects.
        """
        raise ValueError(f"no official weights of {cls.name} are known")
