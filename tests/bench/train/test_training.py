"""``bench.train.train`` as a notebook calls it: one run, and a run for each person."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from bench.common.errors import BenchError
from bench.common.lock import exclusive
from bench.common.methods import METHODS
from bench.train import RunSet, TrainResult, train
from bench.train.checkpoint import Checkpoints, load_run
from bench.train.config import RunConfig
from bench.train.log import read_log
from bench.train.run_set import RUN_SET, method_of
from models.base import DataInfo
from prep.errors import PrepError
from prep.schema import Clip
from prep.shards import MANIFEST, write_json
from tests.bench.fake.method import Fake
from tests.bench.fake_training import Recorder
from tests.prep.fakes import fake_clip, write_fake_dataset

ENTRY = "tests.bench.fake.method:Fake"
FAST = ("runner.device=cpu",)
#: What the fake method was told of its data, each time that it was built.
TOLD: list[DataInfo] = []


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    build = Fake.__init__

    def told(self: Fake, config: Any, data: DataInfo) -> None:
        TOLD.append(data)
        build(self, config, data)

    monkeypatch.setitem(METHODS.entries, "fake", ENTRY)
    monkeypatch.setattr(Fake, "background", "box128")
    monkeypatch.setattr(Fake, "__init__", told)
    monkeypatch.chdir(tmp_path)
    TOLD.clear()
    yield
    AcceleratorState._reset_state(True)


def spoken(speaker: str, number: int, split: str = "train", n_frames: int = 8, **options: Any) -> Clip:
    made = fake_clip(f"{speaker}/{number:02d}", n_frames, split=split, **options)
    return replace(made, speaker=speaker, source=f"{speaker}.mp4", start=float(number))


def persons(folder: Path) -> Path:
    """anna: one video of ten clips; bert: in all three splits; carl: two clips; doris: no face in what is held out."""
    clips = [spoken("anna", i) for i in range(10)]
    clips += [spoken("bert", i, split) for i, split in enumerate(["train", "train", "val", "test"])]
    clips += [spoken("carl", i) for i in range(2)]
    clips += [spoken("doris", i, undetected=range(8) if i else ()) for i in range(3)]
    write_fake_dataset(folder, clips)
    return folder


def contents(run: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(run)): path for path in run.rglob("*.safetensors")}
    return {name: path.read_bytes() for name, path in found.items()}


# One run ------------------------------------------------------------------------------------------------------


def test_a_run_is_trained_and_told_what_its_data_is(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "data", [spoken("anna", i) for i in range(4)] + [spoken("bert", 0, "val")])
    recorder = Recorder()
    result = train("fake", [tmp_path / "data"], preset="tiny", overrides=FAST, reporter=recorder)
    assert isinstance(result, TrainResult) and result.run == Path("runs/fake") and not result.stopped
    assert list(result.best) == ["colour", "shade"] and result.best["colour"]["step"] <= 6
    assert recorder.of("begin") == [("colour", 0, 6), ("shade", 0, 4)]
    (info,) = TOLD
    assert (info.clips, info.frames, info.width, info.height, info.identities) == (4, 32, 160, 200, 1)
    assert info.background is not None and info.background.shape == (128, 128, 3)
    config, _ = load_run(result.run)
    assert config.method == "fake" and TOLD[1] == info
    assert TOLD[1].background is not None and np.array_equal(TOLD[1].background, info.background)


def test_a_run_of_an_earlier_version_is_told_nothing_and_goes_on(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "data", [spoken("anna", i) for i in range(4)] + [spoken("bert", 0, "val")])
    result = train("fake", [tmp_path / "data"], preset="tiny", overrides=FAST, stages=["colour"])
    for name in ("data.json", "background.png"):
        (result.run / name).unlink()
    stored = json.loads((result.run / "config.json").read_text())
    (result.run / "config.json").write_text(
        json.dumps({key: value for key, value in stored.items() if key not in ("sound", "person")})
    )
    TOLD.clear()
    assert list(train("fake", resume=True).best) == ["colour", "shade"]
    load_run(result.run)
    assert [DataInfo(), DataInfo()] == TOLD
    assert not (result.run / "data.json").exists()


def test_a_second_process_in_the_same_run_is_one_line(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "data", [spoken("anna", i) for i in range(4)] + [spoken("bert", 0, "val")])
    result = train("fake", [tmp_path / "data"], preset="tiny", overrides=FAST, stages=["colour"])
    record = (result.run / "provenance.json").read_bytes()
    with exclusive(result.run, "another"), pytest.raises(BenchError) as caught:
        train("fake", resume=True)
    assert str(caught.value) == (
        "runs/fake is being written by another `bench train fake`: wait for it, or stop it"
    )
    assert (result.run / "provenance.json").read_bytes() == record


def test_only_the_main_process_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fake_dataset(tmp_path / "data", [spoken("anna", i) for i in range(4)] + [spoken("bert", 0, "val")])
    result = train("fake", [tmp_path / "data"], preset="tiny", overrides=FAST)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    recorder = Recorder()
    with exclusive(result.run, "the main process"):
        again = train("fake", resume=True, reporter=recorder)
    assert again.best == result.best and recorder.lines == []


def with_padding(folder: Path, padding: str) -> Path:
    write_fake_dataset(
        folder, [spoken(folder.name, i) for i in range(3)] + [spoken(f"{folder.name}v", 0, "val")]
    )
    manifest = json.loads((folder / MANIFEST).read_text())
    options = {"source": "own", "name": folder.name, "views": ["box128"], "mel_padding": padding}
    write_json(folder / MANIFEST, {**manifest, "root": "/data", "options": options})
    return folder


def test_the_sound_of_the_data_is_that_of_the_run(tmp_path: Path) -> None:
    reflect, constant = with_padding(tmp_path / "r", "reflect"), with_padding(tmp_path / "c", "constant")
    result = train("fake", [reflect], preset="tiny", overrides=FAST, stages=["colour"])
    assert RunConfig.load(result.run).sound.mel_padding == "reflect"
    with pytest.raises(BenchError, match=r"was begun with sound.mel_padding=reflect, not constant"):
        train("fake", [constant], resume=True)
    with pytest.raises(BenchError, match=r"was begun with sound.mel_padding=reflect, not constant"):
        train("fake", overrides=["sound.mel_padding=constant"], resume=True)
    train("fake", preset="tiny", overrides=FAST, stages=["colour"], resume=True)
    assert RunConfig.load(result.run).sound.mel_padding == "reflect"
    with pytest.raises(BenchError) as caught:
        train("fake", [constant], overrides=["sound.mel_padding=reflect"], run=Path("other"))
    assert str(caught.value) == (
        f"sound.mel_padding=reflect: {constant} was prepared with constant: leave that out, or prepare it again with "
        "--mel-padding reflect"
    )
    with pytest.raises(BenchError, match=r"was prepared with mel_padding constant, .* with reflect"):
        train("fake", [constant, reflect], run=Path("other"))
    assert not Path("other").exists()


def test_training_on_data_sets_of_two_versions_is_noted(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "data", [spoken("anna", i) for i in range(4)] + [spoken("bert", 0, "val")])
    old, recorder = Path(__file__).parents[2] / "history" / "data", Recorder()
    train(
        "fake", [tmp_path / "data", old], preset="tiny", overrides=FAST, stages=["colour"], reporter=recorder
    )
    (text,) = (text for (text,) in recorder.of("note") if "schema" in text)
    assert text.startswith(f"warning: stereo sound in {old} is up to 3 dB louder than in the others")


# A run for each person ----------------------------------------------------------------------------------------


def test_every_person_gets_a_run(tmp_path: Path) -> None:
    data = persons(tmp_path / "data")
    recorder = Recorder()
    result = train(
        "fake", [data], preset="tiny", overrides=FAST, per="speaker", run=Path("set"), reporter=recorder
    )
    assert list(result.speakers) == ["anna", "bert"] and not result.stopped and result.best == {}
    assert list(result.speakers["anna"].best) == ["colour", "shade"]
    assert result.skipped["carl"] == "clips: 2, and 3 are needed"
    assert "left out" in result.skipped["doris"]
    notes = [text for (text,) in recorder.of("note")]
    assert "carl is skipped: clips: 2, and 3 are needed" in notes and "anna (1 of 3): set/anna" in notes

    run_set = RunSet.load(Path("set"))
    assert run_set is not None and run_set.method == method_of(Path("set")) == "fake"
    assert run_set.skipped == result.skipped
    anna, bert = run_set.persons
    ids = [f"anna/{i:02d}" for i in range(10)]
    assert [*anna.train, *anna.val, *anna.test] == ids and (len(anna.val), len(anna.test)) == (1, 2)
    assert (bert.train, bert.val, bert.test) == (("bert/00", "bert/01"), ("bert/02",), ("bert/03",))
    assert run_set.held_out() == {"anna": ("anna/08", "anna/09"), "bert": ("bert/03",)}
    assert run_set.run_of("bert") == Path("set/bert") and method_of(run_set.run_of("bert")) == "fake"
    config, _ = load_run(run_set.run_of("anna"))
    assert config.person == anna and config.out == Path("set/anna")
    assert json.loads(Path("set/bert/data.json").read_text())["clips"] == 2
    (first, *_) = read_log(Path("set/anna/colour/log.jsonl"))[1:]
    assert "train 7 of 7" not in first["text"] and "train 7 of 19 clips" in first["text"]
    assert not Path("set/doris").exists()


def test_a_persons_run_is_what_it_is_without_the_others(tmp_path: Path) -> None:
    data = persons(tmp_path / "data")
    options = {"preset": "tiny", "overrides": FAST, "per": "speaker"}
    train("fake", [data], run=Path("all"), **options)  # type: ignore[arg-type]
    train("fake", [data], run=Path("one"), speakers=["bert"], **options)  # type: ignore[arg-type]
    assert contents(Path("all/bert")) == contents(Path("one/bert"))
    assert not Path("one/anna").exists()
    run_set = RunSet.load(Path("one"))
    assert run_set is not None and list(run_set.held_out()) == ["bert"]
    with pytest.raises(
        BenchError, match=r"one has no run of anna yet: bench train fake --per speaker --run one"
    ):
        run_set.run_of("anna")
    with pytest.raises(BenchError, match=r"carl cannot be trained: clips: 2, and 3 are needed"):
        run_set.run_of("carl")
    with pytest.raises(PrepError, match=r"unknown speaker 'ana': did you mean anna\?"):
        train("fake", per="speaker", run=Path("one"), resume=True, speakers=["ana"])
    # The rest follows later.
    train("fake", per="speaker", run=Path("one"), resume=True)
    assert contents(Path("all")) == contents(Path("one"))


def test_an_interrupted_set_goes_on_with_the_person_it_was_at(tmp_path: Path) -> None:
    data = persons(tmp_path / "data")
    options = {"preset": "tiny", "overrides": (*FAST, "runner.log_every=1"), "per": "speaker"}
    train("fake", [data], run=Path("whole"), **options)  # type: ignore[arg-type]

    class StopAtBert(Recorder):
        def step(self, stage: str, step: int, *rest: Any) -> None:
            super().step(stage, step, *rest)
            if ("bert (2 of 3): cut/bert",) in self.of("note") and step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    result = train("fake", [data], run=Path("cut"), reporter=StopAtBert(), **options)  # type: ignore[arg-type]
    assert result.stopped and result.speakers["bert"].stopped and not result.speakers["anna"].stopped
    assert Checkpoints(Path("cut/bert/colour/checkpoints")).last() == Path(
        "cut/bert/colour/checkpoints/step-00000003"
    )
    recorder = Recorder()
    result = train("fake", run=Path("cut"), per="speaker", resume=True, reporter=recorder)
    assert not result.stopped and list(result.speakers) == ["anna", "bert"]
    assert recorder.of("begin") == [("colour", 3, 6), ("shade", 0, 4)]
    assert contents(Path("cut")) == contents(Path("whole"))


def test_a_set_goes_on_as_it_began(tmp_path: Path) -> None:
    data = persons(tmp_path / "data")
    train("fake", [data], preset="tiny", overrides=FAST, per="speaker", run=Path("set"), speakers=["bert"])
    with pytest.raises(BenchError, match=r"set/bert was begun with colour.hidden=8, not 4"):
        train(
            "fake",
            per="speaker",
            run=Path("set"),
            resume=True,
            speakers=["anna"],
            overrides=["shade.hidden=4", "colour.hidden=4"],
        )
    with pytest.raises(BenchError, match=r"set is a run set: continue it with --per speaker --resume"):
        train("fake", run=Path("set"), resume=True)
    with pytest.raises(BenchError, match=r"set exists already"):
        train("fake", [data], per="speaker", run=Path("set"))
    with pytest.raises(BenchError, match=r"nothing is not a run set: start one without --resume"):
        train("fake", per="speaker", run=Path("nothing"), resume=True)
    with pytest.raises(BenchError, match=r"persons are named, but one run is trained"):
        train("fake", [data], speakers=["anna"])
    with (
        exclusive(Path("set"), "another"),
        pytest.raises(BenchError, match=r"being written by another `bench train fake --per speaker`"),
    ):
        train("fake", per="speaker", run=Path("set"), resume=True)


def test_a_list_of_clips_bounds_a_set(tmp_path: Path) -> None:
    data = persons(tmp_path / "data")
    Path("clips.txt").write_text("anna/00\nanna/01\nanna/09\n")
    options = {"preset": "tiny", "overrides": FAST, "per": "speaker", "clips": Path("clips.txt")}
    result = train("fake", [data], run=Path("set"), **options)  # type: ignore[arg-type]
    assert list(result.speakers) == ["anna"]
    assert result.skipped["bert"] == "no training clip is in the list of clips"
    run_set = RunSet.load(Path("set"))
    assert run_set is not None and run_set.persons[0].train == ("anna/00", "anna/01")


def test_nobody_to_train_is_one_line(tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "few", [spoken("carl", i) for i in range(2)])
    with pytest.raises(
        BenchError, match=r"few: no person can be trained \(carl: clips: 2, and 3 are needed\)"
    ):
        train("fake", [tmp_path / "few"], preset="tiny", per="speaker", run=Path("set"))
    assert not Path("set").exists()


def test_a_set_with_a_missing_asset_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first person has no samples, and is skipped: the second is checked.
    clips = [spoken("adam", i, undetected=range(8) if i else ()) for i in range(3)]
    write_fake_dataset(tmp_path / "data", clips + [spoken("bert", i) for i in range(3)])
    call: Any = ("fake", [tmp_path / "data"])
    options: Any = {"preset": "tiny", "overrides": FAST, "per": "speaker", "run": Path("set")}

    def missing(*args: object, **options: object) -> dict[str, str]:
        raise BenchError("fake needs vgg19")

    with monkeypatch.context() as patch:
        patch.setattr("bench.train.one_run.load_assets", missing)
        with pytest.raises(BenchError, match="fake needs vgg19"):
            train(*call, **options)
    assert not Path("set").exists()
    result = train(*call, **options)
    assert list(result.speakers) == ["bert"] and list(result.skipped) == ["adam"]


@pytest.mark.parametrize("content", ["{", "[]", '{"method": "fake"}', '{"method": "fake", "more": 1}'])
def test_a_damaged_set_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN_SET).write_text(content)
    with pytest.raises(
        BenchError, match=r"runset.json is not a run set \(\w.*\): restore this file, or"
    ) as caught:
        RunSet.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert RunSet.load(tmp_path / "nothing") is None


# The package --------------------------------------------------------------------------------------------------


def test_the_package_is_light_until_training_is_asked_for() -> None:
    code = "import sys, bench.train; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0
    import bench.train as package

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018
