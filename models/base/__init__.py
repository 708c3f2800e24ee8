"""What a method is to the rest of the suite. ``Trainable`` is trained; a ``Talker`` is trained and generates."""

from models.base.config import Section, TrainConfig
from models.base.derivation import Derivation
from models.base.generation import FULL, Crop, Drive, Footage, PoseKind, Shot, Speech, Talker
from models.base.training import Asset, Batch, DataInfo, Progress, Stage, Trainable, Update, When

__all__ = [
    "FULL",
    "Asset",
    "Batch",
    "Crop",
    "DataInfo",
    "Derivation",
    "Drive",
    "Footage",
    "PoseKind",
    "Progress",
    "Section",
    "Shot",
    "Speech",
    "Stage",
    "Talker",
    "TrainConfig",
    "Trainable",
    "Update",
    "When",
]
