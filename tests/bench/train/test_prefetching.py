"""Batches come from a thread in their order, with its errors, and the thread ends with the training."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from bench.train import loading
from bench.train.loading import open_dataset, reading, training_loader, workers_of
from bench.train.prefetching import Ahead
from models.base import Batch
from prep.order import WindowStream
from tests.bench.train.test_loading import stage
from tests.prep.fakes import fake_dataset

CPU = torch.device("cpu")


def numbered(count: int, asked: list[int], problem: BaseException | None = None) -> Iterator[Batch]:
    for i in range(count):
        asked.append(i)
        yield {"clip": [str(i)], "value": torch.tensor([i])}
    if problem is not None:
        raise problem


def wait_for(asked: list[int], count: int) -> None:
    for _ in range(1000):
        if len(asked) >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"{len(asked)} batches were read, not {count}")


@pytest.mark.parametrize("depth", [1, 3])
def test_batches_are_read_before_they_are_asked_for_and_no_more_than_told(depth: int) -> None:
    asked: list[int] = []
    ahead = Ahead(numbered(20, asked), CPU, depth)
    wait_for(asked, depth + 1)  # one more is in the thread's hands
    time.sleep(0.1)
    assert len(asked) == depth + 1
    assert next(ahead)["clip"] == ["0"]
    wait_for(asked, depth + 2)
    assert [int(batch["value"]) for batch in ahead] == list(range(1, 20))
    assert list(ahead) == []
    ahead.close()


def test_an_error_comes_after_the_batches_before_it_and_stays() -> None:
    ahead = Ahead(numbered(2, [], ValueError("a sample")), CPU)
    assert [next(ahead)["clip"], next(ahead)["clip"]] == [["0"], ["1"]]
    for _ in range(2):
        with pytest.raises(ValueError, match="a sample"):
            next(ahead)
    ahead.close()


def test_the_thread_ends_although_nobody_takes_its_batches() -> None:
    before = set(threading.enumerate())
    closed: list[int] = []

    def source() -> Iterator[Batch]:
        try:
            yield from numbered(1 << 30, [])
        finally:
            closed.append(1)

    batches = source()
    ahead = Ahead(batches, CPU, 2)
    next(ahead)
    del batches
    ahead.close()
    assert set(threading.enumerate()) == before and closed == [1]
    with pytest.raises(StopIteration):
        next(ahead)
    ahead.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_arrive_whole_on_a_gpu() -> None:
    device = torch.device("cuda")

    def source() -> Iterator[Batch]:
        for i in range(50):
            yield {"clip": [str(i)], "value": torch.full((1 << 22,), i).pin_memory()}

    ahead = Ahead(source(), device)
    for i, batch in enumerate(ahead):
        assert batch["value"].device.type == "cuda" and bool((batch["value"] * 2 == 2 * i).all())
    ahead.close()


def test_samples_are_collated_as_by_torch(tmp_path: Path) -> None:
    fake_dataset(tmp_path / "d", {"train": 4})
    dataset = open_dataset([tmp_path / "d"], "train", stage(), 0)
    samples = [{**dataset[i], "flag": torch.tensor(i > 1), "number": i} for i in range(4)]
    ours, theirs = loading._collate(samples), default_collate(samples)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, torch.Tensor):
            assert ours[key].dtype == value.dtype and torch.equal(ours[key], value)
        else:
            assert ours[key] == value


def test_an_error_of_a_sample_reaches_the_training(tmp_path: Path) -> None:
    fake_dataset(tmp_path / "d", {"train": 4})
    dataset = open_dataset([tmp_path / "d"], "train", stage(), 0)

    class Broken(type(stage())):  # type: ignore[misc]
        def prepare(self, sample: Batch) -> Batch:
            raise ArithmeticError("a sample")

    for workers in (0, 1):
        loader = training_loader(WindowStream(dataset, 2), stage(Broken), workers=workers)
        with reading(loader, CPU) as batches, pytest.raises(ArithmeticError, match="a sample") as caught:
            next(batches)
        # Python waits for all processes when it exits, and workers ignore the signal that it sends them.
        assert multiprocessing.active_children() == [], caught


def test_two_cores_have_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    for cores, processes, expected in ((1, 1, 0), (2, 1, 0), (4, 1, 2), (16, 1, 4), (16, 4, 2), (8, 4, 0)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=cores: set(range(n)), raising=False)
        assert workers_of("auto", processes) == expected
    assert workers_of(3, 1) == 3 and workers_of(0, 9) == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert workers_of("auto", 4) == 4
