"""The runner: what it computes, how it goes on, and what it leaves behind."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.train import checkpoint as checkpoint_module
from bench.train import stage_run
from bench.train.averages import Averages
from bench.train.checkpoint import (
    Checkpoints,
    load_into,
    load_network,
    load_run,
    read_state,
    read_tensors,
    write_networks,
)
from bench.train.finite import DeferredCheck
from bench.train.runner import TrainResult, train_stages
from models.base import DataInfo
from prep.errors import PrepError
from tests.bench.fake_training import ENTRY, NAME, Fake, Recorder, config_for
from tests.prep.fakes import fake_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 9, "val": 3})
    return folder


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(METHODS.entries, NAME, ENTRY)
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def run_training(
    data: Path,
    run: Path,
    *overrides: str,
    resume: bool = False,
    recorder: Recorder | None = None,
    stages=None,
) -> tuple[Recorder, Fake, TrainResult]:
    run.mkdir(parents=True, exist_ok=True)
    config = config_for(data, run, *overrides)
    config.save(run)
    torch.manual_seed(config.runner.seed)
    method = Fake(config.method_config, DataInfo())
    recorder = recorder or Recorder()
    result = train_stages(config, method, stages or list(method.stages), run, resume, recorder)
    return recorder, method, result


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.suffix in (".safetensors", "") and path.is_file()
    }


def states(run: Path) -> dict[str, object]:
    return {str(path.relative_to(run)): path.read_text() for path in run.rglob("state.json")}


class StopAt(Recorder):
    """Sends this process a signal when a step is reported, as a scheduler would."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self._at, self._number = step, number

    def step(self, stage, step, epoch, logs, speed) -> None:
        super().step(stage, step, epoch, logs, speed)
        if step == self._at:
            os.kill(os.getpid(), self._number)


# The same training is the same training -----------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(
    data: Path, tmp_path: Path
) -> None:
    run_training(data, tmp_path / "a")
    run_training(data, tmp_path / "b", "runner.workers=2")
    run_training(data, tmp_path / "c", "runner.seed=1")
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b and states(tmp_path / "a") == states(tmp_path / "b")
    assert len(a) > 6 and a != c


_MORE = ("adversarial.train.ema=0.9", "adversarial.train.accumulate=2", "runner.log_every=4")


@pytest.mark.parametrize("extra", [(), _MORE])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    data: Path, tmp_path: Path, extra: tuple[str, ...], number: int
) -> None:
    whole, _, result = run_training(data, tmp_path / "whole", *extra)
    assert not result.stopped
    at = 4
    first, _, result = run_training(data, tmp_path / "parts", *extra, recorder=StopAt(at, number))
    assert result.stopped
    assert first.of("note")[-1] == ("stopped at step 4; go on with --resume",)
    assert Checkpoints(tmp_path / "parts/adversarial/checkpoints").last().name == "step-00000004"
    second, method, result = run_training(data, tmp_path / "parts", *extra, resume=True)
    assert not result.stopped and second.of("begin")[0] == ("adversarial", 4, 6)
    for kind in ("step", "validation", "pictures"):
        assert first.of(kind) + second.of(kind) == whole.of(kind)
    assert method.stages["adversarial"].validations == 3
    for stage in ("adversarial", "polish"):
        files = [Checkpoints(tmp_path / run / stage / "checkpoints").last() for run in ("whole", "parts")]
        assert contents(files[0]) == contents(files[1]) and contents(files[0])
        assert read_state(files[0]) == read_state(files[1])


