"""What a method is to the rest of the suite. ``Trainable`` is trained; a ``Talker`` is trained and generates."""

from models.base.config import Section, TrainConfig
from models.base.derivation import Derivation
from models.base.fitting import FitClip, FitConfig, FitStage, Group, Pass, Sums, Unfit
from models.base.generation import FULL, Crop, Drive, Footage, PoseKind, Shot, Speech, Talker
from models.base.training import AnyStage, Asset, Batch, DataInfo, Progress, Stage, Trainable, Update, When

__all__ = [
    "FULL",
    "AnyStage",
    "Asset",
    "Batch",
    "Crop",
    "DataInfo",
    "Derivation",
    "Drive",
    "FitClip",
    "FitConfig",
    "FitStage",
    "Footage",
    "Group",
    "Pass",
    "PoseKind",
    "Progress",
    "Section",
    "Shot",
    "Speech",
    "Stage",
    "Sums",
    "Talker",
    "TrainConfig",
    "Trainable",
    "Unfit",
    "Update",
    "When",
]
