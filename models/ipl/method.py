"""IP-LAP as a method: its configuration, its networks, and what its official checkpoints hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from models.base import Footage, Method, Pretrained, Section, Speech, Stage
from models.ipl.inference import GenerateConfig, Generation
from models.ipl.landmark import LandmarkGenerator
from models.ipl.landmark_stage import LandmarkConfig, LandmarkStage
from models.ipl.render_stage import RenderConfig, RenderStage
from models.ipl.renderer import Renderer, split_official


class IPLConfig(Section):
    """Tables ``[landmark]``, ``[render]`` and ``[generate]`` of a preset."""

    landmark: LandmarkConfig
    render: RenderConfig
    generate: GenerateConfig = GenerateConfig()


class IPL(Method):
    """Identity-Preserving Talking Face Generation with Landmark and Appearance Priors (Zhong et al., CVPR 2023).

    Args:
        config: an :class:`IPLConfig`.
    """

    name = "ipl"
    title = "IP-LAP"
    config_class = IPLConfig

    def __init__(self, config: IPLConfig) -> None:
        self.config = config
        self.landmark = config.landmark.build()
        self.renderer = config.render.build_renderer()
        discriminator = config.render.build_discriminator()
        self._vgg = config.render.build_vgg()
        self.networks: dict[str, nn.Module] = {"landmark": self.landmark, "renderer": self.renderer}
        if discriminator is not None:
            self.networks["discriminator"] = discriminator
        self.stages: dict[str, Stage] = {
            "landmark": LandmarkStage(config.landmark, self.landmark),
            "render": RenderStage(config.render, self.renderer, discriminator, self._vgg),
        }

    @property
    def pretrained(self) -> dict[str, Pretrained]:
        """VGG-19, unless ``render.perceptual`` does without it."""
        if self._vgg is None:
            return {}
        purpose = "the warping, reconstruction and style losses of the renderer"
        return {"vgg": Pretrained(self._vgg, "vgg19", "", purpose, "render.perceptual=pixels")}

    @property
    def generates_with(self) -> tuple[str, ...]:
        """The generator of landmarks and the renderer."""
        return ("landmark", "renderer")

    def generate(self, footage: Footage, speech: Speech) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Method.generate`; the footage is read twice."""
        config = self.config
        return Generation(
            config.generate,
            self.landmark,
            self.renderer,
            config.landmark.window,
            config.landmark.references,
            footage,
            speech,
        ).frames()

    @classmethod
    def from_official(cls, state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """Take the landmark generator's or the renderer's checkpoint, which are two files.

        Args:
            state: what the file holds: a state dict, or a dict with one as its ``state_dict``. Keys may start
                with ``module.``.

        Returns:
            ``landmark`` or ``renderer`` → its state dict, for networks of the official size. The renderer's is
            without the loss network that the official file holds too.

        Raises:
            ValueError: it is neither; names the first key that is missing.
        """
        inner = state.get("state_dict", state)
        if not isinstance(inner, dict):
            raise ValueError("not a checkpoint of IP-LAP: its state_dict is no table of tensors")
        found, _ = split_official(inner)
        with torch.device("meta"):
            official = {"landmark": LandmarkGenerator().state_dict(), "renderer": Renderer().state_dict()}
        name = max(official, key=lambda name: len(official[name].keys() & found.keys()))
        for key in official[name]:
            if key not in found:
                raise ValueError(f"not a checkpoint of IP-LAP: the {name} network misses {key}")
        for key, value in found.items():
            if key not in official[name]:
                raise ValueError(f"not a checkpoint of IP-LAP: the {name} network has no {key}")
            if value.shape != official[name][key].shape:
                expected, shape = tuple(official[name][key].shape), tuple(value.shape)
                raise ValueError(
                    f"not a checkpoint of IP-LAP: {key} of the {name} network is {shape}, not {expected}"
                )
        return {name: found}
