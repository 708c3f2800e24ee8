"""Clips whose sound is off are found by an expert, and left out of training."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

import bench.cli
from bench.clips.clip_lists import FORMATS, read_clips
from bench.common.errors import BenchError, Unscorable
from bench.common.methods import METHODS
from bench.metrics.judge_file import JudgeFile
from bench.train.config import RunConfig
from bench.train.log import read_log
from bench.train.offsets import Rule, Summary, judge, write_offsets
from bench.weights.digests import file_sha256
from prep import images
from prep.errors import PrepError
from prep.schema import Clip
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset

ENTRY = "tests.bench.fake.method:Fake"
VIEWS = ("box128", "face96")
Command = Callable[..., str]
#: Which of 16 columns of mel lies within each frame of a window, wherever int(3.2 frame) was rounded to.
_MIDDLES = [int(3.2 * k) + 2 for k in range(5)]


class Hears(nn.Module):
    """In the place of the expert: what it sees is the grey of five frames, what it hears the level of the sound."""

    def __init__(self) -> None:
        super().__init__()
        self.anywhere = nn.Parameter(torch.zeros(()))

    def lips(self, frames: Tensor) -> Tensor:
        return frames.mean(dim=(2, 3, 4)) * 2 - 1

    def see(self, lips: Tensor) -> Tensor:
        # As the network's own: nothing below 0.
        return nn.functional.normalize(torch.cat([lips.relu(), (-lips).relu()], dim=1), dim=1)

    def hear(self, mels: Tensor) -> Tensor:
        return self.see(mels[:, 0, _MIDDLES] / 4)


def spoken(clip_id: str, late: int = 0, *, split: str = "train", frames: int = 40, **options: Any) -> Clip:
    """A clip whose grey in every frame is the level of its sound, ``late`` frames later."""
    clip = fake_clip(clip_id, frames, split=split, views=VIEWS, **options)
    level = np.random.default_rng(list(clip_id.encode())).uniform(-0.9, 0.9, frames + 40)
    for t, there in enumerate(clip.images["face96"]):
        if there is not None:
            grey = np.full((96, 96, 3), round(127.5 * (1 + level[t + 20])), np.uint8)
            clip.images["face96"][t] = images.encode(grey, "jpeg", 95)
    if clip.mel is not None:
        heard = (np.arange(len(clip.mel)) / 3.2).astype(int) - late + 20
        clip.mel = np.repeat(4 * level[heard, None], 80, axis=1).astype(np.float32)
    return clip


def expert() -> Any:
    return Hears().eval()


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen clips for training, of which three are off and two cannot be judged; one held out."""
    folder = tmp_path_factory.mktemp("data") / "fake"
    clips = [spoken(f"a/{i:05d}", {2: 8, 5: -4, 7: 1, 8: 2}.get(i, 0)) for i in range(10)]
    clips.append(spoken("b/gaps", frames=50, undetected=[7, *range(20, 24), 31]))
    silent = spoken("c/silent")
    silent.mel = silent.audio = None
    clips += [silent, spoken("d/faceless", undetected=range(0, 40, 4)), spoken("v/1", split="val")]
    write_fake_dataset(folder, clips)
    return folder


