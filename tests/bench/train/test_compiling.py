"""Compiled modules, and modules that compute again: the same training, other costs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from bench.common.errors import BenchError
from bench.common.methods import METHODS, get_method
from bench.train.checkpoint import Checkpoints, read_tensors
from bench.train.compiling import executed, is_compiled
from bench.train.config import load_config
from bench.train.loading import open_dataset, training_loader
from bench.train.measuring import Clock
from bench.train.profiling import by_network
from bench.train.runner import train_stages
from models.base import Batch, DataInfo, Progress, Stage
from prep.order import WindowStream
from tests.bench.fake_training import ENTRY, NAME, Fake, Recorder, config_for
from tests.prep.fakes import fake_dataset

_CXX = os.environ.get("CXX", "g++")
needs_compiler = pytest.mark.skipif(shutil.which(_CXX) is None, reason=f"no C++ compiler: {_CXX}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 9, "val": 3}, views=("box128", "face96", "aligned512"))
    return folder


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(METHODS.entries, NAME, ENTRY)
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def trained(data: Path, run: Path, *overrides: str, resume: bool = False) -> tuple[Recorder, Fake]:
    run.mkdir(exist_ok=True)
    config = config_for(data, run, "runner.precision=no", *overrides)
    torch.manual_seed(config.runner.seed)
    method, recorder = Fake(config.method_config, DataInfo()), Recorder()
    train_stages(config, method, ["adversarial"], run, resume, recorder)
    return recorder, method


def last(run: Path) -> dict[str, bytes]:
    place = Checkpoints(run / "adversarial/checkpoints").last()
    assert place is not None
    return {path.name: path.read_bytes() for path in place.glob("*.safetensors")}


def built(method: str, name: str, data: Path, *overrides: str) -> tuple[Stage, Batch]:
    config = load_config(method, "tiny", ["runner.device=cpu", *overrides], [data], data / "run")
    torch.manual_seed(1)
    stages = get_method(method)(config.method_config, DataInfo()).stages
    stage = stages[name]
    stage.validated({"sync": 0.0})  # from here on Wav2Lip's expert takes part
    for network in stage.networks.values():
        network.train()
    for network in stage.frozen.values():
        network.eval().requires_grad_(False)
    stream = WindowStream(open_dataset([data], "train", stage, 0), stage.train.batch_size)
    return stage, next(iter(training_loader(stream, stage, workers=0)))


def stepped(stage: Stage, batch: Batch, steps: int) -> Iterator[tuple[Tensor, int]]:
    """The losses of several steps, each with the bytes that its graph keeps beside parameters.

    Steps are short and of plain gradients: at first Adam makes any difference of rounding as long as its steps are.
    """
    optimizers = stage.optimizers()
    parameters = {n: [p for g in o.param_groups for p in g["params"]] for n, o in optimizers.items()}
    optimizers = {name: torch.optim.SGD(own, 0.01) for name, own in parameters.items()}
    own = {p.untyped_storage().data_ptr() for n in stage.networks.values() for p in n.parameters()}
    torch.manual_seed(2)
    for step in range(steps):
        updates = stage.updates(batch, Progress(16 * step, 1_000.0))
        while True:
            kept: dict[int, int] = {}

            def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                storage = tensor.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                update = next(updates, None)
            if update is None:
                break
            yield update.loss.detach(), sum(size for place, size in kept.items() if place not in own)
            update.loss.backward(inputs=parameters[update.optimizer])
            torch.nn.utils.clip_grad_norm_(parameters[update.optimizer], 1.0)
            optimizers[update.optimizer].step()
            optimizers[update.optimizer].zero_grad(set_to_none=True)


# Compiled -----------------------------------------------------------------------------------------------------


@needs_compiler
def test_a_compiled_stage_learns_the_same_and_its_files_are_no_different(data: Path, tmp_path: Path) -> None:
    plain, _ = trained(data, tmp_path / "plain")
    option = "adversarial.train.compile=true"
    compiled, method = trained(data, tmp_path / "a", option)
    for kind in ("step", "validation"):
        assert len(plain.of(kind)) == len(compiled.of(kind)) > 2
        for ours, theirs in zip(plain.of(kind), compiled.of(kind), strict=True):
            figures, others = (next(v for v in line if isinstance(v, dict)) for line in (ours, theirs))
            assert figures.keys() == others.keys() and figures == pytest.approx(others, rel=1e-4)
    assert "forward" not in method.networks["generator"].__dict__
    files, others = last(tmp_path / "plain"), last(tmp_path / "a")
    assert files.keys() == others.keys() and len(files) > 2
    place = Checkpoints(tmp_path / "a/adversarial/checkpoints").last()
    assert place is not None
    keys = read_tensors(place / "generator.safetensors").keys()
    assert keys == method.networks["generator"].state_dict().keys()
    # The same run once more, in two parts.
    trained(data, tmp_path / "b", option, "adversarial.train.steps=3")
    trained(data, tmp_path / "b", option, resume=True)
    assert last(tmp_path / "b") == last(tmp_path / "a")
    # Begun without, and gone on with.
    trained(data, tmp_path / "c", "adversarial.train.steps=3")
    trained(data, tmp_path / "c", option, resume=True)
    assert last(tmp_path / "c").keys() == others.keys()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("ipl", "landmark"),
        ("ipl", "render"),
        ("wav2lip", "wav2lip"),
        ("synctalkface", "synctalkface"),
        ("sync-expert", "expert"),
        ("lipformer", "codebook"),
        ("lipformer", "lipformer"),
    ],
)
def test_every_stage_can_be_compiled(data: Path, method: str, name: str) -> None:
    losses = []
    for value in ("false", "true"):
        stage, batch = built(method, name, data, f"{name}.train.compile={value}")
        torch._dynamo.utils.counters.clear()
        with executed(stage, False):
            losses.append(torch.stack([loss for loss, _ in stepped(stage, batch, 4)]))
        assert bool(torch._dynamo.utils.counters["stats"]) == (value == "true")
        assert not torch._dynamo.utils.counters["graph_break"]
    assert torch.allclose(*losses, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_evaluation_runs_what_is_written(data: Path) -> None:
    calls = []

    class Counted(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if not torch.compiler.is_compiling():
                calls.append(len(x))
            return super().forward(x)

    stage = fake_stage(data, "adversarial.train.compile=true")
    stage.networks = {"counted": (module := Counted(3, 1))}
    stage.compiled = ("counted",)
    with executed(stage, False):
        module(torch.ones(2, 3))
        module.eval()(torch.ones(5, 3))
        module.train()(torch.ones(2, 3))
    assert calls == [5]


def test_a_profile_watches_nothing_inside_of_what_is_compiled(data: Path) -> None:
    """Its hooks would be compiled too."""
    stage = fake_stage(data, "adversarial.train.compile=true")
    generator = stage.networks["generator"]

    def hooked() -> int:
        with by_network(stage.networks, Clock(torch.device("cpu"))):
            return sum(bool(module._forward_hooks) for module in generator.modules())

    assert hooked() == 3
    with executed(stage, False):
        assert hooked() == 1
    assert hooked() == 3


@needs_compiler
def test_a_missing_compiler_is_named(data: Path, tmp_path: Path) -> None:
    import torch._inductor.config as inductor_config

    torch.compiler.reset()
    nowhere = {"cpp.cxx": (None, "/no/such/compiler"), "force_disable_caches": True}
    with inductor_config.patch(nowhere), pytest.raises(BenchError) as caught:
        trained(data, tmp_path / "run", "runner.compile=true")
    assert "install a C++ compiler" in str(caught.value) and "\n" not in str(caught.value)
    assert "adversarial.train.compile=false" in str(caught.value)


def test_the_option_of_a_stage_goes_before_that_of_the_run(data: Path) -> None:
    for option, of_run, wanted in (
        ("none", True, True),
        ("none", False, False),
        ("true", False, True),
        ("false", True, False),
    ):
        assert is_compiled(fake_stage(data, f"adversarial.train.compile={option}"), of_run) == wanted


# Computed again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name", "share", "options"),
    [
        ("ipl", "render", 0.6, ("render.lambda_g=0.25", "render.lambda_f=2.5", "render.perceptual=vgg19")),
        (
            "lipformer",
            "codebook",
            0.6,
            (
                "codebook.adversarial_weight=0.1",
                "codebook.perceptual_weight=0.1",
                "codebook.discriminator_width=0.125",
            ),
        ),
        (
            "lipformer",
            "lipformer",
            0.8,
            (
                "lipformer.adversarial_weight=0.1",
                "lipformer.perceptual_weight=0.1",
                "codebook.discriminator_width=0.125",
                "codebook.adversarial_weight=0.1",
            ),
        ),
    ],
)
def test_what_is_computed_again_is_the_same(
    data: Path, method: str, name: str, share: float, options: tuple[str, ...]
) -> None:
    found = []
    for value in ("false", "true"):
        over = (*options, f"{name}.train.batch_size=2", f"{name}.train.recompute={value}")
        stage, batch = built(method, name, data, *over)
        with executed(stage, False):
            losses, kept = zip(*stepped(stage, batch, 1), strict=True)
        weights = {f"{n}.{k}": v for n, net in stage.networks.items() for k, v in net.state_dict().items()}
        found.append((torch.stack(losses), kept, weights))
    (plain, all_kept, weights), (again, some_kept, others) = found
    assert len(plain) == 2 and torch.equal(plain, again)
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key
    assert some_kept[0] < share * all_kept[0]


def test_recompute_needs_large_blocks_and_does_not_go_with_compile(data: Path) -> None:
    for options, message in (
        (("adversarial.train.recompute=true",), "no large blocks"),
        (("adversarial.train.recompute=true", "adversarial.train.compile=true"), "do not go together"),
    ):
        with pytest.raises(BenchError, match=message), executed(fake_stage(data, *options), False):
            pass


def fake_stage(data: Path, *overrides: str) -> Stage:
    config = config_for(data, data / "run", *overrides)
    return Fake(config.method_config, DataInfo()).stages["adversarial"]
