"""Whole training steps of the runner against those of the official scripts (``--benchmark-only``).

A step is losses, backward passes and optimizers, at the paper's sizes with generated weights, which cost as much as
real ones. Both sides have one thread and the same batch, each a process of its own, and they take turns, a step each;
what is compared is the processor time, its lower quartile. What is official, :mod:`tests.benchmarks.official_steps`
says. A stage that comes later is measured against a plain loop over its own losses.

That both sides compute the same is a test of its own, in float64: in float32 Adam turns rounding errors of gradients
that should be 0, such as those of biases before a normalisation, into whole steps, and after twenty of them losses of
equal code differ by 1e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.common.methods import METHODS, get_method
from bench.train.config import load_config
from bench.train.fused import fused
from bench.train.precision import bf16_gain
from bench.train.stepping import Stepper
from models.base import Batch, DataInfo, Progress, Stage
from tests.benchmarks.official_steps import OFFICIAL, plain_step
from tests.benchmarks.sides import Case, Kind, Step, built, turns
from tests.prep.fakes import fake_dataset

#: (method, stage) → options at which both sides are timed, and steps of each.
PAPER = {
    ("ipl", "landmark"): (("landmark.train.batch_size=8",), 24),
    ("ipl", "render"): (("render.warp_only_epochs=0", "render.train.batch_size=2"), 4),
    ("wav2lip", "wav2lip"): (
        ("wav2lip.gan_weight=0.07", "wav2lip.betas=[0.5,0.999]", "wav2lip.train.batch_size=2"),
        6,
    ),
    ("sync-expert", "expert"): ((), 4),
    ("lipformer", "codebook"): (("codebook.size=256", "codebook.train.batch_size=2"), 4),
    ("lipformer", "lipformer"): (("codebook.size=256", "lipformer.train.batch_size=2"), 4),
}
#: The same for stages without an official script.
LATER = {
    ("synctalkface", "synctalkface"): (("synctalkface.train.batch_size=2",), 4),
    ("dinet", "frame64"): (("network.sound=mel", "frame64.train.batch_size=4"), 4),
    ("dinet", "clip"): (("network.sound=mel", "clip.mouth=64", "clip.train.batch_size=1"), 4),
    ("g4g", "frame64"): (("frame64.train.batch_size=4",), 4),
    ("g4g", "clip"): (("clip.mouth=64", "clip.train.batch_size=2"), 4),
    ("speech", "speech"): (("speech.train.batch_size=8",), 24),
    ("atvg", "at"): (("at.train.batch_size=2",), 4),
    ("atvg", "vg"): (("vg.window=4", "vg.train.batch_size=1"), 4),
}
#: (method, stage) → how many times as fast the runner is at least, in float32 and where bfloat16 is fast.
AT_LEAST = {
    ("ipl", "render"): (1.15, 1.8),
    ("wav2lip", "wav2lip"): (1.15, 1.6),
    ("lipformer", "codebook"): (1.15, 1.6),
}
#: The same for every other stage: what the runner itself costs is below 3 %.
OTHERS_AT_LEAST = (1 / 1.03, 1.2)
MEMORY = 0.8
VIEWS = ("box128", "face96", "face128", "aligned512", "mouth416x320", "atvg128")

_NARROW_FACES = (
    "codebook.size=64",
    "codebook.channels=[8,8,16,16]",
    "codebook.dim=16",
    "codebook.discriminator_width=0.125",
    # At the paper's rates, meant for ten times as many channels, differences of 1e-16 grow tenfold at every step.
    *(f"{s}.{part}learning_rate=1e-5" for s in ("codebook", "lipformer") for part in ("", "discriminator_")),
    "lipformer.transformer_learning_rate=1e-5",
    "lipformer.decoder_learning_rate=1e-5",
)
#: (method, stage) → options at which steps are compared in figures.
NARROW = {
    ("ipl", "landmark"): (
        "landmark.train.batch_size=2",
        "landmark.references=2",
        "landmark.width=0.125",
        "landmark.d_model=64",
        "landmark.layers=2",
    ),
    ("ipl", "render"): (
        "render.warp_only_epochs=0",
        "render.train.batch_size=2",
        "render.references=2",
        "render.width=0.03125",
    ),
    ("wav2lip", "wav2lip"): (
        "wav2lip.gan_weight=0.07",
        "wav2lip.betas=[0.5,0.999]",
        "wav2lip.train.batch_size=2",
        "wav2lip.width=0.125",
        "wav2lip.expert_width=0.125",
    ),
    ("sync-expert", "expert"): ("expert.width=0.125", "expert.train.batch_size=2"),
    ("lipformer", "codebook"): (*_NARROW_FACES, "codebook.train.batch_size=2"),
    ("lipformer", "lipformer"): (
        *_NARROW_FACES,
        "lipformer.layers=2",
        "lipformer.feedforward=32",
        "lipformer.train.batch_size=2",
        "lipformer.audio_width=0.125",
    ),
}


def stages() -> list[tuple[str, str]]:
    """(method, stage) of all that is registered and makes gradient steps."""
    found = []
    for name in METHODS.entries:
        config = load_config(name, "tiny", [], [Path("data")], Path("run"))
        made = get_method(name)(config.method_config, DataInfo()).stages
        found += [(name, stage) for stage, one in made.items() if isinstance(one, Stage)]
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 40, "val": 2}, views=VIEWS)
    return folder


def lower_quartile(steps: list[Step]) -> float:
    # Other work on the machine only adds time: the quarter that it touched least is compared.
    return quantiles([step.seconds for step in steps], n=4)[0]


@pytest.mark.parametrize("precision", ["no", "auto"])
@pytest.mark.parametrize(("method", "stage"), stages())
def test_a_step_is_faster_than_the_official_one(
    benchmark: BenchmarkFixture, data: Path, method: str, stage: str, precision: str
) -> None:
    if precision == "auto" and bf16_gain(torch.device("cpu")) < 1.25:
        pytest.skip("bfloat16 is not fast on this processor: auto is float32 here")
    options, steps = (PAPER | LATER).get((method, stage), ((), 4))
    case = Case(method, stage, options, steps)
    sides: list[tuple[Kind, str]] = [("runner", precision), ("official", "no")]
    if stage == "render":
        sides.append(("script", "no"))
    ours, *others = benchmark.pedantic(turns, (sides, case, data), rounds=1)
    ratios = [lower_quartile(other) / lower_quartile(ours) for other in others]
    benchmark.extra_info.update(stage=stage, precision=precision, ratios=ratios, seconds=lower_quartile(ours))
    assert ratios[0] >= AT_LEAST.get((method, stage), OTHERS_AT_LEAST)[precision == "auto"]


@pytest.mark.parametrize(("method", "stage"), stages())
def test_the_runner_hardly_costs_anything(
    benchmark: BenchmarkFixture, data: Path, method: str, stage: str
) -> None:
    """Against a plain loop over the same losses and modules, in float32."""
    options, steps = (PAPER | LATER).get((method, stage), ((), 4))
    sides: list[tuple[Kind, str]] = [("runner", "no"), ("generic", "no")]
    ours, theirs = benchmark.pedantic(turns, (sides, Case(method, stage, options, steps), data), rounds=1)
    ratio = lower_quartile(ours) / lower_quartile(theirs)
    benchmark.extra_info.update(stage=stage, ratio=ratio)
    assert ratio < 1.03


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_the_renderer_needs_less_memory_than_the_official_loop(
    benchmark: BenchmarkFixture, data: Path
) -> None:
    options, _ = PAPER["ipl", "render"]
    sides: list[tuple[Kind, str]] = [("runner", "auto"), ("official", "no"), ("script", "no")]
    found = benchmark.pedantic(turns, (sides, Case("ipl", "render", options, 2), data), rounds=1)
    ours, official, script = (steps[-1].grown for steps in found)
    benchmark.extra_info.update(grown_mib=(ours, official, script))
    assert ours <= MEMORY * official


def test_every_stage_has_a_script_or_is_compared_with_its_own_losses() -> None:
    assert set(OFFICIAL) == set(PAPER) == set(NARROW) <= set(stages())
    assert set(LATER) == set(stages()) - set(OFFICIAL)


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything is computed in float64: what code makes anew, and what it casts to float32."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("steps", [2, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("method", "stage"), OFFICIAL)
def test_official_steps_and_ours_give_the_same_losses(
    data: Path, tmp_path: Path, method: str, stage: str, steps: int
) -> None:
    ours, batch = _in_double(Case(method, stage, NARROW[method, stage]), data, tmp_path)
    theirs, _ = _in_double(Case(method, stage, NARROW[method, stage]), data, tmp_path)
    official = plain_step(method, theirs)
    for network in ours.networks.values():
        network.train()
    for network in ours.frozen.values():
        network.eval().requires_grad_(False)
    stepper = Stepper({name: fused(optimizer) for name, optimizer in ours.optimizers().items()})
    for number in range(16, 16 + steps):  # the first has R1
        torch.manual_seed(number)
        expected = official(batch, number)
        torch.manual_seed(number)
        found: dict[str, float] = {}
        for update in stepper.steps(ours.updates(batch, Progress(number, 1_000.0))):
            found.update({name: value.item() for name, value in update.logs.items()})
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def _in_double(case: Case, data: Path, run: Path) -> tuple[Stage, Batch]:
    """A stage in float64, with a VGG-19 a sixteenth as wide, and its batch."""
    _, method, batch = built(case, data, run)
    stage = method.stages[case.stage]
    if "vgg" in stage.frozen:
        _narrow(stage.frozen["vgg"])
    for network in (*stage.networks.values(), *stage.frozen.values()):
        network.double()
    return stage, {name: _double(value) for name, value in batch.items()}


def _narrow(vgg: Any) -> None:
    for place, layer in enumerate(vgg.features):
        if isinstance(layer, nn.Conv2d):
            cin = layer.in_channels if layer.in_channels == 3 else layer.in_channels // 16
            vgg.features[place] = nn.Conv2d(cin, layer.out_channels // 16, 3, padding=1)


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