@pytest.fixture
def bench_(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Command]:
    """Run the command in this process, by the fake expert; returns what it says, errors last."""
    monkeypatch.setitem(METHODS.entries, "fake", ENTRY)
    monkeypatch.chdir(tmp_path)
    found = JudgeFile(tmp_path / "expert", tmp_path / "expert.safetensors", "0123456789abcdef")
    monkeypatch.setattr("bench.metrics.expert_file.find_expert", lambda run: found)
    monkeypatch.setattr("bench.metrics.expert_file.load_expert", lambda file, device: expert())

    def run(*words: str | Path, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            bench.cli.main()
        said = capsys.readouterr()
        assert ended.value.code == code, said.out + said.err
        return said.out + said.err

    yield run
    # A process has one precision, which the first run decides.
    AcceleratorState._reset_state(reset_partial_state=True)


# Judging ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [-6, 0, 3])
def test_a_clip_with_gaps_is_judged_by_the_windows_between_them(late: int) -> None:
    whole = judge(expert(), spoken("a/1", late), reach=8)
    gaps = judge(expert(), spoken("a/1", late, undetected=[3, 17, *range(25, 30)]), reach=8)
    assert whole.frames == gaps.frames == late
    assert whole.cosine > 0.99 and gaps.cosine > 0.99
    assert 0.2 < gaps.confidence < 0.8
    # Frames without a face are in no window: others there would change nothing.
    assert gaps != whole


def test_what_cannot_be_judged_says_why() -> None:
    silent, short, cut = spoken("a/1"), spoken("a/2", frames=4), spoken("a/3")
    silent.mel = None
    assert cut.mel is not None and short.mel is not None
    cut.mel = cut.mel[:40]
    mute = spoken("a/4")
    assert mute.mel is not None
    mute.mel = mute.mel[:15]
    for clip, reason in (
        (silent, "no sound"),
        (short, "no 5 consecutive frames with a face"),
        (spoken("a/5", undetected=range(0, 40, 5)), "no 5 consecutive frames with a face"),
        (cut, "sound for less than half of the windows"),
        (mute, "the sound is too short"),
    ):
        with pytest.raises(Unscorable) as raised:
            judge(expert(), clip)
        assert raised.value.reason == reason


# The list -----------------------------------------------------------------------------------------------------------


def test_clips_that_are_off_are_found_and_training_leaves_them_out(bench_: Command, data: Path) -> None:
    words = ("offsets", "--data", data, "--sync-expert", "expert", "--device", "cpu", "--reach", "10")
    said = bench_(*words, "--out", "offsets.csv")
    found = rows(Path("offsets.csv"))
    assert list(found) == [f"a/{i:05d}" for i in range(10)] + ["b/gaps", "c/silent", "d/faceless", "v/1"]
    offsets = {clip: int(row["offset"]) for clip, row in found.items() if row["offset"]}
    assert {clip: offset for clip, offset in offsets.items() if offset} == {
        "a/00002": 8,
        "a/00005": -4,
        "a/00007": 1,
        "a/00008": 2,
    }
    out = {"a/00002", "a/00005", "a/00008", "c/silent", "d/faceless"}
    assert {clip for clip, row in found.items() if row["in_sync"] == "false"} == out
    assert {clip for clip, row in found.items() if row["in_sync"] == "true"} == found.keys() - out
    assert found["c/silent"] == {
        **dict.fromkeys(("offset", "cosine", "confidence"), ""),
        **{"clip": "c/silent", "split": "train", "in_sync": "false", "reason": "no sound"},
    }
    assert found["d/faceless"]["reason"] == "no 5 consecutive frames with a face"
    assert float(found["a/00000"]["cosine"]) > 0.99 and float(found["a/00000"]["confidence"]) > 0.2
    lines = [line.split() for line in said.splitlines()]
    assert ["train", "13", "8", "3", "0", "2", "62%"] in lines
    assert ["val", "1", "1", "0", "0", "0", "100%"] in lines
    assert "of clips with enough confidence: +0 (8), " in said and "+8 (1)" in said
    assert "not judged: 1 × no sound" in said and "sha256 0123456789ab" in said
    assert "as a whole" not in said

    training = ("train", "fake", "--data", data, "--preset", "tiny", "--device", "cpu", "--stage", "colour")
    bench_(*training, "--clips", "offsets.csv", "--precision", "no")
    run = Path("runs/fake")
    notes = [line["text"] for line in read_log(run / "colour" / "log.jsonl") if line["kind"] == "note"]
    # The fake stage wants no sound and one frame: all but the list's own would do.
    assert (
        "colour: train 8 of 13 clips; left out: 5 × not among the clips of this run; val 1 of 1 clips"
        in notes
    )
    assert RunConfig.load(run).clips == Path("offsets.csv")
    assert json.loads((run / "provenance.json").read_text())["clips"] == {
        "path": "offsets.csv",
        "sha256": file_sha256(Path("offsets.csv")),
        "clips": 9,
    }

    assert "colour: from" not in bench_("train", "fake", "--resume", "--stage", "colour")
    assert json.loads((run / "provenance.json").read_text())["clips"]["clips"] == 9
    kept = (run / "config.json").read_bytes()
    Path("other.txt").write_text("a/00000\n")
    said = bench_("train", "fake", "--resume", "--clips", "other.txt", code=1)
    assert "error: runs/fake was begun with those of offsets.csv (sha256 " in said
    assert "not with those of other.txt" in said and len(said.strip().splitlines()) == 1
    Path("offsets.csv").unlink()
    said = bench_("train", "fake", "--resume", code=1)
    assert said == f"error: the list of clips offsets.csv is missing: {FORMATS}\n"
    assert (run / "config.json").read_bytes() == kept


def test_a_run_without_a_list_goes_on_without(bench_: Command, data: Path) -> None:
    words = ("train", "fake", "--data", data, "--preset", "tiny", "--device", "cpu", "--stage", "colour")
    bench_(*words, "--set", "colour.train.steps=1")
    assert json.loads(Path("runs/fake/provenance.json").read_text())["clips"] is None
    Path("some.txt").write_text("a/00000\na/00001\n")
    said = bench_("train", "fake", "--resume", "--clips", "some.txt", code=1)
    assert "runs/fake was begun with all clips, not with those of some.txt" in said


def test_only_the_splits_that_are_asked_for(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "val.csv"
    steps: list[tuple[int, int]] = []
    summary = write_offsets(
        [data], out, expert(), splits=["val"], progress=lambda done, total: steps.append((done, total))
    )
    assert list(rows(out)) == ["v/1"] and steps == [(1, 1)]
    assert summary.counts == {"val": {"clips": 1, "in sync": 1}}
    with pytest.raises(PrepError, match="has no split 'test'"):
        write_offsets([data], out, expert(), splits=["test"])


def test_the_rule_decides_what_is_in_sync(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "offsets.csv"

    def in_sync(rule: Rule) -> set[str]:
        write_offsets([data], out, expert(), splits=["train"], rule=rule)
        return set(read_clips(out))

    kept = in_sync(Rule())
    assert in_sync(Rule(most=4)) - kept == {"a/00005", "a/00008"}
    assert kept - in_sync(Rule(most=0)) == {"a/00007"}
    summary = write_offsets([data], out, expert(), splits=["train"], rule=Rule(confidence=0.99))
    assert summary.counts["train"] == {"clips": 13, "unsure": 11, "not judged": 2}
    with pytest.raises(BenchError, match=r"offsets\.csv names no clip"):
        read_clips(out)


def test_an_offset_of_the_whole_data_set_is_told(bench_: Command, tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "late", [spoken(f"a/{i}", 5 if i else 0) for i in range(4)])
    said = bench_("offsets", "--data", "late", "--sync-expert", "expert", "--out", "late.csv")
    assert (
        "75% of these clips have the offset +5: so the whole data set has it" in said
        and "--most 5 keeps" in said
    )


def test_what_is_constant_and_what_is_not() -> None:
    summary = Summary(Rule(most=1))
    assert summary.constant() is None
    for offset, count, constant in ((1, 3, None), (-7, 3, None), (-7, 1, -7), (0, 2, None)):
        summary.offsets[offset] += count
        assert summary.constant() == constant, summary.offsets


def test_several_data_sets_make_one_list(data: Path, tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "more", [spoken("x/1", 6)])
    out = tmp_path / "offsets.csv"
    write_offsets([tmp_path / "more", data], out, expert(), splits=["train", "val"])
    found = rows(out)
    assert len(found) == 15 and found["x/1"]["offset"] == "6"
    write_fake_dataset(tmp_path / "again", [spoken("a/00003", 6)])
    with pytest.raises(
        BenchError, match=r"a/00003 is in .*fake.* and in .*again.*: the list could not distinguish"
    ):
        write_offsets([data, tmp_path / "again"], tmp_path / "none.csv", expert())
    assert not (tmp_path / "none.csv").exists()


def test_mistakes_are_one_line_and_leave_nothing(bench_: Command, data: Path, tmp_path: Path) -> None:
    words = ("offsets", "--data", data, "--sync-expert", "expert", "--split", "val")
    Path("there.csv").write_text("mine")
    said = bench_(*words, "--out", "there.csv", code=1)
    assert said == (
        "error: there.csv exists already: replace it with --overwrite, or name another with --out\n"
    )
    assert Path("there.csv").read_text() == "mine"
    bench_(*words, "--out", "there.csv", "--overwrite")
    assert list(rows(Path("there.csv"))) == ["v/1"]
    said = bench_(*words, "--out", "no/such/folder.csv", code=1)
    assert "no/such/folder.csv cannot be written: No such file or directory" in said
    fake_dataset(tmp_path / "plain", {"train": 1})
    said = bench_("offsets", "--data", "plain", "--sync-expert", "e", "--out", "x.csv", code=1)
    assert "plain lacks the view face96, which the expert needs; add it: bench prep --out plain" in said
    assert "--add-view face96" in said
    broken = spoken("a/1")
    ok, small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    assert ok
    broken.images["face96"][3] = small.tobytes()
    write_fake_dataset(tmp_path / "broken", [broken])
    said = bench_("offsets", "--data", "broken", "--sync-expert", "e", "--out", "x.csv", code=1)
    assert "clip a/1: a picture of 8x8, not 96x96; check it: bench inspect broken --verify" in said
    assert not [path for path in tmp_path.iterdir() if "x.csv" in path.name]


# Lists of clips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "clip\na/1\nb/2\n"),
        ("a.csv", "clip,in_sync\na/1,true\nc/3,false\nb/2,True\nd/4,FALSE\n"),
        ("a.CSV", "\ufeffin_sync,clip\r\ntrue,a/1\r\ntrue,b/2\r\n"),
        ("a.txt", "a/1\n\n  b/2  \n"),
        ("list", "b/2\na/1"),
    ],
)
def test_lists_of_clips(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert read_clips(tmp_path / name) == {"a/1", "b/2"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "a.csv, line 1: no column clip: write one clip id per line, or CSV"),
        ("a.csv", "name,in_sync\na/1,true\n", "a.csv, line 1: no column clip"),
        (
            "a.csv",
            "clip\n",
            "the list of clips a.csv names no clip: write one clip id per line, or CSV with the column `clip`",
        ),
        ("a.csv", "clip,in_sync\na/1,false\n", "the list of clips a.csv names no clip"),
        ("a.csv", "clip,in_sync\na/1,true\nb/2,maybe\n", "a.csv, line 3: in_sync is 'maybe': write true or"),
        ("a.csv", "clip,in_sync\na/1\n", "a.csv, line 2: in_sync is None: write true or false"),
        ("a.csv", "clip,in_sync\n,true\n", "a.csv, line 2: no clip id"),
        ("a.txt", "\n \n", "the list of clips a.txt names no clip"),
    ],
)
def test_what_is_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(text)
    with pytest.raises(BenchError) as raised:
        read_clips(Path(name))
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"the list of clips .*none\.csv is missing: write one clip id per line"
    ):
        read_clips(tmp_path / "none.csv")
    with pytest.raises(BenchError, match="cannot be read: Is a directory"):
        read_clips(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"clip\n\xff\xfe\n")
    with pytest.raises(BenchError, match=r"a\.csv cannot be read: it is not text in UTF-8"):
        read_clips(tmp_path / "a.csv")


def test_lists_of_other_data_are_refused(bench_: Command, data: Path, tmp_path: Path) -> None:
    words = ("train", "fake", "--preset", "tiny", "--device", "cpu")
    Path("other.txt").write_text("a/00000\nz/1\ny/2\n")
    said = bench_(*words, "--data", data, "--clips", "other.txt", code=1)
    assert said == (
        f"error: other.txt names clips that are not in {data} (2, such as y/2): remove them, or make the list again: "
        f"bench offsets --data {data} …\n"
    )
    Path("held-out.txt").write_text("v/1\n")
    said = bench_(*words, "--data", data, "--clips", "held-out.txt", code=1)
    assert "nothing of train in" in said and "13 × not among the clips of this run" in said
    write_fake_dataset(tmp_path / "again", [spoken("a/00003")])
    Path("twice.txt").write_text("a/00003\n")
    said = bench_(*words, "--data", data, "--data", "again", "--clips", "twice.txt", code=1)
    assert f"twice.txt names a/00003, which is in {data} and in again: train on one of the two" in said
    said = bench_(*words, "--data", data, "--clips", "no-such.csv", code=1)
    assert said == f"error: the list of clips no-such.csv is missing: {FORMATS}\n"
    assert not Path("runs").exists()
