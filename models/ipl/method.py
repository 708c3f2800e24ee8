"""IP-LAP as a method: its configuration, its networks, and what its official checkpoints hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch import Tensor, nn

from models.base import Asset, DataInfo, Drive, Section, Stage, Talker
from models.ipl.inference import GenerateConfig, IPLInference
from models.ipl.landmark import LandmarkGenerator
from models.ipl.landmark_stage import LandmarkConfig, LandmarkStage
from models.ipl.render_stage import RenderConfig, RenderStage
from models.ipl.renderer import Renderer
from models.official import official_state


class IPLConfig(Section):
    """Tables ``[landmark]``, ``[render]`` and ``[generate]`` of a preset."""

    landmark: LandmarkConfig
    render: RenderConfig
    generate: GenerateConfig = GenerateConfig()


class IPL(Talker):
    """Identity-Preserving Talking Face Generation with Landmark and Appearance Priors (Zhong et al., CVPR 2023).

    Args:
        config: an :class:`IPLConfig`.
        data: not used.
    """

    name = "ipl"
    title = "IP-LAP"
    config_class = IPLConfig
    animates_pictures = True

    def __init__(self, config: IPLConfig, data: DataInfo) -> None:
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
    def assets(self) -> dict[str, Asset]:
        """VGG-19, unless ``render.perceptual`` is ``pixels``."""
        if self._vgg is None:
            return {}
        purpose = "the warping, reconstruction and style losses of the renderer"
        return {"vgg": Asset(self._vgg, "vgg19", purpose=purpose, without="render.perceptual=pixels")}

    @property
    def needed_networks(self) -> tuple[str, ...]:
        """The generator of landmarks and the renderer."""
        return ("landmark", "renderer")

    def generate(self, drive: Drive) -> Iterator[np.ndarray]:
        """See :meth:`models.base.Talker.generate`; the footage is read twice."""
        config = self.config
        return IPLInference(
            config.generate,
            self.landmark,
            self.renderer,
            config.landmark.window,
            config.landmark.references,
            drive.footage,
            drive.speech,
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
        networks: dict[str, Callable[[], nn.Module]] = {"landmark": LandmarkGenerator, "renderer": Renderer}
        return official_state(state, networks, "a checkpoint of IP-LAP", without=("perceptual.",))