def test_a_finished_stage_is_passed_over_and_a_longer_one_goes_on(data: Path, tmp_path: Path) -> None:
    run_training(data, tmp_path / "run")
    before = contents(tmp_path / "run")
    again, _, result = run_training(data, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before and again.of("begin") == []
    assert result.best["adversarial"]["error"] > 0
    longer, _, _ = run_training(data, tmp_path / "run", "adversarial.train.steps=8", resume=True)
    assert longer.of("begin") == [("adversarial", 6, 8)]


def test_stages_can_be_trained_one_by_one(data: Path, tmp_path: Path) -> None:
    run_training(data, tmp_path / "both")
    run_training(data, tmp_path / "single", stages=["adversarial"])
    run_training(data, tmp_path / "single", stages=["polish"])
    assert contents(tmp_path / "both") == contents(tmp_path / "single")


def test_the_next_stage_builds_on_the_best_weights(data: Path, tmp_path: Path) -> None:
    _, method, _ = run_training(
        data, tmp_path / "run", "adversarial.train.mode=max", "adversarial.learning_rate=0.1"
    )
    folder = Checkpoints(tmp_path / "run/adversarial/checkpoints")
    assert folder.best() != folder.last()
    best = read_tensors(folder.best() / "generator.safetensors")
    assert all(
        torch.equal(value, best[key]) for key, value in method.networks["generator"].state_dict().items()
    )


# One step -----------------------------------------------------------------------------------------------------


def test_a_generators_loss_leaves_nothing_in_the_discriminator(data: Path, tmp_path: Path) -> None:
    _, method, _ = run_training(data, tmp_path / "run")
    assert not method.stages["adversarial"].gradients_left


def test_accumulated_micro_batches_are_one_batch(data: Path, tmp_path: Path) -> None:
    common = ("adversarial.dropout=0.0", "adversarial.momentum=false", "adversarial.train.steps=3")
    ends = []
    for name, size, parts in (("large", 6, 1), ("small", 2, 3)):
        sizes = (f"adversarial.train.batch_size={size}", f"adversarial.train.accumulate={parts}")
        run_training(data, tmp_path / name, *common, *sizes, stages=["adversarial"])
        place = Checkpoints(tmp_path / name / "adversarial/checkpoints").last()
        ends.append(read_tensors(place / "generator.safetensors"))
        assert read_state(place)["stream"]["consumed"] == 18
    assert all(torch.allclose(ends[0][key], ends[1][key], atol=1e-6) for key in ends[0])


def test_clipping_bounds_the_step(data: Path, tmp_path: Path) -> None:
    common = ("adversarial.momentum=false", "adversarial.train.steps=1", "adversarial.learning_rate=1.0")
    run_training(data, tmp_path / "run", *common, "adversarial.train.clip_norm=0.001", stages=["adversarial"])
    torch.manual_seed(0)
    start = (
        Fake(config_for(data, tmp_path / "run").method_config, DataInfo()).networks["generator"].state_dict()
    )
    end = load_network(tmp_path / "run", "generator")
    moved = torch.sqrt(sum((end[key] - start[key]).square().sum() for key in start))
    assert float(moved) == pytest.approx(0.001, rel=1e-3)


def test_bf16_trains_and_keeps_float32_weights(data: Path, tmp_path: Path) -> None:
    recorder, _, _ = run_training(data, tmp_path / "run", "runner.precision=bf16")
    assert load_network(tmp_path / "run", "generator")["1.weight"].dtype == torch.float32
    assert len(recorder.of("step")) == 8


@pytest.mark.parametrize(
    ("key", "words"), [("precision=fp16", "use bf16 or no"), ("device=cuda", "auto or cpu")]
)
def test_what_only_cuda_has_is_one_line(data: Path, tmp_path: Path, key: str, words: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(BenchError, match=words):
        run_training(data, tmp_path / "run", f"runner.{key}")


def test_a_loss_that_is_not_finite_stops_with_its_clips_and_a_saved_state(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError) as caught:
        run_training(data, tmp_path / "run", "adversarial.explode_at=4")
    message = str(caught.value)
    assert "\n" not in message and "step 4" in message and "loss of generator is nan" in message
    torch.manual_seed(0)
    healthy, method, _ = run_training(data, tmp_path / "healthy")
    assert all(clip in message for clip in method.stages["adversarial"].seen[4])
    failed = tmp_path / "run/adversarial/checkpoints/failed-00000004"
    assert str(failed) in message and read_state(failed)["step"] == 4
    # The state is that before the step, and whole: the healthy run goes through it.
    (tmp_path / "run/adversarial/checkpoints/last").write_text("failed-00000004")
    again, _, _ = run_training(data, tmp_path / "run", resume=True)
    assert again.of("step") == [line for line in healthy.of("step") if line[0] == "polish" or line[1] > 4]


def test_a_loss_that_is_read_later_leaves_the_same_state(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        *("adversarial.train.steps=10", "adversarial.train.validate_every=100", "runner.log_every=100"),
        *("adversarial.train.sample_every=0", "adversarial.train.checkpoint_every=100"),
    )
    monkeypatch.setattr(
        stage_run,
        "deferred_check",
        lambda optimizers, device, _, owner: DeferredCheck(optimizers, device, owner),
    )
    healthy, method, _ = run_training(data, tmp_path / "healthy", *words)
    with pytest.raises(BenchError) as caught:
        run_training(data, tmp_path / "run", *words, "adversarial.explode_at=4")
    message = str(caught.value)
    assert "step 4" in message and "loss of generator is nan" in message
    assert all(clip in message for clip in method.stages["adversarial"].seen[4])
    failed = tmp_path / "run/adversarial/checkpoints/failed-00000004"
    assert read_state(failed)["step"] == 4
    (tmp_path / "run/adversarial/checkpoints/last").write_text("failed-00000004")
    again, _, _ = run_training(data, tmp_path / "run", *words, resume=True)
    assert again.of("step") == healthy.of("step")
    for name in ("healthy", "run"):
        assert contents(tmp_path / name)["adversarial/checkpoints/best"] == b"step-00000010\n"
    place = "adversarial/checkpoints/step-00000010/generator.safetensors"
    assert contents(tmp_path / "run")[place] == contents(tmp_path / "healthy")[place]


# Figures ------------------------------------------------------------------------------------------------------


def test_early_stopping_counts_validations_without_a_better_figure(data: Path, tmp_path: Path) -> None:
    recorder, _, _ = run_training(
        data,
        tmp_path / "run",
        "adversarial.train.patience=2",
        "adversarial.train.steps=100",
        "adversarial.train.mode=max",
        "adversarial.learning_rate=0.02",
        stages=["adversarial"],
    )
    validations = recorder.of("validation")
    best = max(range(len(validations)), key=lambda i: validations[i][2]["error"])
    assert len(validations) == best + 3 and validations[best][3]
    assert recorder.of("end") == [("adversarial", "2 validations without a better error")]
    assert (
        Checkpoints(tmp_path / "run/adversarial/checkpoints").best().name
        == f"step-{validations[best][1]:08d}"
    )


def test_an_unknown_figure_to_monitor_names_those_there_are(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"adversarial.train.monitor=psnr: no such figure; there are: error"):
        run_training(data, tmp_path / "run", "adversarial.train.monitor=psnr")


def test_a_split_without_clips_is_one_line(tmp_path: Path) -> None:
    fake_dataset(tmp_path / "data", {"train": 3})
    with pytest.raises(PrepError) as caught:
        run_training(tmp_path / "data", tmp_path / "run")
    assert "val" in str(caught.value) and "\n" not in str(caught.value)


def test_pictures_and_speed_are_reported(data: Path, tmp_path: Path) -> None:
    recorder, _, _ = run_training(data, tmp_path / "run")
    assert recorder.of("pictures")[0] == ("adversarial", 3, {"truth": (2, 3, 128, 128)})
    assert all(0 <= speed.data_wait <= 1 and speed.samples_per_s > 0 for speed in recorder.speeds)


def test_averages_follow_the_weights() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    averages = Averages({"n": network}, 0.05)
    network.weight.data.fill_(3.0)
    averages.update()
    assert float(averages.state_dicts()["n.ema"]["weight"]) == pytest.approx(1 * 0.05 + 3 * 0.95)
    averages.swap()
    assert network.weight.item() == pytest.approx(2.9)
    averages.swap()
    assert network.weight.item() == 3.0


# Checkpoints --------------------------------------------------------------------------------------------------


def test_the_newest_and_the_best_are_kept(data: Path, tmp_path: Path) -> None:
    run_training(
        data,
        tmp_path / "run",
        "adversarial.train.checkpoint_every=1",
        "adversarial.train.steps=9",
        "adversarial.train.mode=max",
        "adversarial.learning_rate=0.1",
    )
    folder = tmp_path / "run/adversarial/checkpoints"
    best = Checkpoints(folder).best().name
    kept = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert kept == sorted({best, "step-00000008", "step-00000009"})


def test_a_full_disk_leaves_the_earlier_checkpoints_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(data, tmp_path / "run", "adversarial.train.steps=3", stages=["adversarial"])
    before = contents(tmp_path / "run")
    written = checkpoint_module._write
    left = [2]

    def write(path: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written(path, data)

    monkeypatch.setattr(checkpoint_module, "_write", write)
    with pytest.raises(
        BenchError, match=r"could not be written \(No space left on device\); earlier ones are intact"
    ):
        run_training(data, tmp_path / "run", "adversarial.train.steps=6", resume=True, stages=["adversarial"])
    assert contents(tmp_path / "run") == before
    monkeypatch.undo()
    monkeypatch.setitem(METHODS.entries, NAME, ENTRY)


def test_a_run_is_read_back(data: Path, tmp_path: Path) -> None:
    run_training(data, tmp_path / "run", "adversarial.train.ema=0.5", stages=["adversarial"])
    with pytest.raises(BenchError, match=r"the stage polish has no checkpoint; train it: bench train fake"):
        load_run(tmp_path / "run")
    run_training(data, tmp_path / "run", "adversarial.train.ema=0.5", stages=["polish"])
    config, method = load_run(tmp_path / "run")
    assert config.method == NAME and not method.networks["bias"].training
    best = Checkpoints(tmp_path / "run/adversarial/checkpoints").best()
    averaged = read_tensors(best / "generator.ema.safetensors")
    assert torch.equal(method.networks["generator"].state_dict()["1.weight"], averaged["1.weight"])
    assert not torch.equal(averaged["1.weight"], read_tensors(best / "generator.safetensors")["1.weight"])


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tied = {"a": whole, "b": whole, "part": whole[2:4], "turned": whole.view(2, 3).T}
    write_networks(tmp_path, "first", {"tied": tied}, "here")
    loaded = load_network(tmp_path, "tied")
    assert all(torch.equal(loaded[key], value) for key, value in tied.items())


def test_weights_that_do_not_fit_are_named() -> None:
    network = torch.nn.Linear(2, 2)
    with pytest.raises(BenchError, match=r"there: lacks bias"):
        load_into(network, {"weight": torch.zeros(2, 2)}, "there")
    with pytest.raises(BenchError, match=r"has extra, which the network does not have"):
        load_into(network, {**network.state_dict(), "extra": torch.zeros(1)}, "there")
    with pytest.raises(BenchError, match=r"bias has shape \(3,\), the network expects \(2,\)"):
        load_into(network, {"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}, "there")


def test_a_damaged_checkpoint_is_one_line(data: Path, tmp_path: Path) -> None:
    run_training(data, tmp_path / "run")
    best = Checkpoints(tmp_path / "run/polish/checkpoints").best()
    (best / "bias.safetensors").write_bytes(b"torn")
    with pytest.raises(BenchError, match=r"bias.safetensors: not readable"):
        load_run(tmp_path / "run")


# Several processes --------------------------------------------------------------------------------------------

_TWO = """
import sys
from pathlib import Path
from bench.common.methods import METHODS
from tests.bench.fake_training import ENTRY, NAME
METHODS.entries[NAME] = ENTRY
from tests.bench.train.test_runner import run_training
run_training(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:], stages=["adversarial"])
"""


def test_two_processes_take_the_steps_of_one(data: Path, tmp_path: Path) -> None:
    common = ("adversarial.dropout=0.0", "adversarial.momentum=false", "adversarial.train.steps=4")
    run_training(data, tmp_path / "one", *common, "adversarial.train.batch_size=4", stages=["adversarial"])
    script = tmp_path / "two.py"
    script.write_text(_TWO)
    root = Path(__file__).resolve().parents[3]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(script),
    ]
    command += [str(data), str(tmp_path / "two"), *common, "adversarial.train.batch_size=2"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (Checkpoints(tmp_path / name / "adversarial/checkpoints").last() for name in ("one", "two"))
    assert read_state(one)["stream"] == read_state(two)["stream"]
    for network in ("generator", "discriminator"):
        single, double = (read_tensors(place / f"{network}.safetensors") for place in (one, two))
        assert all(torch.allclose(single[key], double[key], atol=1e-5, rtol=0) for key in single)
    assert read_state(two)["best"]["error"] == pytest.approx(read_state(one)["best"]["error"], abs=1e-5)
