"""Whether decoded pictures are kept: by the memory that is free or given; and that training is the same with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from bench.common.methods import METHODS
from bench.train import caching
from bench.train.caching import keeping_pictures
from bench.train.config import RunConfig, check_resume
from prep.dataset import WindowDataset
from prep.sample_spec import SampleSpec
from tests.bench.fake_training import ENTRY, NAME, config_for
from tests.bench.train.test_runner import StopAt, contents, run_training, states
from tests.prep.fakes import fake_dataset

MIB = 1 << 20
SPEC = SampleSpec(view="box128")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 9, "val": 3})
    return folder


def datasets(data: Path) -> tuple[WindowDataset, WindowDataset]:
    return WindowDataset(data, "train", SPEC), WindowDataset(data, "val", SPEC)


def kept(*sets: WindowDataset) -> list[bool]:
    return [dataset._pictures._cache is not None for dataset in sets]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(METHODS.entries, NAME, ENTRY)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def test_auto_takes_a_quarter_of_what_is_free_divided_by_the_processes(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = datasets(data)
    need = train.picture_bytes() + val.picture_bytes(3)
    assert 17 * MIB < need < 20 * MIB
    for free, processes, local, expected in (
        (4 * need + 4, 1, None, [True, True]),
        (4 * need - 4, 1, None, [False, True]),  # a validation needs few pictures
        (4 * need + 4, 2, None, [False, True]),
        (8 * need + 8, 2, None, [True, True]),
        (4 * need + 4, 8, "1", [True, True]),  # the others are on other machines
        (1000, 1, None, [False, False]),
    ):
        monkeypatch.setattr(caching, "free_memory", lambda free=free: free)
        if local:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
        with keeping_pictures("auto", train, val, None, processes) as note:
            assert kept(train, val) == expected
            assert ("18 MiB for train" in note) == expected[0] and ("1 MiB for val" in note) == expected[1]
            assert bool(note) == any(expected)
        assert kept(train, val) == [False, False]
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def test_a_number_is_kept_to_and_too_small_a_one_is_reported(data: Path) -> None:
    train, val = datasets(data)
    with keeping_pictures(30, train, val, 3, 1) as note:
        assert kept(train, val) == [True, True]
        assert note.startswith("decoded pictures stay in memory: 1 MiB for val and 18 MiB for train; ")
    with keeping_pictures(10, train, val, 3, 1) as note:
        assert kept(train, val) == [False, True]
        assert note.endswith(
            "; runner.cache=10 is too little for decoded pictures, which need 18 MiB for train"
        )
    with keeping_pictures("off", train, val, 3, 1) as note:
        assert kept(train, val) == [False, False] and not note


def test_no_pictures_and_no_room_at_the_system_are_no_error(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = WindowDataset(data, "train", SampleSpec(landmarks="lips"))
    with keeping_pictures(10, bare, bare, None, 1) as note:
        assert note == ""
    train, val = datasets(data)

    def refuse(*_: object) -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr("prep.frame_cache.mmap.mmap", refuse)
    with keeping_pictures("auto", train, val, None, 1) as note:
        assert kept(train, val) == [False, False] and note == ""


def test_training_is_the_same_with_and_without(data: Path, tmp_path: Path) -> None:
    off, _, _ = run_training(data, tmp_path / "off", "runner.cache=off")
    assert not [note for (note,) in off.of("note") if "in memory" in note]
    expected = contents(tmp_path / "off"), states(tmp_path / "off")
    assert len(expected[0]) > 6
    settings = ("runner.cache=auto", "runner.workers=auto"), ("runner.cache=64", "runner.workers=2")
    for i, options in enumerate(settings):
        run = tmp_path / f"on{i}"
        on, _, _ = run_training(data, run, *options)
        notes = [note for (note,) in on.of("note") if "decoded pictures stay in memory" in note]
        assert [note.split(":")[0] for note in notes] == ["adversarial", "polish"]
        assert (contents(run), states(run)) == expected


def test_a_cache_that_stops_growing_is_reported_once_a_stage(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prep.frame_cache.free_memory", lambda: 0)
    recorder, _, _ = run_training(data, tmp_path / "run", "runner.log_every=1", "runner.cache=64")
    notes = [note for (note,) in recorder.of("note") if "memory is short" in note]
    assert [note.split(":")[0] for note in notes] == ["adversarial", "polish"]


def test_a_run_goes_on_with_another_cache(data: Path, tmp_path: Path) -> None:
    run_training(data, tmp_path / "whole", "runner.cache=off")
    _, _, result = run_training(data, tmp_path / "parts", "runner.cache=64", recorder=StopAt(3))
    assert result.stopped
    run_training(data, tmp_path / "parts", "runner.cache=off", resume=True)
    last = "polish/checkpoints"
    assert contents(tmp_path / "whole" / last) == contents(tmp_path / "parts" / last)
    old, new = (config_for(data, tmp_path / "x", f"runner.cache={value}") for value in ("auto", 500))
    check_resume(old, new)


def test_the_option_is_saved_and_older_runs_have_none(data: Path, tmp_path: Path) -> None:
    for value in ("auto", "off", 700):
        run = tmp_path / str(value)
        run.mkdir()
        config_for(data, run, f"runner.cache={value}").save(run)
        assert RunConfig.load(run).runner.cache == value
        text = (run / "config.json").read_text()
        (run / "config.json").write_text("".join(x for x in text.splitlines(True) if '"cache"' not in x))
        assert RunConfig.load(run).runner.cache == "auto"


def test_the_number_of_workers_of_older_runs_is_kept(data: Path, tmp_path: Path) -> None:
    for value in ("auto", 2, 0):
        run = tmp_path / str(value)
        run.mkdir()
        config_for(data, run, f"runner.workers={value}").save(run)
        assert RunConfig.load(run).runner.workers == value
