"""Where the time of a step goes, and how long a schedule takes: measured without a run."""

from __future__ import annotations

import gzip
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn
from torch.utils.checkpoint import checkpoint

from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.train import measuring
from bench.train.measuring import Clock, Part
from bench.train.profiling import by_network, profile
from bench.train.throughput import DAY, PartSpeed, StageSpeed, throughput
from models.base import Batch, Progress, Update
from tests.bench.fake_training import ENTRY, NAME, PRESET, Adversarial, Polish
from tests.every_stage import OPTIONS, VIEWS, methods, small, stages
from tests.prep.fakes import fake_dataset

#: Before the fake method is among the registered ones.
STAGES = stages()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 9, "val": 3}, views=VIEWS)
    return folder


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The fake method, an empty current folder, and one for temporary files."""
    monkeypatch.setitem(METHODS.entries, NAME, ENTRY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def preset(tmp_path: Path) -> str:
    path = tmp_path / "preset.toml"
    path.write_text(PRESET)
    return str(path)


def written() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file() and path.suffix != ".toml")


# Every method --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", methods())
def test_every_stage_is_measured_without_weights_and_leaves_only_traces(method: str, data: Path) -> None:
    options = ["runner.device=cpu", "runner.workers=0", "runner.precision=no", *OPTIONS[method]]
    names = [stage for of, stage in STAGES if of == method]
    speeds = list(throughput(method, [data], preset="tiny", overrides=options, seconds=0))
    assert [speed.stage for speed in speeds] == names
    assert written() == []
    for speed in speeds:
        assert speed.problem == "" and speed.days is not None and 0 < speed.days < 10
        assert speed.parts[0].part.begin == 0
        assert speed.parts[-1].part.end == speed.total
        for part in speed.parts:
            assert part.measured >= 3 and 0 < part.fastest <= part.seconds <= part.slowest
            assert 0 <= part.data_wait < 1

    AcceleratorState._reset_state(True)
    found = list(profile(method, [data], preset="tiny", overrides=options, steps=1))
    assert [one.stage for one in found] == names
    assert written() == [f"profile-{method}-{name}.json.gz" for name in sorted(names)]
    for one in found:
        stage = small(method, one.stage, data).stage
        # Equal up to rounding, and nothing is counted twice.
        assert sum(one.parts.values()) == pytest.approx(one.seconds)
        assert all(seconds >= 0 for seconds in one.parts.values())
        networks = [name.partition(": ")[2] for name in one.parts if name.startswith("forward: ")]
        assert networks == [*stage.networks, *stage.frozen, "losses and other"]
        trained = [name for name in stage.networks if any(stage.networks[name].children())]
        assert all(one.parts[f"forward: {name}"] > 0 for name in trained)
        optimizers = stage.optimizers()
        for title in ("backward", "optimizer step"):
            of = [name.partition(": ")[2] for name in one.parts if name.startswith(title)]
            assert of == list(optimizers)
        trace = json.loads(gzip.decompress(one.trace.read_bytes()))
        regions = {event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"}
        assert {"data", "forward", *(f"forward: {name}" for name in trained)} <= regions
        assert {f"{kind} {name}" for kind in ("backward", "step") for name in optimizers} <= regions


#: Schedules in which something changes within a few steps.
SCHEDULES = {
    ("ipl", "render"): ("render.warp_only_steps=3",),
    ("lipformer", "codebook"): ("codebook.adversarial_from=3", "codebook.r1_every=2"),
    ("lipformer", "lipformer"): ("lipformer.r1_every=2",),
    ("speech", "speech"): ("speech.spread_for=3",),
    ("sync-expert", "expert"): ("expert.teach.first=3",),
}


@pytest.mark.parametrize(("method", "name"), STAGES)
def test_stages_say_where_their_steps_change(method: str, name: str, data: Path) -> None:
    schedule = SCHEDULES.get((method, name), ())
    found = small(method, name, data, 0, 1, *schedule)
    stage, (batch,) = found.stage, found.batches
    changes = stage.changes(per_epoch=2.0)
    assert changes == ((3,) if schedule and name != "lipformer" else ())
    assert stage.long_step_every == (2 if method == "lipformer" else 1)
    seen: dict[tuple[bool, bool], set[tuple[object, ...]]] = {}
    for step in (0, 1, 2, 3, 4, 5):
        made = [
            (update.optimizer, *sorted(update.logs))
            for update in stage.updates(batch, Progress(step, step / 2))
        ]
        kind = (bool(changes) and step >= changes[0], step % stage.long_step_every == 0)
        seen.setdefault(kind, set()).add(tuple(made))
    assert all(len(made) == 1 for made in seen.values()), seen


def test_epochs_of_the_warp_alone_are_steps(data: Path) -> None:
    stage = small(
        "ipl", "render", data, 0, 1, "render.warp_only_epochs=1.5", "render.warp_only_steps=2"
    ).stage
    assert stage.changes(per_epoch=2.5) == (4,)  # 1.5 * 2.5 = 3.75
    assert stage.changes(per_epoch=1.0) == (2,)


# What is measured ----------------------------------------------------------------------------------------------


def test_steps_are_made_where_the_schedule_changes(
    data: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    updates = Polish.updates

    def noted(self: Polish, batch: Batch, progress: Progress) -> Iterator[Update]:
        seen.append((progress.step, progress.epoch))
        yield from updates(self, batch, progress)

    monkeypatch.setattr(Polish, "updates", noted)
    monkeypatch.setattr(Polish, "changes", lambda self, per_epoch: (90, 500))
    monkeypatch.setattr(Polish, "long_step_every", 16)
    options = ["polish.train.steps=200"]
    (speed,) = throughput(NAME, [data], preset=preset, overrides=options, stages=["polish"], seconds=0)
    assert [(part.part, part.part.steps) for part in speed.parts] == [(Part(0, 90), 90), (Part(90, 200), 110)]
    # 9 clips, 2 samples a step.
    assert {step for step, _ in seen} == {17, 16, 97, 96}
    assert all(epoch == pytest.approx(step * 2 / 9) for step, epoch in seen)
    assert speed.long_step_every == 16 and all(part.long_seconds for part in speed.parts)
    seen.clear()
    list(profile(NAME, [data], preset=preset, overrides=options, stages=["polish"], steps=1))
    assert {step for step, _ in seen} == {97}


def test_what_a_validation_switches_on_takes_part(data: Path) -> None:
    notes: list[str] = []
    options = ["runner.device=cpu", "runner.workers=0", *OPTIONS["wav2lip"]]
    (found,) = profile("wav2lip", [data], preset="tiny", overrides=options, steps=1, note=notes.append)
    assert found.parts["forward: expert"] > 0
    assert any("measured with sync_on=True" in note for note in notes)


def test_days_are_summed_over_the_parts_of_a_schedule() -> None:
    parts = (
        PartSpeed(Part(0, 1000), 5, 2.0, 1.9, 2.1, None, 0.0),
        PartSpeed(Part(1000, 5000), 5, 3.0, 2.9, 3.1, 11.0, 0.0),
    )
    speed = StageSpeed("s", 4, 10, "no", "cpu", 1, 5000, False, 4, parts)
    # 1000 steps of 2 s; 4000 of 3 s, of which each fourth takes 8 s longer.
    assert speed.days == pytest.approx((2000 + 4000 * 3 + 1000 * 8) / DAY)
    assert StageSpeed("s", 4, 10, "no", "cpu", 1, None, False, 1, parts).days is None


def test_parts_are_networks_however_a_stage_calls_them() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02)
            return self.encode(x)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    class Slow(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            time.sleep(0.05)
            return super().forward(x)

    network, slow = Network(), Slow(2, 2)
    clock = Clock(torch.device("cpu"))
    x = torch.ones(1, 2, requires_grad=True)
    with by_network({"network": network, "slow": slow}, clock):
        network(x)  # no part of a step
        assert not clock.seconds
        with clock("forward"):
            network(x)
        once = clock.seconds.pop("forward: network")
        assert 0.02 <= once <= clock.seconds["forward"]
        with clock("forward"):
            network.encode(x)
        assert 0 < clock.seconds["forward: network"] < 0.02
        network.inner = slow  # of another network, called by this one: the outer counts
        clock.seconds.clear()
        with clock("forward"):
            network(x)
            made = checkpoint(slow, x, use_reentrant=False)
        assert clock.seconds["forward: network"] >= 0.07 and 0.05 <= clock.seconds["forward: slow"] < 0.1
        before = dict(clock.seconds)
        with clock("backward a"):
            made.sum().backward()
        assert clock.seconds["backward a"] >= 0.05
        assert {name: clock.seconds[name] for name in before} == before
    clock.seconds.clear()
    with clock("forward"):
        network(x)
    assert list(clock.seconds) == ["forward"]


# What cannot be measured ---------------------------------------------------------------------------------------


def test_a_stage_that_is_too_large_is_one_line_and_the_next_is_measured(
    data: Path, preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def greedy(self: Adversarial, batch: Batch, progress: Progress) -> Iterator[Update]:
        torch.empty(1 << 31, dtype=torch.uint8)
        return iter(())

    monkeypatch.setattr(Adversarial, "updates", greedy)
    monkeypatch.setattr(measuring, "free_memory", lambda: 1 << 30)
    first, second = throughput(NAME, [data], preset=preset, seconds=0)
    assert first.problem == (
        "adversarial: 2 samples do not fit into the memory: try a smaller --set adversarial.train.batch_size, and for "
        "the same step as many more --set adversarial.train.accumulate"
    )
    assert first.days is None and first.parts == ()
    assert second.stage == "polish" and second.problem == "" and second.days is not None
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with pytest.raises(BenchError, match="adversarial: 2 samples do not fit"):
        list(profile(NAME, [data], preset=preset))
    assert written() == []


def test_a_loss_that_is_not_finite_is_one_line_and_leaves_nothing(data: Path, preset: str) -> None:
    options = ["adversarial.explode_at=0"]
    with pytest.raises(BenchError, match=r"stage adversarial: the loss of generator is nan; measure it with"):
        list(throughput(NAME, [data], preset=preset, overrides=options, seconds=0))
    assert written() == []
