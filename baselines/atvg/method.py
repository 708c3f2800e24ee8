"""ATVGnet as a method: its configuration, its networks, and what its official files hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn

from baselines.atvg.faces import Faces, FacesConfig
from baselines.atvg.inference import GenerateConfig, Inference
from baselines.atvg.landmark_network import LandmarkNetwork
from baselines.atvg.landmark_stage import LandmarkConfig, LandmarkStage
from baselines.atvg.picture_network import NUMBERS, PictureNetwork
from baselines.atvg.picture_stage import VIEW, PictureConfig, PictureStage
from baselines.landmarks.fitting import SpaceStage
from baselines.landmarks.points import COUNT, MOUTH
from baselines.landmarks.space import SIZE, LandmarkSpace
from models.base import AnyStage, DataInfo, Drive, PoseKind, Section, Talker
from models.official import official_state

#: Files of the official folder ``basics`` that make the space of landmarks, as the keys of one checkpoint.
BASICS = ("mean_shape_norm", "S", "U_lrw1", "mean_lrw1")
#: Coefficients of the official networks, and the parameter of its shapes that opens the mouth, with its value.
_MODES, _OPEN, _OPENED = 6, 1, -0.06


class AtvgConfig(Section):
    """Tables ``[space]``, ``[at]``, ``[vg]`` and ``[generate]`` of a preset."""

    space: FacesConfig = FacesConfig()
    at: LandmarkConfig
    vg: PictureConfig
    generate: GenerateConfig = GenerateConfig()

    @model_validator(mode="after")
    def _factors_have_modes(self) -> AtvgConfig:
        if len(self.generate.amplify) > self.space.modes:
            raise ValueError(f"generate.amplify has more than space.modes={self.space.modes} factors")
        return self


class Atvg(Talker):
    """Hierarchical Cross-Modal Talking Face Generation with Dynamic Pixel-Wise Loss (Chen et al., CVPR 2019).

    Args:
        config: an :class:`AtvgConfig`.
        data: not used.
    """

    name = "atvg"
    title = "ATVGnet"
    config_class = AtvgConfig
    views = (VIEW,)
    output = VIEW
    poses: ClassVar[frozenset[PoseKind]] = frozenset({"footage", "still"})
    animates_pictures = True

    def __init__(self, config: AtvgConfig, data: DataInfo) -> None:
        self.config = config
        space = LandmarkSpace(config.space.modes)
        self._faces = Faces(space, config.space.identity)
        self._at = config.at.build(config.space.modes)
        self._vg = config.vg.build()
        discriminator = config.vg.build_discriminator()
        self.networks: dict[str, nn.Module] = {"space": space, "at": self._at, "vg": self._vg}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.stages: dict[str, AnyStage] = {
            "space": SpaceStage(config.space, space),
            "at": LandmarkStage(config.at, self._at, self._faces),
            "vg": PictureStage(config.vg, self._vg, discriminator, self._faces),
        }

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The space of landmarks and both generators."""
        return ("space", "at", "vg")

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read once."""
        config = self.config
        return Inference(config.generate, self._at, self._vg, self._faces, config.vg.side, drive).frames()

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take a checkpoint of AT-net, one of VG-net, or the space of landmarks, which are three files.

        Args:
            state: what the file holds. Of the networks a state dict, whose keys may start with ``module.``; of the
                space the arrays :data:`BASICS` of the official folder ``basics``, under their names.

        Returns:
            ``at``, ``vg`` or ``space`` → its state dict, for networks of the official size.

        Raises:
            ValueError: it is none of them; names the first key that is missing or of another shape.
        """
        if set(BASICS) & set(state):
            return {"space": _official_space(state)}
        networks = {"at": LandmarkNetwork, "vg": PictureNetwork}
        return official_state(state, networks, "a checkpoint of ATVGnet")


def _official_space(basics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official mean face, which any example is taken for (``normLmarks`` of ``demo.py``), and components.

    Of a single face the official normalisation leaves the mean shape with its mouth closed a little: the face's own
    parameters are subtracted from themselves.
    """
    for name in BASICS:
        if name not in basics:
            raise ValueError(f"not the space of ATVGnet's landmarks: it misses {name}")
    mean, modes, components, centre = (basics[name].double() for name in BASICS)
    shapes = (mean.numel(), modes.shape[1:], components.shape, centre.numel())
    if shapes != (NUMBERS, (NUMBERS,), (NUMBERS, NUMBERS), NUMBERS):
        raise ValueError(f"not the space of ATVGnet's landmarks: {', '.join(BASICS)} have other shapes")
    opened = torch.zeros(NUMBERS, dtype=torch.float64)
    opened[2 * MOUTH.start :] = _OPENED * modes[_OPEN, 2 * MOUTH.start :]
    face = SIZE * (mean.flatten() - (modes @ opened) @ modes)
    shape = torch.cat([face.view(COUNT, 2), face.new_zeros(COUNT, 1)], dim=1)
    return {
        "shape": shape.float(),
        "mean": centre.flatten().float(),
        "components": components[:, :_MODES].T.contiguous().float(),
        # Not known: the official files have none, and generation needs none.
        "deviations": torch.full((_MODES,), torch.nan),
    }
