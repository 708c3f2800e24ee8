"""Clips whose sound is off or of another clip are found, left out of training, and corrected."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor, nn

import bench.cli
from baselines.sync_cca.features import LIPS
from baselines.sync_judges import Offset
from bench.clips.clip_lists import FORMATS, read_clips
from bench.common.errors import BenchError, Unscorable
from bench.common.methods import METHODS
from bench.metrics.expert_file import find_expert
from bench.metrics.judge_file import JudgeFile
from bench.train import cross_fitting
from bench.train.config import RunConfig, load_config
from bench.train.cross_fitting import cross_fit, digest, moved
from bench.train.log import read_log
from bench.train.offset_judging import ByCca, ByExpert, Judged, Place, places
from bench.train.offset_rule import IN_SYNC, OFF, OTHER, UNDECIDABLE, Rule, Summary, verdicts
from bench.train.offsets import COLUMNS, correct_offsets, find_offsets, read_offsets
from bench.weights.digests import file_sha256
from models.base import FitClip
from prep import images
from prep.correcting import RECORD
from prep.errors import PrepError
from prep.inspect import verify_folder
from prep.schema import Clip
from prep.shards import MANIFEST, read, read_manifest
from prep.sound.mel import melspectrogram
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
        return self.see(mels[:, 0, _MIDDLES] - 1)


def spoken(clip_id: str, late: int = 0, *, split: str = "train", frames: int = 60, **options: Any) -> Clip:
    """A clip whose grey in every frame is the level that its sound has ``late`` frames earlier."""
    clip = fake_clip(clip_id, frames, split=split, views=VIEWS, **options)
    level = np.random.default_rng(list(clip_id.encode())).uniform(-0.9, 0.9, frames + 40)
    for t, there in enumerate(clip.images["face96"]):
        if there is not None:
            grey = np.full((96, 96, 3), round(127.5 * (1 + level[t + 20])), np.uint8)
            clip.images["face96"][t] = images.encode(grey, "jpeg", 95)
    if clip.mel is not None:
        heard = (np.arange(len(clip.mel)) / 3.2).astype(int) + late + 20
        # Of 25 dB, so all of it counts as speech.
        clip.mel = np.repeat(1 + level[heard, None], 80, axis=1).astype(np.float32)
    return clip


def expert() -> ByExpert:
    return ByExpert(Hears().eval(), ("sync-expert:0123456789ab",))  # type: ignore[arg-type]


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["clip"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen clips for training, of which three are off and two cannot be judged; one held out."""
    folder = tmp_path_factory.mktemp("data") / "fake"
    clips = [spoken(f"a/{i:05d}", {2: 8, 5: -4, 7: 1, 8: 2}.get(i, 0)) for i in range(10)]
    clips.append(spoken("b/gaps", frames=90, undetected=[7, *range(20, 24), 31]))
    silent = spoken("c/silent")
    silent.mel = silent.audio = None
    clips += [silent, spoken("d/faceless", undetected=range(0, 60, 4)), spoken("v/1", split="val")]
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
    monkeypatch.setattr("bench.metrics.expert_file.find_expert", lambda run, purpose: found)
    monkeypatch.setattr("bench.metrics.expert_file.load_expert", lambda file, device: expert().expert)

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
    whole, frames = expert().judge(spoken("a/1", late), 0, 8)
    gaps, fewer = expert().judge(spoken("a/1", late, undetected=[3, 17, *range(25, 30)]), 0, 8)
    assert whole.frames == gaps.frames == late
    assert min(whole.significance, gaps.significance) > 4
    assert frames == 56 > fewer
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
        (spoken("a/5", undetected=range(0, 60, 5)), "no 5 consecutive frames with a face"),
        (mute, "the sound is too short"),
    ):
        with pytest.raises(Unscorable) as raised:
            expert().judge(clip, 0, 15)
        assert raised.value.reason == reason
    offset, _ = expert().judge(cut, 0, 15)
    assert offset.frames is None and offset.undecidable == "sound beside less than half of the lips"


