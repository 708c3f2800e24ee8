"""DINet as a method: its configuration, its networks, and what the authors' checkpoints hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn

from baselines.dinet.faces import VIEW
from baselines.dinet.inference import GenerateConfig, speak
from baselines.dinet.network import REFERENCES, WINDOW, Generator, official_networks
from baselines.dinet.sound import HEARD, Hearing
from baselines.dinet.stages import ClipConfig, ClipStage, FrameConfig, FrameStage, Judge
from baselines.speech.features import SpeechFeatures, SpeechSource, speech_features
from baselines.wav2lip.method import expert_asset, train_expert
from models.base import Asset, DataInfo, Derivation, Drive, Section, Stage, Talker
from models.layers.mouth_square import MouthSquare
from models.layers.picture_discriminator import PictureDiscriminator
from models.layers.vgg import VGG19

#: The stages of frames, coarse to fine, and the side M of the square that each hides.
MOUTHS = {"frame64": 64, "frame128": 128, "frame256": 256}
#: The stage of five consecutive frames.
CLIP = "clip"


class NetworkConfig(Section):
    """The one generator, which all stages train.

    Attributes:
        width: factor on the channels of every layer, of discriminators too; 1 is the official size.
        references: N, pictures of the person that are deformed.
        sound: what is heard, a key of :data:`baselines.dinet.sound.HEARD`: ``speech``, logits, as in paper and code;
            ``mel``, which needs nothing that is trained elsewhere.
        mixed: AdaAT as in the official code, which mixes neighbouring channels; else as the paper describes it.
        residual: what is painted is added to the first reference picture; see
            :class:`baselines.dinet.network.Generator`. Neither paper nor code has it.
    """

    width: float = Field(default=1.0, gt=0)
    references: int = Field(default=REFERENCES, ge=1)
    sound: Hearing = "speech"
    mixed: bool = True
    residual: bool = False


class DINetConfig(Section):
    """Tables of a preset: ``[network]``, ``[speech]``, one for each stage that is to be trained, ``[generate]``.

    Attributes:
        network: the generator.
        speech: where logits come from; with ``network.sound="mel"`` it is not looked at.
        frame64: the stage of faces of 104×80, or None.
        frame128: the stage of faces of 208×160, or None.
        frame256: the stage of faces of 416×320, or None.
        clip: the stage of five frames, or None.
        generate: how faces are generated.
    """

    network: NetworkConfig = NetworkConfig()
    speech: SpeechSource = SpeechSource()
    frame64: FrameConfig | None = None
    frame128: FrameConfig | None = None
    frame256: FrameConfig | None = None
    clip: ClipConfig | None = None
    generate: GenerateConfig = GenerateConfig()

    @model_validator(mode="after")
    def _something_to_train(self) -> DINetConfig:
        if not self.trained:
            raise ValueError(f"no stage: give one of the tables {', '.join((*MOUTHS, CLIP))}")
        return self

    @property
    def trained(self) -> dict[str, FrameConfig]:
        """The stages that have a table, in the order of training."""
        stages = {name: getattr(self, name) for name in (*MOUTHS, CLIP)}
        return {name: stage for name, stage in stages.items() if stage is not None}


def _judges(name: str, stage: FrameConfig, width: float) -> dict[str, Judge]:
    """The discriminators of a stage: D_I, and D_V of the clip stage."""
    judges = {}
    if stage.gan_weight:
        called = f"discriminator{MOUTHS.get(name, '')}"
        judges[called] = Judge(PictureDiscriminator(width=width), "gan", stage.gan_weight)
    if isinstance(stage, ClipConfig) and stage.clip_gan_weight:
        network = PictureDiscriminator(3 * WINDOW, width)
        judges["clip_discriminator"] = Judge(network, "clip_gan", stage.clip_gan_weight, WINDOW)
    return judges


class DINet(Talker):
    """DINet: Deformation Inpainting Network for Realistic Face Visually Dubbing on High Resolution Video (Zhang et al.,
    AAAI 2023).

    All stages train the same generator, coarse to fine. As in the code, each has a discriminator of its own.

    Args:
        config: a :class:`DINetConfig`.
        data: not used.
    """

    name = "dinet"
    title = "DINet"
    config_class = DINetConfig
    animates_pictures = True
    views = (VIEW,)

    def __init__(self, config: DINetConfig, data: DataInfo) -> None:
        self.config = config
        network = config.network
        self.heard = HEARD[network.sound]
        self.generator = Generator(
            network.width, network.references, self.heard.shape, network.mixed, network.residual
        )
        self._speech = speech_features(config.speech) if network.sound == "speech" else SpeechFeatures({})
        perceptual = any(stage.perception_weight for stage in config.trained.values())
        self._vgg = VGG19() if perceptual else None
        self.networks: dict[str, nn.Module] = {"generator": self.generator}
        self.stages: dict[str, Stage] = {}
        self._expert: nn.Module | None = None
        for name, stage in config.trained.items():
            judges = _judges(name, stage, network.width)
            vgg = self._vgg if stage.perception_weight else None
            what = (self.generator, network.references, self.heard, judges, vgg)
            if isinstance(stage, ClipConfig):
                self._expert = expert = stage.build_expert(self.heard.shape[0])
                self.stages[name] = ClipStage(stage, *what, expert)
            else:
                self.stages[name] = FrameStage(name, stage, MouthSquare(MOUTHS[name]), *what)
            self.networks |= self.stages[name].networks

    @property
    def assets(self) -> dict[str, Asset]:
        """What speech features need, VGG-19 and the clip stage's expert, where they are used."""
        speech = self._speech.assets.items()
        found = {name: replace(asset, without="network.sound=mel") for name, asset in speech}
        if self._vgg is not None:
            stages = [name for name, stage in self.config.trained.items() if stage.perception_weight]
            without = " --set ".join(f"{name}.perception_weight=0" for name in stages)
            found["vgg"] = Asset(self._vgg, "vgg19", purpose="the perception loss", without=without)
        clip = self.config.clip
        if clip is not None and self._expert is not None:
            remedy = f"train one: bench train sync-expert --preset dinet --data DATA --run {clip.expert}"
            if clip.expert_kind == "cosine":
                remedy = train_expert(clip.expert, f" --set expert.view={VIEW}")
            found["expert"] = expert_asset(self._expert, clip.expert, CLIP, remedy, VIEW, clip.expert_rank)
        return found

    @property
    def derivations(self) -> dict[str, Derivation]:
        """Logits of speech, where they are heard."""
        return dict(self._speech.derivations)

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The generator."""
        return ("generator",)

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read once, and the references before that."""
        last = [*self.stages.values()][-1]
        assert isinstance(last, FrameStage)
        return speak(
            self.config.generate, self.generator, last.square, drive.footage, drive.speech, self.heard
        )

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take a checkpoint of the authors' training, see :func:`baselines.dinet.network.official_networks`."""
        return official_networks(state)
