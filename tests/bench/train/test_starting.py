"""Fine-tuning: a new run that begins with the weights of another one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.train import RunSet, TrainResult, train
from bench.train.checkpoint import best_files, load_run, read_state, read_tensors, write_networks
from bench.train.config import RunConfig, load_config
from models.base import DataInfo
from tests.bench.fake_training import ENTRY, NAME, PRESET, Fake, Recorder
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset

STILL = ("adversarial.learning_rate=0", "polish.learning_rate=0")


class Other(Fake):
    """Another method."""

    name = "other"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a preset, and a trained run ``first``."""
    place = tmp_path_factory.mktemp("starting")
    fake_dataset(place / "data", {"train": 9, "val": 3})
    (place / "mine.toml").write_text(PRESET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS.entries, NAME, ENTRY)
        fake(place, "first")
    AcceleratorState._reset_state(True)
    return place


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, place: Path) -> Iterator[None]:
    monkeypatch.setitem(METHODS.entries, NAME, ENTRY)
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def fake(place: Path, run: str | Path, *overrides: str, **options: Any) -> TrainResult:
    return train(
        NAME,
        [options.pop("data", place / "data")],
        preset=str(place / "mine.toml"),
        overrides=overrides,
        run=place / run,
        **options,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The weights that a run generates with, by stage, network and key."""
    return {
        f"{stage}/{network}/{key}": tensor
        for stage in ("adversarial", "polish")
        for network, path in best_files(run, stage).items()
        for key, tensor in read_tensors(path).items()
    }


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        assert torch.equal(tensor, two[key]), key


def official(place: Path, tmp_path: Path, *networks: str) -> Path:
    """Imported weights of some networks."""
    run = tmp_path / "official"
    config = load_config(NAME, str(place / "mine.toml"), (), (), run)
    torch.manual_seed(5)
    method = Fake(config.method_config, DataInfo())  # type: ignore[arg-type]
    run.mkdir()
    for stage in method.stages.values():
        mine = {name: net.state_dict() for name, net in stage.networks.items() if name in networks}
        if mine:
            write_networks(run, stage.name, mine, "official: somewhere")
    config.save(run)
    return run


def test_every_stage_begins_with_the_weights_of_the_other_run(place: Path, tmp_path: Path) -> None:
    before = weights(place / "first")
    recorder = Recorder()
    result = fake(place, tmp_path / "second", *STILL, from_run=place / "first", reporter=recorder)
    assert_equal(weights(tmp_path / "second"), before)
    assert recorder.of("begin") == [("adversarial", 0, 6), ("polish", 0, 2)]
    # With a learning rate of zero, what is validated is what the other run left.
    first = {stage: read_best(place / "first", stage) for stage in result.best}
    for stage, figures in first.items():
        assert result.best[stage]["error"] == figures["error"]
    notes = [line[0] for line in recorder.of("note")]
    assert f"adversarial begins with the weights of {place / 'first'}: discriminator, generator" in notes
    assert not any("random weights" in note for note in notes)


def read_best(run: Path, stage: str) -> dict[str, float]:
    folder = run / stage / "checkpoints"
    found: dict[str, float] = read_state(folder / (folder / "best").read_text().strip())["best"]
    return found


def test_the_first_loss_is_that_of_the_other_runs_weights(place: Path, tmp_path: Path) -> None:
    losses = {}
    for name, options in {"tuned": {"from_run": place / "first"}, "new": {}}.items():
        recorder = Recorder()
        fake(place, tmp_path / name, "adversarial.dropout=0", reporter=recorder, **options)
        losses[name] = recorder.of("step")[0][3]["L1"]
    _, method = load_run(place / "first")
    stage = method.stages["adversarial"]
    assert losses["tuned"] == pytest.approx(first_loss(place, stage), rel=1e-6)
    assert losses["tuned"] != pytest.approx(losses["new"], rel=1e-3)


def first_loss(place: Path, stage: Any) -> float:
    """The error of the generator on the first batch of a run with seed 0."""
    from bench.train.loading import open_part, training_loader
    from prep.order import WindowStream

    config = load_config(NAME, str(place / "mine.toml"), (), [place / "data"], place / "none")
    stream = WindowStream(
        open_part(config, "train", stage, None), stage.train.batch_size, rank=0, world_size=1
    )
    batch = next(iter(training_loader(stream, stage, workers=0, pin_memory=False)))
    with torch.no_grad():
        return float((stage.generator(batch["window_mel"].flatten(1)) - batch["target"]).abs().mean())


def test_the_record_names_the_weights(place: Path, tmp_path: Path) -> None:
    fake(place, tmp_path / "second", from_run=place / "first")
    assert RunConfig.load(tmp_path / "second").begun_from == place / "first"
    recorded = json.loads((tmp_path / "second" / "provenance.json").read_text())["weights"]
    assert set(recorded) == {
        f"begun from {place / 'first'} ({part})"
        for part in ("adversarial/generator", "adversarial/discriminator", "polish/bias")
    }
    assert all(len(digest) == 64 for digest in recorded.values())


def test_a_stage_that_is_not_trained_is_taken_over(place: Path, tmp_path: Path) -> None:
    fake(place, tmp_path / "second", from_run=place / "first", stages=["polish"])
    _, method = load_run(tmp_path / "second")
    _, first = load_run(place / "first")
    for key, tensor in first.networks["generator"].state_dict().items():
        assert torch.equal(tensor, method.networks["generator"].state_dict()[key])
    # It can be trained later, from its first step.
    recorder = Recorder()
    fake(place, tmp_path / "second", resume=True, stages=["adversarial"], reporter=recorder)
    assert recorder.of("begin") == [("adversarial", 0, 6)]


def test_averages_are_what_a_run_begins_with_and_begin_there(place: Path, tmp_path: Path) -> None:
    averaged = ("adversarial.train.ema=0.9", "polish.train.ema=0.9")
    fake(place, tmp_path / "averaged", *averaged)
    before = weights(tmp_path / "averaged")
    fake(place, tmp_path / "second", *averaged, *STILL, from_run=tmp_path / "averaged")
    for key, tensor in weights(tmp_path / "second").items():
        torch.testing.assert_close(tensor, before[key], rtol=0, atol=1e-6)


def test_a_resumed_run_needs_the_other_one_no_more_and_may_name_it(place: Path, tmp_path: Path) -> None:
    other = official(place, tmp_path, "generator", "bias")
    fake(place, tmp_path / "second", from_run=other, stages=["adversarial"])
    with pytest.raises(
        BenchError, match=f"was begun from {other}, not from {place / 'first'}: leave --from out"
    ):
        fake(place, tmp_path / "second", from_run=place / "first", resume=True)
    fake(place, tmp_path / "second", from_run=other, resume=True)
    with pytest.raises(BenchError, match="was begun from random weights, not from"):
        fake(place, "first", from_run=other, resume=True)
    fake(place, tmp_path / "third", from_run=other, stages=["adversarial"])
    other.rename(tmp_path / "gone")
    fake(place, tmp_path / "third", resume=True)
    assert_equal(weights(tmp_path / "third"), weights(tmp_path / "second"))


def test_what_the_other_run_lacks_begins_with_random_weights_and_is_said(place: Path, tmp_path: Path) -> None:
    other = official(place, tmp_path, "generator")
    recorder = Recorder()
    fake(place, tmp_path / "second", *STILL, from_run=other, reporter=recorder)
    notes = [line[0] for line in recorder.of("note")]
    assert f"adversarial: {other} has no discriminator, which begins with random weights" in notes
    assert f"polish: {other} has no bias, which begins with random weights" in notes
    found = weights(tmp_path / "second")
    for key, tensor in weights(other).items():
        assert torch.equal(found[key], tensor)


@pytest.mark.parametrize("damage", ["method", "none", "run set", "options"])
def test_what_does_not_fit_is_one_line_and_leaves_no_folder(
    place: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = official(place, tmp_path, "generator", "bias")
    words: tuple[str, ...] = ()
    if damage == "method":
        config = json.loads((other / "config.json").read_text())
        monkeypatch.setitem(METHODS.entries, "other", "tests.bench.train.test_starting:Other")
        (other / "config.json").write_text(json.dumps({**config, "method": "other"}))
        message = f"{other} is a run of other, not of fake: name another with --from"
    elif damage == "none":
        for folder in ("adversarial", "polish"):
            (other / folder).rename(tmp_path / folder)
        message = f"{other} has no checkpoint yet: train it first, or name another run with --from"
    elif damage == "run set":
        (other / "runset.json").write_text(
            json.dumps(
                {
                    "method": NAME,
                    "persons": [{"speaker": "a", "folder": "a", "train": [], "val": [], "test": []}],
                    "config": {},
                }
            )
        )
        message = f"{other} is a run set: name the run of one person in it, such as {other / 'a'}"
    else:
        path = next(other.glob("adversarial/checkpoints/*/generator.safetensors"))
        write_networks(
            other,
            "adversarial",
            {"generator": {"1.weight": torch.zeros(2, 2), "1.bias": torch.zeros(80)}},
            "x",
        )
        words = ("adversarial.dropout=0.25",)
        message = f"{path}: 1.weight has shape (2, 2), the network expects (80, 1280)"
    with pytest.raises(BenchError) as error:
        fake(place, tmp_path / "second", *words, from_run=other)
    assert str(error.value).startswith(message)
    if damage == "options":
        assert str(error.value).endswith("(adversarial.dropout was 0.5, is now 0.25)")
    assert not (tmp_path / "second").exists()


def test_every_person_begins_with_the_same_run(place: Path, tmp_path: Path) -> None:
    clips = [
        replace(fake_clip(f"{name}/{i:02d}", 8), speaker=name, source=f"{name}.mp4", start=float(i))
        for name in ("anna", "bert")
        for i in range(4)
    ]
    write_fake_dataset(tmp_path / "people", clips)
    other = official(place, tmp_path, "generator", "bias", "discriminator")
    result = fake(place, tmp_path / "set", *STILL, data=tmp_path / "people", per="speaker", from_run=other)
    assert list(result.speakers) == ["anna", "bert"]
    run_set = RunSet.load(tmp_path / "set")
    assert run_set is not None
    for name in result.speakers:
        assert_equal(weights(run_set.run_of(name)), weights(other))
        assert RunConfig.load(run_set.run_of(name)).begun_from == other
