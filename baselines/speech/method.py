"""The acoustic encoder as a method of the suite: trained like the others, it makes no videos."""

from __future__ import annotations

from torch import nn

from baselines.speech.stage import SpeechConfig, SpeechStage
from models.base import DataInfo, Section, Stage, Trainable


class SpeechMethodConfig(Section):
    """Table ``[speech]`` of a preset."""

    speech: SpeechConfig


class Speech(Trainable):
    """Hears which letters are spoken: the speech features of AD-NeRF and DINet, where DeepSpeech is not at hand.

    Args:
        config: a :class:`SpeechMethodConfig`.
        data: not used.
    """

    name = "speech"
    title = "Speech encoder"
    config_class = SpeechMethodConfig

    def __init__(self, config: SpeechMethodConfig, data: DataInfo) -> None:
        stage = SpeechStage(config.speech, config.speech.build())
        self.networks: dict[str, nn.Module] = dict(stage.networks)
        self.stages: dict[str, Stage] = {"speech": stage}
