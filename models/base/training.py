"""What a method is to the training runner: networks, stages over them, and what they need from elsewhere.

The bench brings data, devices, files and progress; a method brings networks, losses and the order of its steps.
Pictures in batches are RGB and channels-first unless a docstring says otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from models.base.config import Section, TrainConfig
from models.base.fitting import FitStage
from prep.sample_spec import SampleSpec, StillSpec

if TYPE_CHECKING:
    from models.base.derivation import Derivation

Batch = dict[str, Any]
#: When the weights of an asset are needed.
When = Literal["train", "generate", "derive"]


def _alone(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Progress:
    """Where training stands when a batch comes, and how the processes of a run exchange numbers.

    Attributes:
        step: optimizer steps made so far.
        epoch: passes over the training split made so far, with the fraction of the current one.
        sum: a tensor → its sum over all processes. Every process must call it, in the same order.
        mean: a tensor of floats → its mean over all processes, under the same condition.
        first: a tensor → that of the first process, under the same condition.
    """

    step: int
    epoch: float
    sum: Callable[[Tensor], Tensor] = field(default=_alone, compare=False)
    mean: Callable[[Tensor], Tensor] = field(default=_alone, compare=False)
    first: Callable[[Tensor], Tensor] = field(default=_alone, compare=False)


@dataclass(frozen=True)
class Update:
    """One optimizer step that the runner is to make.

    The gradient of ``loss`` is taken for the parameters of ``optimizer`` and for no others: a generator's loss
    leaves nothing in its discriminator.

    Attributes:
        loss: () float, to be minimised.
        optimizer: a key of :meth:`Stage.optimizers`, or of :meth:`models.base.Talker.adapt_optimizers`.
        logs: name, in the paper's terms → () tensor, with or without gradient.
    """

    loss: Tensor
    optimizer: str
    logs: Mapping[str, Tensor] = field(default_factory=dict)


class Stage(ABC):
    """One training problem of a method. It touches no device, no file and no progress bar.

    The runner moves ``networks`` and ``frozen`` to a device and batches after them, sets ``networks`` to training
    mode for updates and to evaluation mode for validation, and keeps ``frozen`` in evaluation mode, without
    gradients. Randomness must come from torch's default generators. Numbers of several processes are brought
    together by :class:`Progress`, never by ``torch.distributed``.

    Attributes:
        name: its key in :attr:`Trainable.stages`, in logs and folders.
        sample: what the data set must deliver.
        train: how it is trained.
        networks: name → module, trained here and saved with checkpoints.
        frozen: name → module, used and not trained: of an earlier stage, or of an asset.
        float32: modules that are computed in float32 where the stage is trained in half precision: dotted names, whose
            first part is a key of ``networks`` or ``frozen``, such as ``discriminator.score``.
        long_step_every: every so many steps one takes longer than the others, such as by a regularisation: a step
            whose number is a multiple of it. 1: there are no such steps. Only measuring uses it.
        compiled: modules that ``train.compile`` compiles, as dotted names; None: all networks, also the frozen ones.
            Only what a call of such a module does is compiled, and a second derivative cannot be taken.
        recomputed: modules that ``train.recompute`` computes again in the backward pass, as dotted names.
        length: the options by which samples become shorter, where there are some, for data whose clips are too short.
    """

    name: str
    sample: SampleSpec | StillSpec
    train: TrainConfig
    networks: dict[str, nn.Module]
    frozen: dict[str, nn.Module]
    float32: tuple[str, ...] = ()
    long_step_every: int = 1
    compiled: tuple[str, ...] | None = None
    recomputed: tuple[str, ...] = ()
    length: str = ""

    def module(self, name: str) -> nn.Module:
        """The module of a dotted name, as in :attr:`float32`.

        Raises:
            KeyError: neither ``networks`` nor ``frozen`` has the first part.
            AttributeError: the network has no such module.
        """
        network, _, rest = name.partition(".")
        return {**self.networks, **self.frozen}[network].get_submodule(rest)

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

    def changes(self, per_epoch: float) -> tuple[int, ...]:
        """Steps from which the steps compute something else than those before, because the schedule says so.

        Only measuring uses it: it measures what lies between two of them apart. What figures of a validation switch
        on is not among them, see :meth:`validated`.

        Args:
            per_epoch: optimizer steps of an epoch.
        """
        return ()

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


#: With gradient steps, or without.
AnyStage = Stage | FitStage


@dataclass(frozen=True)
class Asset:
    """A network of a method whose weights come from elsewhere; never trained, in evaluation mode, without gradients.

    Attributes:
        module: it; its keys are those of the file.
        weights: an entry of ``bench weights list``; or, where it has a ``/``, the folder of a run.
        when: what it is needed for: training, generating (and dubbing), or deriving columns.
        network: with a run, which of its networks.
        purpose: what it is for, in a few words.
        without: the option that does without it, as ``--set`` takes it, or ``""``.
        remedy: how a run that is missing is made or replaced, or ``""``; for weights of the list, the list says it.
        run_of: with a run, the method that trains it; ``""``: any.
        options: with ``run_of``, dotted names of that method's options → the values that the run must have.
        least: figure of the run's validation → the least that the weights need; of weights from elsewhere no figures
            are known, and none are asked for.
        anyway: the option that asks for less, as ``--set`` takes it.
    """

    module: nn.Module
    weights: str
    when: frozenset[When] = frozenset({"train"})
    network: str = ""
    purpose: str = ""
    without: str = ""
    remedy: str = ""
    run_of: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    anyway: str = ""


@dataclass(frozen=True)
class DataInfo:
    """The training data, as far as networks are built after it; kept in the run, and given again when it is loaded.

    Attributes:
        clips: of the training split, or of the list of clips.
        frames: of these clips together, at 25 a second.
        width: pixels of a full frame; None where clips differ, or nothing is known (imported weights).
        height: pixels; None as for ``width``.
        identities: how many persons speak; a clip whose corpus names no speaker counts as a person of its own.
        background: (H, W, 3) uint8 RGB, the median over the training frames of :attr:`Trainable.background`; None
            where the method asks for none.
    """

    clips: int = 0
    frames: int = 0
    width: int | None = None
    height: int | None = None
    identities: int = 0
    background: np.ndarray | None = field(default=None, compare=False, repr=False)


class Trainable(ABC):
    """What the runner trains: a paper's method, a baseline in the same form, or a network that others need.

    Attributes:
        name: as the command line calls it.
        title: as tables call it.
        config_class: type of its configuration.
        presets: name → options, nested as in TOML, for a method in one file. Where empty, the presets are the files
            ``paper.toml`` and ``tiny.toml`` in the folder of its module.
        background: the view whose median over the training frames :attr:`DataInfo.background` holds, or None.
        networks: name → module: all that stages train.
        stages: in the order in which they are trained; a :class:`Stage` or a :class:`models.base.FitStage` each.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    config_class: ClassVar[type[Section]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    background: ClassVar[str | None] = None
    networks: dict[str, nn.Module]
    stages: Mapping[str, AnyStage]

    @abstractmethod
    def __init__(self, config: Any, data: DataInfo) -> None:
        """Build the networks, with torch's default generator, and the stages over them.

        Args:
            config: a :attr:`config_class`.
            data: what is known of the training data: nothing, ``DataInfo()``, of imported weights and while columns
                are derived.

        Raises:
            ValueError: options do not go together, or do not suit the data.
        """

    @property
    def assets(self) -> dict[str, Asset]:
        """Networks that this one needs and that were trained elsewhere, by name."""
        return {}

    @property
    def derivations(self) -> dict[str, Derivation]:
        """Columns that must be computed once a clip before training or generation, by the derivation's name."""
        return {}

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """Names of the networks without which a run of it is of no use; all, by default."""
        return tuple(self.networks)

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Sort the content of an official checkpoint: network → its state dict.

        Raises:
            ValueError: it is not a checkpoint of this method; says which keys it expects.
        """
        raise ValueError(f"no official weights of {cls.name} are known")
