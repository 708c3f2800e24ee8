"""What every configuration of a method is made of."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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
        precision: of the stage's forward passes, ``no`` (float32), ``bf16`` or ``fp16``; None: that of the run.
        threads: of an operation on the CPU; None: as many as torch has. Of a small network, operations are faster with
            one: the others then compute shares of the batch side by side, where the stage can do so.
        compile: the stage's networks are compiled with ``torch.compile``; None: as ``runner.compile`` says.
        recompute: what the large blocks compute is not kept for the backward pass, but computed again: less memory,
            about a quarter more time, the same results.
        clip_norm: of an optimizer's gradient, L2; None: not clipped.
        ema: decay a step of the averaged copy that is validated and generated with; None: no such copy.
        validate_every: steps.
        validate_samples: windows of the validation split: the first so many, or several of each clip where there
            are fewer clips; None: one of each.
        monitor: figure of :meth:`models.base.Stage.validate` that decides which checkpoint is best.
        mode: whether that figure should fall or rise.
        patience: validations without a better figure after which the stage ends; None: it goes on.
        sample_every: steps between two grids of pictures; 0: none.
        checkpoint_every: steps.
    """

    batch_size: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    precision: Literal["no", "bf16", "fp16"] | None = None
    threads: int | None = Field(default=None, ge=1)
    compile: bool | None = None
    recompute: bool = False
    clip_norm: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    validate_every: int = Field(default=1000, ge=1)
    validate_samples: int | None = Field(default=None, ge=1)
    monitor: str = "loss"
    mode: Literal["min", "max"] = "min"
    patience: int | None = Field(default=None, ge=1)
    sample_every: int = Field(default=1000, ge=0)
    checkpoint_every: int = Field(default=1000, ge=1)