# The list -----------------------------------------------------------------------------------------------------------


def test_clips_that_are_off_are_found_and_training_leaves_them_out(bench_: Command, data: Path) -> None:
    words = ("offsets", "--data", data, "--sync-expert", "expert", "--device", "cpu", "--reach", "10")
    said = bench_(*words, "--out", "offsets.csv")
    found = rows(Path("offsets.csv"))
    assert list(found) == [f"a/{i:05d}" for i in range(10)] + ["b/gaps", "c/silent", "d/faceless", "v/1"]
    assert list(found["v/1"]) == list(COLUMNS)
    offsets = {clip: int(row["video_late"]) for clip, row in found.items() if row["video_late"]}
    late = {"a/00002": 8, "a/00005": -4, "a/00007": 1, "a/00008": 2}
    assert {clip: offset for clip, offset in offsets.items() if offset} == late
    out = {"a/00002", "a/00005", "a/00008", "c/silent", "d/faceless"}
    assert {clip for clip, row in found.items() if row["in_sync"] == "false"} == out
    assert {clip for clip, row in found.items() if row["in_sync"] == "true"} == found.keys() - out
    assert {row["verdict"] for clip, row in found.items() if clip not in out} == {IN_SYNC}
    assert found["a/00002"]["verdict"] == OFF and found["a/00002"]["reason"] == ""
    assert found["c/silent"] == {
        **dict.fromkeys(("video_late", "score", "confidence", "significance"), ""),
        **{"clip": "c/silent", "split": "train", "in_sync": "false", "reason": "no sound"},
        **{"verdict": UNDECIDABLE, "judge": "sync-expert:0123456789ab"},
    }
    assert found["d/faceless"]["reason"] == "no 5 consecutive frames with a face"
    lines = [line.split() for line in said.splitlines()]
    assert ["train", "13", "8", "3", "0", "2", "62%"] in lines
    assert ["val", "1", "1", "0", "0", "0", "100%"] in lines
    assert "offsets in frames (positive: the video is late): +0 (8), " in said and "+8 (1)" in said
    assert "undecidable: 1 × no sound" in said and "sha256 0123456789ab" in said
    assert "the whole data set" not in said

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
    steps: list[tuple[str, int, int]] = []
    found = find_offsets([data], out, expert(), splits=["val"], progress=lambda *step: steps.append(step))
    assert list(rows(out)) == ["v/1"] and steps == [("offsets", 1, 1)]
    assert found.summary.counts == {"val": {"clips": 1, IN_SYNC: 1}} and found.fitted is None
    with pytest.raises(PrepError, match="has no split 'test'"):
        find_offsets([data], out, expert(), splits=["test"])


