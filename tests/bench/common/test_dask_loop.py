"""Tasks in this process and in several: one object a process, and what becomes of a task that kills its worker."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from functools import partial
from uuid import uuid4

import cv2
import pytest
import torch

from bench.common.dask_loop import KILLED, share


@dataclass(frozen=True)
class Built:
    """What tasks share; its mark tells two of them apart."""

    process: int = field(default_factory=os.getpid)
    mark: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class Outcome:
    task: int
    process: int = 0
    mark: str = ""
    threads: tuple[int, int] = (0, 0)
    reason: str = ""


def work(task: int, built: Built, fatal: int | None = None) -> Outcome:
    if task == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    if task < 0:
        raise ArithmeticError("a negative task")
    assert built.process == os.getpid()
    return Outcome(task, os.getpid(), built.mark, (torch.get_num_threads(), cv2.getNumThreads()))


def killed(task: int, reason: str) -> Outcome:
    return Outcome(task, reason=reason)


def test_in_this_process_tasks_come_in_order_and_share_what_was_built() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    done = list(share(range(4), Built, work, killed))
    assert [outcome.task for outcome in done] == [0, 1, 2, 3]
    assert {outcome.process for outcome in done} == {os.getpid()}
    assert len({outcome.mark for outcome in done}) == 1
    assert {outcome.threads for outcome in done} == {before}


def test_what_is_there_already_is_not_built_again() -> None:
    mine = Built()

    def fails() -> Built:
        raise AssertionError("it is built already")

    (done,) = share([7], fails, work, killed, built=mine, workers=8)
    assert done.mark == mine.mark
    assert list(share([], fails, work, killed)) == []


@pytest.mark.slow
def test_processes_build_once_and_a_killed_worker_costs_its_task_alone() -> None:
    done = sorted(share(range(6), Built, partial(work, fatal=2), killed, workers=2), key=lambda o: o.task)
    assert [outcome.task for outcome in done] == list(range(6))
    assert done.pop(2) == Outcome(2, reason=KILLED)
    assert os.getpid() not in {outcome.process for outcome in done}
    assert {outcome.threads for outcome in done} == {(1, 1)}
    marks = {(outcome.process, outcome.mark) for outcome in done}
    assert len(marks) == len({process for process, _ in marks})


@pytest.mark.slow
def test_results_come_in_order_if_asked_for_and_so_does_that_of_a_killed_worker() -> None:
    done = share(range(12), Built, partial(work, fatal=5), killed, workers=2, ordered=True)
    found = list(done)
    assert [outcome.task for outcome in found] == list(range(12))
    assert found[5] == Outcome(5, reason=KILLED)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_exception_of_a_task_ends_the_loop(workers: int) -> None:
    with pytest.raises(ArithmeticError, match="a negative task"):
        list(share([-1, -2], Built, work, killed, workers=workers))
