"""Every stage with gradient steps of every registered method, small enough to be trained in a moment, over generated
samples.

A method that is added later is among them; where its tiny preset leaves parts out, such as a discriminator, it should
have options here that bring them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from bench.common.methods import METHODS, get_method
from bench.train.config import load_config
from bench.train.loading import open_dataset, training_loader
from models.base import Batch, DataInfo, Stage, Trainable
from prep.order import WindowStream
from tests.prep.fakes import fake_dataset

#: Method → what is changed of its tiny preset, so that all its networks and losses take part.
OPTIONS: dict[str, tuple[str, ...]] = {
    "ipl": (
        "landmark.dropout=0.0",
        "landmark.train.batch_size=4",
        "render.perceptual=vgg19",
        "render.lambda_g=0.25",
        "render.lambda_f=2.5",
        "render.train.monitor=loss",
        "render.train.mode=min",
        "render.train.batch_size=2",
    ),
    "lipformer": (
        "codebook.size=64",
        "codebook.perceptual_weight=0.1",
        "codebook.adversarial_weight=0.1",
        "codebook.discriminator_width=0.0625",
        "codebook.upper_codes=64",
        "codebook.lower_codes=64",
        "codebook.train.batch_size=4",
        "lipformer.perceptual_weight=0.1",
        "lipformer.adversarial_weight=0.1",
        "lipformer.train.batch_size=4",
    ),
    # Without VGG-19, which needs most of the time: DINet's first stage has the same loss.
    "g4g": (
        "g4g.lambda_gan=0.1",
        "frame64.train.batch_size=2",
        "clip.train.batch_size=2",
    ),
    "wav2lip": ("wav2lip.sync_weight=0.1", "wav2lip.gan_weight=0.07", "wav2lip.train.batch_size=2"),
    "synctalkface": (
        "synctalkface.sync_weight=0.1",
        "synctalkface.visual_weight=0.2",
        "synctalkface.gan_weight=0.2",
        "synctalkface.train.batch_size=2",
    ),
    "dinet": (
        "network.width=0.125",
        "frame64.perception_weight=1.0",
        "frame64.gan_weight=1.0",
        "frame64.train.batch_size=2",
        "clip.gan_weight=1.0",
        "clip.clip_gan_weight=1.0",
        "clip.train.batch_size=2",
    ),
    "atvg": (
        "at.train.batch_size=2",
        "vg.gan_weight=1.0",
        "vg.landmark_weight=1.0",
        "vg.train.batch_size=2",
    ),
    "speech": ("speech.spread_for=0", "speech.train.batch_size=2"),
    "sync-expert": (
        "expert.windows=16",
        "expert.teach.first=0",
        "expert.teach.averages=[4, 8]",
        "expert.train.batch_size=2",
    ),
}

#: As the views of prepared data are called; generated samples have all that any stage looks at.
VIEWS = ("box128", "face96", "aligned512", "mouth416x320", "atvg128")


@dataclass(frozen=True)
class Small:
    """A stage in its training mode and the samples that it is trained on.

    Attributes:
        stage: as the runner has it in training.
        batches: different ones.
    """

    stage: Stage
    batches: list[Batch]


def methods() -> list[str]:
    """Names of all methods of the suite whose stages make gradient steps; those that are fitted have none."""
    return list(dict.fromkeys(name for name, _ in stages()))


def stages() -> list[tuple[str, str]]:
    """(method, stage) of every stage of the suite that makes gradient steps."""
    trained = [name for name in METHODS.entries if issubclass(get_method(name), Trainable)]
    return [
        (name, stage)
        for name in trained
        for stage, one in _method(name, Path("data"), ()).stages.items()
        if isinstance(one, Stage)
    ]


def generated_data(folder: Path) -> Path:
    """Write prepared data for :func:`small` to an empty folder, and return it."""
    fake_dataset(folder, {"train": 6}, views=VIEWS)
    return folder


def small(method: str, stage: str, data: Path, seed: int = 0, batches: int = 1, *overrides: str) -> Small:
    """Build a stage with weights that follow from ``seed``, ready for its updates, on the CPU.

    Args:
        method: of :func:`stages`.
        stage: of :func:`stages`.
        data: what :func:`generated_data` wrote, or other prepared data with the views that the stage looks at.
        seed: of the weights and of the samples.
        batches: how many.
        overrides: further options.
    """
    torch.manual_seed(seed)
    found = _method(method, data, overrides).stages[stage]
    # As after a validation with which a schedule is content.
    found.validated({"sync": 0.0})
    for network in found.networks.values():
        network.train()
    for network in found.frozen.values():
        network.eval().requires_grad_(False)
    stream = WindowStream(open_dataset([data], "train", found, seed), found.train.batch_size)
    drawn = iter(training_loader(stream, found, workers=0))
    return Small(found, [next(drawn) for _ in range(batches)])


def _method(name: str, data: Path, overrides: tuple[str, ...]) -> Trainable:
    options = ["runner.device=cpu", *OPTIONS.get(name, ()), *overrides]
    config = load_config(name, "tiny", options, [data], Path("run"))
    return get_method(name)(config.method_config, DataInfo())