def test_the_rule_decides_what_is_in_sync(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "offsets.csv"

    def in_sync(rule: Rule, **options: Any) -> set[str]:
        find_offsets([data], out, expert(), splits=["train"], rule=rule, **options)
        return set(read_clips(out))

    kept = in_sync(Rule())
    assert in_sync(Rule(most=4)) - kept == {"a/00005", "a/00008"}
    assert kept - in_sync(Rule(most=0)) == {"a/00007"}
    assert in_sync(Rule(), keep_undecidable=True) - kept == {"c/silent", "d/faceless"}
    assert rows(out)["c/silent"]["verdict"] == UNDECIDABLE


def test_several_processes_find_the_same(people: Path, fitted: Path, tmp_path: Path) -> None:
    find_offsets([people], tmp_path / "offsets.csv", workers=2)
    assert (tmp_path / "offsets.csv").read_bytes() == fitted.read_bytes()


def test_an_offset_of_the_whole_data_set_is_told(bench_: Command, tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "late", [spoken(f"a/{i}", 5 if i else 0) for i in range(4)])
    said = bench_("offsets", "--data", "late", "--sync-expert", "expert", "--out", "late.csv")
    assert (
        "75% of the clips with an offset have +5: so the whole data set has it, or the data that the" in said
    )
    assert "--most 5 keeps" in said


def test_what_is_constant_and_what_is_not() -> None:
    summary = Summary(Rule(most=1))
    assert summary.constant() is None
    for offset, count, constant in ((1, 3, None), (-7, 3, None), (-7, 1, -7), (0, 2, None)):
        summary.offsets[offset] += count
        assert summary.constant() == constant, summary.offsets


def judged(
    significance: float, frames: int = 100, late: int | None = None, reason: str = "no shift"
) -> Judged:
    place = Place(Path("x"), 0, "a/1", "train", "a", frames)
    return Judged(place, Offset(late, 1.0, 1.0, significance, "" if late is not None else reason), frames)


def test_sound_of_another_clip_is_told_where_the_right_one_would_stand_out() -> None:
    usual = [judged(8.0, 100, 0) for _ in range(20)]
    late, weak, none = judged(9.0, 100, 4), judged(3.0), judged(2.0)
    # By 0.8 times the root of the frames the right sound stands out: 3.6 standard deviations in 20 frames.
    short, silent = judged(1.0, 20), judged(float("nan"))
    nothing = Judged(usual[0].place, None, reason="no sound")
    wanted = [OFF, UNDECIDABLE, OTHER, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE]
    others = [late, weak, none, short, silent, nothing]
    assert verdicts([*usual, *others], Rule())[20:] == wanted
    # Of few clips it is not known how far the right sound stands out.
    assert verdicts([*usual[:15], none], Rule())[-1] == UNDECIDABLE


def test_several_data_sets_make_one_list(data: Path, tmp_path: Path) -> None:
    write_fake_dataset(tmp_path / "more", [spoken("x/1", 6)])
    out = tmp_path / "offsets.csv"
    find_offsets([tmp_path / "more", data], out, expert(), splits=["train", "val"])
    found = rows(out)
    assert len(found) == 15 and found["x/1"]["video_late"] == "6"
    write_fake_dataset(tmp_path / "again", [spoken("a/00003", 6)])
    with pytest.raises(
        BenchError, match=r"a/00003 is in .*fake.* and in .*again.*: the list could not distinguish"
    ):
        find_offsets([data, tmp_path / "again"], tmp_path / "none.csv", expert())
    assert not (tmp_path / "none.csv").exists()


def test_an_expert_of_another_view_is_refused_by_whom_it_is_named_to(tmp_path: Path) -> None:
    load_config("sync-expert", "landmarks", [], [], tmp_path).save(tmp_path)
    with pytest.raises(BenchError, match="uses the view landmarks, bench offsets uses face96: name another"):
        find_expert(tmp_path, "bench offsets")


def test_mistakes_are_one_line_and_leave_nothing(bench_: Command, data: Path, tmp_path: Path) -> None:
    words = ("offsets", "--data", data, "--sync-expert", "expert", "--split", "val")
    Path("there.csv").write_text("mine")
    said = bench_(*words, "--out", "there.csv", code=1)
    assert said == ("error: there.csv exists already: replace it with --overwrite, name another with --out\n")
    assert Path("there.csv").read_text() == "mine"
    bench_(*words, "--out", "there.csv", "--overwrite")
    assert list(rows(Path("there.csv"))) == ["v/1"]
    said = bench_(*words, "--out", "no/such/folder.csv", code=1)
    assert "no/such/folder.csv cannot be written: No such file or directory" in said
    said = bench_(*words, code=1)
    assert said == "error: name the CSV to write with --out\n"
    said = bench_(*words, "--out", "x.csv", "--sync-cca", "r", code=1)
    assert said == "error: --sync-cca and --sync-expert are two judges: name one\n"
    said = bench_("offsets", "--data", data, "--data", data, "--out", "x.csv", "--correct", "new", code=1)
    assert said == "error: --correct takes one data set at a time: give one --data\n"
    said = bench_(*words, "--out", "x.csv", "--correct", data, code=1)
    assert "which stays as it is: name another folder with --correct" in said and not Path("x.csv").exists()
    said = bench_("offsets", "--data", data, "--list", "there.csv", "--correct", "there.csv", code=1)
    assert "there.csv is a file; name another place" in said
    said = bench_("offsets", "--data", data, "--list", "x.csv", code=1)
    assert "--list is a list that was written before, for --correct" in said
    fake_dataset(tmp_path / "plain", {"train": 1})
    said = bench_("offsets", "--data", "plain", "--sync-expert", "e", "--out", "x.csv", code=1)
    assert "plain lacks the view face96, which the expert needs; add it: bench prep --out plain" in said
    assert "--add-view face96" in said
    said = bench_("offsets", "--data", "plain", "--out", "x.csv", code=1)
    assert "1 clip is too few to fit a linear judge on" in said and "--sync-cca RUN" in said
    broken = spoken("a/1")
    ok, small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    assert ok
    broken.images["face96"][3] = small.tobytes()
    write_fake_dataset(tmp_path / "broken", [broken])
    said = bench_("offsets", "--data", "broken", "--sync-expert", "e", "--out", "x.csv", code=1)
    assert "clip a/1: a picture of 8x8, not 96x96; check it: bench inspect broken --verify" in said
    assert not [path for path in tmp_path.iterdir() if "x.csv" in path.name]


# Judges that are fitted on the clips themselves ---------------------------------------------------------------------

#: What the bands of mel do with each of two movements of the lips.
_BANDS = np.random.default_rng(7).normal(0, 0.5, (2, 80))


def talking(clip_id: str, late: int = 0, *, sound: str = "", frames: int = 150, still: bool = False) -> Clip:
    """A clip whose lips move as its sound does ``late`` frames earlier; ``sound``: it is that of another clip."""
    clip = fake_clip(clip_id, frames, views=("box128",))

    def movement(name: str) -> np.ndarray:
        noise = np.random.default_rng(list(name.encode())).normal(0, 1, (frames + 44, 2))
        return (noise[:-4] + noise[1:-3] + noise[2:-2] + noise[3:-1] + noise[4:]) / np.sqrt(5)

    if clip.mel is None:
        raise AssertionError
    # The head does not move, so that all that moves is known.
    clip.landmarks[:] = clip.landmarks[:1]
    if not still:
        lips = 3 * movement(clip_id)[20 : 20 + frames]
        clip.landmarks[:, LIPS, 0] += lips[:, :1] * np.sign(np.arange(40) % 20 - 9.5)
        clip.landmarks[:, LIPS, 1] += lips[:, 1:] * np.sign(np.arange(40) - 19.5)
    heard = movement(sound or clip_id)[(np.arange(len(clip.mel)) / 3.2).astype(int) + late + 20]
    clip.mel = np.clip(1 + heard @ _BANDS, -4, 4).astype(np.float32)
    return clip


LATE = {"p1/0": 5, "p3/1": -4, "p6/0": 2, "p8/1": -7}
OTHER_SOUND = {"p2/0": "elsewhere", "p9/1": "somewhere"}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve persons with two clips each: four are off, two have other sound, one is still, one silent."""
    folder = tmp_path_factory.mktemp("people") / "data"
    clips = []
    for person in range(12):
        for number in range(2):
            name = f"p{person}/{number}"
            sound = OTHER_SOUND.get(name, "")
            clips.append(talking(name, LATE.get(name, 0), sound=sound, still=name == "p4/0"))
    silent = talking("p5/2")
    assert silent.mel is not None
    silent.mel[:] = -4
    write_fake_dataset(folder, [*clips, silent], clips_per_shard=10)
    return folder


@pytest.fixture(scope="module")
def fitted(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of judges that were fitted on these people."""
    out = tmp_path_factory.mktemp("list") / "offsets.csv"
    find_offsets([people], out)
    return out


def test_judges_fitted_on_the_clips_find_what_is_wrong_with_them(fitted: Path) -> None:
    found = rows(fitted)
    offsets = {clip: int(row["video_late"]) for clip, row in found.items() if row["video_late"]}
    assert {clip: late for clip, late in offsets.items() if late} == LATE
    assert {clip for clip, row in found.items() if row["verdict"] == OTHER} == OTHER_SOUND.keys()
    undecidable = {clip: row["reason"] for clip, row in found.items() if row["verdict"] == UNDECIDABLE}
    assert undecidable.keys() == {"p4/0", "p5/2"} and undecidable["p4/0"] == "the lips do not move"
    assert len(offsets) == 21 and set(read_clips(fitted)) == offsets.keys() - LATE.keys()
    # Five groups, each judged by its own fit.
    judges = {clip: row["judge"] for clip, row in found.items()}
    assert len(set(judges.values())) == 5 and all(name.startswith("sync-cca:") for name in judges.values())
    assert all(judges[f"p{person}/0"] == judges[f"p{person}/1"] for person in range(12))


def test_rounds_move_clips_that_are_off_and_leave_other_sound_out(people: Path) -> None:
    found = places([people])
    once = cross_fit(found, Rule(), rounds=1)
    whole = cross_fit(found, Rule(), rounds=3)
    assert len(once.rounds) == 1 and once.rounds[0] == whole.rounds[0]
    first, second = whole.rounds[:2]
    assert (first.shifted, first.left_out) == (0, 0) and (second.shifted, second.left_out) == (4, 2)
    assert first.fitted - second.fitted == 2 and second.canonical > first.canonical
    assert len(whole.rounds) == 2, "the second round changes nothing, so there is no third"
    assert whole.by == "persons" and whole.groups == 5


def test_a_clip_is_judged_by_a_fit_on_other_persons(tmp_path: Path) -> None:
    """Whatever sound it has: only the judges of others change with it."""
    clips = [talking(f"p{person}/{number}") for person in range(4) for number in range(2)]
    write_fake_dataset(tmp_path / "one", clips)
    write_fake_dataset(tmp_path / "two", [talking("p0/0", sound="elsewhere"), *clips[1:]])
    one, two = (
        {f.place.clip_id: f.judge for f in cross_fit(places([tmp_path / name]), Rule(), rounds=1).judged}
        for name in ("one", "two")
    )
    assert {clip for clip in one if one[clip] == two[clip]} == {"p0/0", "p0/1"}


def test_few_persons_are_divided_by_clips(people: Path, tmp_path: Path) -> None:
    few = [place for place in places([people]) if place.person in ("fake/p0", "fake/p7")]
    found = cross_fit(few, Rule(), rounds=1)
    assert found.by == "clips" and found.groups == 4
    with pytest.raises(BenchError, match="2 clips are too few to fit a linear judge on"):
        cross_fit(few[:2], Rule())
    write_fake_dataset(
        tmp_path / "silent", [replace(talking(f"p{i}/0"), mel=None, audio=None) for i in range(4)]
    )
    with pytest.raises(BenchError, match="no clip has a face and sound"):
        cross_fit(places([tmp_path / "silent"]), Rule())


@pytest.mark.parametrize("late", [-3, 0, 4])
def test_lips_and_sound_are_moved_together(late: int) -> None:
    landmarks = np.arange(40.0)[:, None, None].repeat(3, axis=2)
    mel = np.arange(129.0)[:, None]
    seen, heard = moved(landmarks, mel, late)
    assert len(seen) == 40 - abs(late)
    # Column c of mel is heard at frame c / 3.2.
    first = heard[0, 0] / 3.2
    assert abs((seen[0, 0, 0] - late) - first) < 0.2 and len(heard) >= 3.2 * len(seen)


def cca(people: Path) -> ByCca:
    stage = cross_fitting._stage()
    sums = []
    clips = [clip for clip in read(people) if clip.clip_id not in {*LATE, *OTHER_SOUND, "p4/0", "p5/2"}]
    for number in (0, 1):
        each = [FitClip(c.clip_id, c.clip_id, c.landmarks, c.mel) for c in clips if c.mel is not None]
        sums = [stage.sums(number, clip) for clip in each]
        whole = {name: sum(one[name] for one in sums) for name in sums[0]}
        group = cross_fitting.Group(len(each), len(each), whole)
        if number == 0:
            stage.take(0, [group])
        else:
            cross_fitting._fit(stage, [group])
    judge = stage.networks["judge"]
    return ByCca((judge,), ("sync-cca:" + digest(judge),))  # type: ignore[arg-type]


def test_a_judge_that_was_fitted_on_other_clips_sees_a_common_offset(
    bench_: Command, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = cca(people)
    write_fake_dataset(Path("late").absolute(), [talking(f"q{i}/0", 6) for i in range(5)])
    manifest = file_sha256(Path("late") / MANIFEST)
    fit = JudgeFile(Path("run"), Path("run/judge.safetensors"), "abcdef0123456789")
    monkeypatch.setattr("bench.metrics.cca_file.find_cca", lambda run: fit)
    monkeypatch.setattr("bench.metrics.cca_file.load_cca", lambda file: judge.judges[0])
    words = ("offsets", "--data", "late", "--sync-cca", "run", "--workers", "1")
    said = bench_(*words, "--out", "late.csv")
    assert {row["video_late"] for row in rows(Path("late.csv")).values()} == {"6"}
    assert {row["judge"] for row in rows(Path("late.csv")).values()} == {"sync-cca:abcdef012345"}
    assert "100% of the clips with an offset have +6" in said and "drawn" not in said
    monkeypatch.setattr(
        "bench.metrics.cca_file.find_cca", lambda run: replace(fit, data=(("late", manifest),))
    )
    assert "which draws their offsets towards 0" in bench_(*words, "--out", "again.csv")
    # Fitted on these very clips, nothing tells them from clips in sync.
    said = bench_("offsets", "--data", "late", "--out", "own.csv", "--workers", "1")
    assert {row["video_late"] for row in rows(Path("own.csv")).values()} == {"0"}
    assert "an offset that all clips share cannot be seen so" in said


# Correcting ---------------------------------------------------------------------------------------------------------


def with_sound(clip: Clip) -> Clip:
    """Sound whose samples say to which frame they belong."""
    clip.audio = np.repeat(np.arange(clip.n_frames, dtype=np.int16), 640)
    return clip


def test_constant_offsets_are_corrected_on_request(bench_: Command, tmp_path: Path) -> None:
    clips = [with_sound(spoken(f"a/{i}", {1: 4, 2: -3}.get(i, 0))) for i in range(6)]
    write_fake_dataset(tmp_path / "data", [*clips, spoken("v/0", split="val")])
    words = ("offsets", "--data", "data", "--sync-expert", "e", "--out", "list.csv", "--correct", "new")
    said = bench_(*words, "--workers", "1")
    assert "new: needs up to " in said and "sound shifted in 2 clips; train with --data new --clips" in said
    new = {clip.clip_id: clip for clip in read(Path("new"))}
    assert {name: clip.n_frames for name, clip in new.items() if clip.n_frames != 60} == {
        "a/1": 56,
        "a/2": 57,
    }
    assert new["a/1"].audio is not None and new["a/2"].audio is not None
    assert new["a/1"].audio[0] == 0 and new["a/2"].audio[0] == 3
    # Where it was made anew, the sound is that of the samples.
    assert new["a/1"].mel is not None
    np.testing.assert_array_equal(new["a/1"].mel, melspectrogram(new["a/1"].audio))
    said_of = read_manifest(Path("new"))["corrected"]
    assert said_of["judges"] == ["sync-expert:0123456789ab"]
    assert said_of["list_sha256"] == file_sha256(Path("list.csv"))
    recorded = rows(Path("new", RECORD))
    assert {clip: row["video_late"] for clip, row in recorded.items()} == {"a/1": "4", "a/2": "-3"}
    listed = rows(Path("new/offsets.csv"))
    assert listed["a/1"]["verdict"] == "corrected" and listed["a/1"]["reason"] == "was +4"
    assert read_clips(Path("new/offsets.csv")) == {*new} and len(read_clips(Path("list.csv"))) == 5
    assert verify_folder(Path("new")) == 3
    bench_("inspect", "new", "--verify")
    training = ("train", "fake", "--data", "new", "--preset", "tiny", "--device", "cpu", "--stage", "colour")
    bench_(*training, "--clips", "new/offsets.csv", "--set", "colour.train.steps=1")

    # Too little of one clip remains.
    Path("far.csv").write_text(Path("list.csv").read_text().replace("a/1,train,4,", "a/1,train,59,"))
    said = bench_("offsets", "--data", "data", "--list", "far.csv", "--correct", "far", "--workers", "1")
    assert "sound shifted in 1 clips, 1 more are left out, since too little of them remained; train" in said

    # The list was checked by hand: one clip stays as it is. An interrupted command continues so, too.
    text = Path("list.csv").read_text().replace(",off,", ",in sync,", 1)
    Path("mine.csv").write_text(text)
    bench_("offsets", "--data", "data", "--list", "mine.csv", "--correct", "some", "--workers", "1")
    assert read_manifest(Path("some"))["corrected"]["clips"] == 1
    said = bench_("offsets", "--data", "data", "--list", "mine.csv", "--correct", "new", code=1)
    assert "new holds another data set, or was corrected by other shifts" in said
    said = bench_(*words, code=1)
    assert said.endswith("name another with --out, or correct by it: --list list.csv\n")


def test_what_cannot_be_corrected(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "offsets.csv"
    find_offsets([data], out, expert(), splits=["val"])
    with pytest.raises(
        BenchError, match=r"says of no clip of .* that it is off: there is nothing to correct"
    ):
        correct_offsets(data, out, tmp_path / "new")
    write_fake_dataset(tmp_path / "else", [spoken("z/1")])
    with pytest.raises(BenchError, match=r"names no clip of .*else: make the list again"):
        correct_offsets(tmp_path / "else", out, tmp_path / "new")
    with pytest.raises(BenchError, match=r"none\.csv is missing: make it"):
        read_offsets(tmp_path / "none.csv")
    (tmp_path / "old.csv").write_text("clip,split,offset,cosine,confidence,in_sync,reason\n")
    with pytest.raises(BenchError, match=r"old.csv has no column video_late: make the list again"):
        read_offsets(tmp_path / "old.csv")
    assert read_clips_of_an_earlier_version(tmp_path) == {"a/1"}
    twice = out.read_text() + out.read_text().splitlines()[1] + "\n"
    (tmp_path / "twice.csv").write_text(twice)
    with pytest.raises(BenchError, match=r"twice.csv, line 3: clip v/1 a second time: leave one line of it"):
        read_offsets(tmp_path / "twice.csv")
    out.write_text(out.read_text().replace(",0,", ",0.5,", 1))
    with pytest.raises(BenchError, match=r"line 2: clip 'v/1', video_late '0.5': write whole frames"):
        read_offsets(out)
    assert not (tmp_path / "new").exists()


def read_clips_of_an_earlier_version(folder: Path) -> frozenset[str]:
    text = "clip,split,offset,cosine,confidence,in_sync,reason\na/1,train,0,0.9,0.3,true,\na/2,train,4,0.9,0.3,false,\n"
    (folder / "earlier.csv").write_text(text)
    return read_clips(folder / "earlier.csv")


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
