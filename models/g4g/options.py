"""The options of G4G: of its networks and losses, which all stages share, and of each stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from models.base import Section, TrainConfig
from models.g4g.contrast import Others
from models.g4g.fusion import Blend
from models.g4g.masks import SIGMA, Region, masks
from models.g4g.network import Fused, Generator, LandmarkEncoder
from models.layers.mouth_square import MouthSquare

#: What the mouth square is called among the regions: the only one that is hidden in generation.
SQUARE: Region = "square"
#: The landmarks of which L_r is drawn. ``reference``: those of the first reference picture. ``upper``: those of the
#: frame itself without jaw and lips. ``source``: all of the frame itself, with the mouth that is to be generated.
Landmarks = Literal["reference", "upper", "source"]


class G4GConfig(Section):
    """What all stages share; defaults are the paper's, or this suite's reading where the paper says nothing.

    Attributes:
        width: factor on the channels of all networks.
        blocks: residual blocks before the deformation, and as many after it.
        references: N, reference pictures (section 3.1.1: 5).
        reference_mode: which frames they are in training, see :class:`prep.sample_spec.SampleSpec`.
        alignment: False: "w/o alignment" of Table 2: convolutions in its place, no landmarks, no contrast of the batch.
        supervision: False: "w/o supervision" of Table 2: the mouth square is all that is hidden and supervised.
        fusion: False: "w/o fusion" of Table 2: the composite is the result.
        landmarks: whose landmarks L_r shows.
        landmark_encoder: ``own``: the text's; ``source``: as equation 4 prints it, that of the source picture.
        fused: what the deformation is computed from, see :data:`models.g4g.network.Fused`.
        others: the projections of the other modality in the contrast, see :data:`models.g4g.contrast.Others`.
        residual: what is painted is added to the reference picture.
        blend: whether the fusion network gives the picture, as the paper's, or what is added to the composite.
        mixed: the deformation mixes neighbouring channels, as DINet's code does: :class:`models.layers.adaat.AdaAT`.
        hidden: the regions of which one is hidden in a sample in training (section 3.2: multi-scale mask).
        supervised: the regions that L_r is the mean of.
        sigma: of the Gaussian that smooths the mask of the composite, as a share of the mouth square's side.
        temperature: τ of equations 8 and 9.
        expert: the trained expert of the clip stage: the folder of a run of ``sync-expert`` for the view
            ``mouth416x320``.
        expert_width: that run's ``expert.width``.
        expert_coarse: that run's ``expert.coarse``.
        expert_apart: that run's ``expert.apart``.
        expert_region: where the expert sees what is painted; elsewhere it sees the true frame. ``lips`` is not in the
            paper: over the whole face, short training learns colours that please the expert, and no movement.
        expert_rank: how often the right sound must have the higher cosine of two on held-out clips, as that run's
            validation found (0.5: guessing), else training does not begin; 0: any expert is taken.
        expert_temperature: what the cosines of the expert are divided by in equation 23.
        lambda_v: weight of the facial attribute loss (equation 24), where there is an alignment.
        lambda_p: of the perception loss; 0: VGG-19 is not needed.
        lambda_gan: of the adversarial losses; 0: there are no discriminators.
        lambda_r: of the reconstruction loss.
        lambda_con: of the contrast, that of the batch (equation 10) where there is an alignment.
        lambda_sync: of the expert's contrast (equation 23) in the clip stage; 0: no expert is needed.
    """

    width: float = Field(1.0, gt=0)
    blocks: int = Field(4, ge=0)
    references: int = Field(5, ge=1)
    reference_mode: Literal["random", "first"] = "random"
    alignment: bool = True
    supervision: bool = True
    fusion: bool = True
    landmarks: Landmarks = "reference"
    landmark_encoder: LandmarkEncoder = "own"
    fused: Fused = "projected"
    others: Others = "own"
    residual: bool = False
    blend: Blend = "direct"
    mixed: bool = False
    spoken: bool = False
    unmoved: bool = False
    hidden: tuple[Region, ...] = ("half", "square", "chin")
    supervised: tuple[Region, ...] = ("face", "square", "lips")
    sigma: float = Field(SIGMA, ge=0)
    temperature: float = Field(0.07, gt=0)
    expert: str = Field("runs/sync-expert-mouth", min_length=1)
    expert_width: float = Field(1.0, gt=0)
    expert_coarse: bool = False
    expert_apart: bool = False
    expert_region: Literal["face", "lips"] = "face"
    expert_rank: float = Field(0.75, ge=0, lt=1)
    expert_temperature: float = Field(0.07, gt=0)
    lambda_v: float = Field(1.0, ge=0)
    lambda_p: float = Field(2.0, ge=0)
    lambda_gan: float = Field(3.0, ge=0)
    lambda_r: float = Field(4.0, gt=0)
    lambda_con: float = Field(5.0, ge=0)
    lambda_sync: float = Field(5.0, ge=0)

    @field_validator("hidden")
    @classmethod
    def _can_be_hidden(cls, names: tuple[Region, ...]) -> tuple[Region, ...]:
        masks(MouthSquare(8), names, 0)
        return names

    @field_validator("supervised")
    @classmethod
    def _one_at_least(cls, names: tuple[Region, ...]) -> tuple[Region, ...]:
        if not names:
            raise ValueError("name a region at least")
        return names

    @property
    def hidden_regions(self) -> tuple[Region, ...]:
        """The regions that are hidden in training."""
        return self.hidden if self.supervision else (SQUARE,)

    @property
    def supervised_regions(self) -> tuple[Region, ...]:
        """The regions that the reconstruction loss is the mean of."""
        return self.supervised if self.supervision else (SQUARE,)

    def build(self) -> Generator:
        """Build the generator, with torch's default generator of random numbers."""
        return Generator(
            width=self.width,
            references=self.references,
            blocks=self.blocks,
            alignment=self.alignment,
            fusion=self.fusion,
            landmark_encoder=self.landmark_encoder,
            fused=self.fused,
            others=self.others,
            residual=self.residual,
            blend=self.blend,
            mixed=self.mixed,
            spoken=self.spoken,
            unmoved=self.unmoved,
        )


class FrameConfig(Section):
    """A stage of single frames.

    Attributes:
        learning_rate: of the Adam of every network (section 4.4.3: 1e-4).
        betas: of the same.
        constant: share of ``train.steps`` after which the rate falls to 0 linearly; 1: it does not.
        train: how the runner trains it.
    """

    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    constant: float = Field(1.0, ge=0, le=1)
    train: TrainConfig


class ClipConfig(FrameConfig):
    """The stage of five consecutive frames.

    Attributes:
        mouth: M, side of the mouth square, pixels; the face has 13 M / 8 rows and 5 M / 4 columns.
    """

    mouth: Literal[64, 128, 256] = 256
