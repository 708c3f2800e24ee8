"""``generation.json`` of videos that a method of the suite made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.clips.generation_record import GenerationRecord, read_record

#: Source of the head pose: the clip that gives the frames, the clip that gives the sound, a clip named in the list
#: of pairs, or none: the head does not move.
PoseFrom = Literal["footage", "driver", "listed", "still"]


class TalkerGeneration(GenerationRecord):
    """The content of ``generation.json`` for videos of a method of the suite."""

    # The detector is that of the data set, which is compared by its manifest.
    free = GenerationRecord.free | {"run", "detector"}

    run: str = Field(description="folder of the training run or of the run set, as it was given")
    config_sha256: str = Field(description="of the method's configuration")
    changed: dict[str, Any] = Field(
        default_factory=dict, description="options of generation that differ from those of the run → value"
    )
    weights: dict[str, str] = Field(description="network → SHA-256 of its file; in a run set person/network")
    assets: dict[str, str] = Field(
        default_factory=dict, description="weights from elsewhere that generation used → SHA-256"
    )
    trained_on: str = Field("", description="names of the training run's data sets, if it has a record")
    per: Literal["", "speaker"] = Field("", description="speaker: a run set, with one run per person")
    clips_list: list[str] | None = Field(
        None,
        description="the clips to generate, if not all of the split; of a run set: those that it held out",
    )
    driver: str = Field("", description="in transfer: the clip whose sound drives all others")
    pose: PoseFrom = "footage"
    output: str = Field("full", description="full frames, or the view that was generated")
    detector: dict[str, str] = Field(
        default_factory=dict,
        description="what found the faces of the data set; nothing in records from before detectors had names, whose "
        "faces mediapipe found",
    )
    mel_padding: str = Field("constant", description="of the driving sound, as in training")
    adapted: bool = Field(False, description="fine-tuned on a clip of each person before generating")
    derived: dict[str, str] = Field(
        default_factory=dict, description="derived columns that were used: derivation → its key"
    )
    device: str


def read_generation(folder: Path) -> TalkerGeneration:
    """The record of a folder of videos.

    Raises:
        BenchError: the record is missing or not valid, or is of another command.
    """
    return read_record(TalkerGeneration, folder, "bench generate")
