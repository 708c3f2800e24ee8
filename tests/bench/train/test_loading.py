"""Loaders for a stage: what a validation sees, and that signals are the runner's."""

import multiprocessing
import signal
from pathlib import Path

import pytest
import torch

from bench.train.loading import open_dataset, reading, training_loader, validation_loader
from prep.order import WindowStream
from tests.bench.fake_training import Adversarial, AdversarialConfig
from tests.prep.fakes import fake_dataset


class Signals(Adversarial):
    def prepare(self, sample):
        handlers = [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGTERM, signal.SIGINT)]
        return {**super().prepare(sample), "ignored": torch.tensor(handlers)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 4, "val": 3})
    return folder


def stage(kind: type[Adversarial] = Adversarial) -> Adversarial:
    config = AdversarialConfig.model_validate({"train": {"batch_size": 2}})
    return kind(config, torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))


def seen(loader) -> list[tuple[str, int]]:
    return [(clip, int(t[0])) for b in loader for clip, t in zip(b["clip"], b["frames"], strict=True)]


def test_a_validation_is_the_same_every_time_and_ranks_share_it(data: Path) -> None:
    dataset = open_dataset([data], "val", stage(), 0)
    once = seen(validation_loader(dataset, stage()))
    assert len(once) == 3 and once == seen(validation_loader(dataset, stage(), workers=1))
    assert [clip for clip, _ in once] == sorted(clip for clip, _ in once)
    shares = [seen(validation_loader(dataset, stage(), rank=rank, world_size=2)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(once) and len(shares[0]) == 2
    assert seen(validation_loader(dataset, stage(), limit=2)) == once[:2]


def test_few_clips_give_several_windows_each(data: Path) -> None:
    dataset = open_dataset([data], "val", stage(), 0)
    many = seen(validation_loader(dataset, stage(), limit=12))
    assert len(many) == 12 and many[:3] == seen(validation_loader(dataset, stage()))
    assert [clip for clip, _ in many] == [clip for clip, _ in many[:3]] * 4
    assert len({start for clip, start in many if clip == many[0][0]}) > 1


def test_workers_leave_signals_to_the_runner(data: Path) -> None:
    dataset = open_dataset([data], "train", stage(), 0)
    loader = training_loader(WindowStream(dataset, 2), stage(Signals), workers=1)
    assert next(iter(loader))["ignored"].all()


def test_an_error_in_a_step_leaves_no_worker_for_which_python_would_wait(data: Path) -> None:
    dataset = open_dataset([data], "train", stage(), 0)
    loader = training_loader(WindowStream(dataset, 2), stage(), workers=2)
    before = set(multiprocessing.active_children())
    caught: ValueError | None = None
    try:
        with reading(loader, torch.device("cpu")) as batches:
            assert len(next(batches)["clip"]) == 2
            assert len(set(multiprocessing.active_children()) - before) == 2
            raise ValueError("a step")
    except ValueError as error:
        caught = error  # the traceback keeps the frames alive, as that of a command does
    assert caught is not None and not set(multiprocessing.active_children()) - before
