"""The lip-sync expert as a method of the suite: trained like the others, it makes no videos."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Tag
from torch import Tensor, nn

from baselines.speech.features import SpeechFeatures, SpeechSource, speech_features
from baselines.sync_expert.distilling import TaughtStage
from baselines.sync_expert.landmark_stage import LandmarkConfig, LandmarkStage
from baselines.sync_expert.network import SyncNet
from baselines.sync_expert.score_network import ScoreNet
from baselines.sync_expert.score_stage import ScoreConfig, ScoreStage
from baselines.sync_expert.stage import ExpertConfig, ExpertStage
from models.base import Asset, DataInfo, Derivation, Section, Stage, Trainable
from models.official import official_state


def _kind(table: Any) -> str:
    said = table if isinstance(table, dict) else {key: getattr(table, key, None) for key in ("view", "form")}
    if said.get("view") == "landmarks":
        return "landmarks"
    return "scores" if said.get("form") == "scores" else "pictures"


class SyncExpertConfig(Section):
    """Configuration of the method ``sync-expert``.

    Attributes:
        expert: its ``view`` says what it looks at, and ``form="scores"`` that it is DINet's.
        speech: where the logits come from that DINet's hears; not used by others.
    """

    expert: Annotated[
        Annotated[ExpertConfig, Tag("pictures")]
        | Annotated[ScoreConfig, Tag("scores")]
        | Annotated[LandmarkConfig, Tag("landmarks")],
        Discriminator(_kind),
    ]
    speech: SpeechSource = SpeechSource()


class SyncExpert(Trainable):
    """The expert that Wav2Lip and its successors are trained with (Prajwal et al., ACM MM 2020).

    Args:
        config: a :class:`SyncExpertConfig`.
        data: not used.
    """

    name = "sync-expert"
    title = "Lip-sync expert"
    config_class = SyncExpertConfig

    def __init__(self, config: SyncExpertConfig, data: DataInfo) -> None:
        options = config.expert
        stage: Stage
        self._speech = SpeechFeatures({})
        if isinstance(options, LandmarkConfig):
            stage = LandmarkStage(options, options.build())
        elif isinstance(options, ScoreConfig):
            stage = ScoreStage(options, options.build())
            if options.hears == "speech":
                self._speech = speech_features(config.speech)
        elif options.teach is None:
            stage = ExpertStage(options, options.build())
        else:
            stage = TaughtStage(options, options.build())
        self.networks: dict[str, nn.Module] = dict(stage.networks)
        self.stages: dict[str, Stage] = {"expert": stage}

    @property
    def assets(self) -> dict[str, Asset]:
        """What speech logits are made with, where they are heard."""
        return dict(self._speech.assets)

    @property
    def derivations(self) -> dict[str, Derivation]:
        """Speech logits, where they are heard."""
        return dict(self._speech.derivations)

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The expert; what reads landmarks of pictures is of use in training only."""
        return ("expert",)

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take ``lipsync_expert.pth`` of Wav2Lip, for ``face96`` at the official size, or DINet's
        ``syncnet_256mouth.pth``, for the preset ``dinet``: ``expert`` → its state dict.

        Raises:
            ValueError: it is another; names the first key that does not fit.
        """
        if any(key.startswith("net.") for key in state):
            inner = {key.removeprefix("net."): value for key, value in state.items()}
            return official_state(inner, {"expert": ScoreNet}, "a checkpoint of DINet's expert")
        return official_state(state, {"expert": SyncNet}, "a checkpoint of Wav2Lip's expert")
