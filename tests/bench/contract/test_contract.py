"""The contract from end to end: derive, train, generate, dub, eval and report with two fake methods."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import bench.generate.footage as footage_module
from bench.cli.app import app
from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.eval import evaluate
from bench.generate import GenerateOptions, derive, dub, generate
from bench.generate.adaptation import ADAPTED
from bench.report import Watcher, reproduce
from bench.report.tables import build_table
from bench.train import train
from bench.train.checkpoint import write_networks
from bench.train.run_set import RunSet
from prep.errors import PrepError
from prep.shards import MANIFEST, write_json
from prep.video_reading import frames, probe
from prep.video_writing import write_video
from tests.bench.contract import personal, portrait
from tests.bench.contract.personal import Personal
from tests.bench.fake_method import FakeMesh, numbered
from tests.prep.fakes import fake_clip, write_fake_dataset

TINY = ["runner.device=cpu", "runner.tensorboard=false", "runner.workers=0"]
#: Clips by split; ann is in every split, bob in one alone, cid has too few.
CLIPS = {
    "train": {"ann/a": 30, "ann/b": 26, "bob/a": 25, "bob/b": 24, "bob/c": 26, "bob/d": 27, "cid/a": 23},
    "val": {"ann/c": 25},
    "test": {"ann/d": 28, "ann/e": 24},
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.entries, "portrait", portrait.ENTRY)
    monkeypatch.setitem(METHODS.entries, "personal", personal.ENTRY)
    monkeypatch.setattr(footage_module, "create", lambda name, **options: FakeMesh())
    monkeypatch.setattr(Personal, "adaptations", 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A prepared data set with its source videos, each of one grey level."""
    clips = [fake_clip(name, n, split=split) for split, named in CLIPS.items() for name, n in named.items()]
    write_fake_dataset(tmp_path / "data", clips, clips_per_shard=3)
    for number, clip in enumerate(clips):
        path = tmp_path / "corpus" / clip.source
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = 60 + 15 * number
        write_video(path, [numbered(i, grey=grey) for i in range(clip.n_frames)], samples=clip.audio, crf=4)
    manifest = json.loads((tmp_path / "data" / MANIFEST).read_text())
    write_json(tmp_path / "data" / MANIFEST, {**manifest, "root": str(tmp_path / "corpus")})
    return tmp_path / "data"


@pytest.fixture
def preset(tmp_path: Path) -> str:
    (tmp_path / "preset.toml").write_text("")
    return str(tmp_path / "preset.toml")


def critic_run(folder: Path, weight: float) -> Path:
    """A run that holds the asset's network."""
    write_networks(
        folder, "critic", {"critic": {"weight": torch.tensor([[weight]]), "bias": torch.zeros(1)}}, "test"
    )
    return folder


def colours(video: Path) -> np.ndarray:
    """(T, 3) mean colour of each frame."""
    return np.array([frame.mean((0, 1)) for frame in frames(video)])


# A portrait: asset, derived columns, pose, a view for output ---------------------------------------------------


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    return [*TINY, f"critic={critic_run(tmp_path / 'critic', 0.5)}"]


@pytest.fixture
def portrait_run(data: Path, preset: str, words: list[str], tmp_path: Path) -> Path:
    derive("portrait", [data], preset=preset, overrides=words)
    train("portrait", [data], preset=preset, overrides=words, run=tmp_path / "portrait")
    return tmp_path / "portrait"


def test_training_waits_for_what_must_be_derived(
    data: Path, preset: str, words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(PrepError, match=r"has no derived columns 'ear': run `bench derive portrait --data"):
        train("portrait", [data], preset=preset, overrides=words, run=tmp_path / "run")
    with pytest.raises(BenchError, match=r"portrait needs .*nowhere|nowhere.*no checkpoint"):
        derive("portrait", [data], preset=preset, overrides=[*TINY, f"critic={tmp_path}/nowhere"])


def test_derived_columns_are_resumable_and_keyed_by_weights(
    data: Path, preset: str, words: list[str], tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    found, heard = derive(
        "portrait", [data], preset=preset, overrides=words, on_progress=lambda *step: steps.append(step)
    )
    assert (found.name, found.clips) == ("gaze", 9)
    assert found.failures == {"cid/a": "derive: gaze: it looks away"}
    assert (heard.name, heard.clips, heard.failures) == ("ear", 10, {})
    assert steps == [(name, n + 1, 5) for name in ("gaze", "ear") for n in range(5)]
    before = {path.name: path.read_bytes() for path in found.folder.iterdir()}
    next(path for path in found.folder.glob("train-*.parquet")).unlink()
    steps.clear()
    derive("portrait", [data], preset=preset, overrides=words, on_progress=lambda *step: steps.append(step))
    assert steps == [("gaze", 1, 1)]
    assert {path.name: path.read_bytes() for path in found.folder.iterdir()} == before
    other = [*TINY, f"critic={critic_run(tmp_path / 'other', 0.25)}"]
    again, same = derive("portrait", [data], preset=preset, overrides=other)
    # Loudness needs no weights, and stays.
    assert again.folder != found.folder and same.folder == heard.folder
    with pytest.raises(BenchError, match="ipl derives no columns"):
        derive("ipl", [data], preset="tiny")


def test_a_portrait_is_trained_on_what_was_derived(portrait_run: Path) -> None:
    record = json.loads((portrait_run / "provenance.json").read_text())
    assert any("critic" in name for name in record["weights"])
    assert {"derived columns ear", "derived columns gaze"} <= set(record["weights"])
    logs = "".join(path.read_text() for path in portrait_run.rglob("*.jsonl"))
    assert "identities" in logs
    # The clip of which nothing could be derived is left out, and said to be.
    assert "6 of 7 clips" in logs


def test_generation_reads_assets_derived_columns_and_poses(
    portrait_run: Path, data: Path, tmp_path: Path
) -> None:
    own = generate("portrait", portrait_run, data, tmp_path / "own")
    still = generate("portrait", portrait_run, data, tmp_path / "still", GenerateOptions(pose="still"))
    options = GenerateOptions(protocol="dubbing", pose="driver")
    driven = generate("portrait", portrait_run, data, tmp_path / "driven", options)
    assert not own.failures and (own.output, own.pose, own.made) == ("box128", "footage", 2)
    assert list(own.assets) == [f"{tmp_path / 'critic'} (critic)"] and list(own.derived) == ["gaze", "ear"]
    assert (still.pose, driven.pose) == ("still", "driver")
    size = probe(tmp_path / "own/ann/d.mp4")
    assert (size.width, size.height, size.n_frames) == (128, 128, 28)
    with_pose, without = (colours(tmp_path / name / "ann/d.mp4") for name in ("own", "still"))
    assert (with_pose[:, 1] > 60).all() and (without[:, 1] < 12).all()
    # The other clip drives both: as many frames as its sound, its pose, this clip's tone.
    other = colours(tmp_path / "driven/ann/d.mp4")
    assert len(other) == 24 and abs(other[:, 0].mean() - with_pose[:, 0].mean()) < 6
    header = (tmp_path / "driven/pairs.csv").read_text().splitlines()
    assert header[0] == "name,video,audio,pose" and header[1] == "ann/d,ann/d,ann/e,ann/e"
    assert (tmp_path / "own/pairs.csv").read_text().startswith("name,video,audio\n")
    with pytest.raises(BenchError, match=r"another generation \(other pose\)"):
        generate("portrait", portrait_run, data, tmp_path / "own", GenerateOptions(pose="still"))


def test_what_was_not_derived_is_computed_by_the_same_function(
    portrait_run: Path, data: Path, tmp_path: Path
) -> None:
    generate("portrait", portrait_run, data, tmp_path / "stored")
    (data / "derived").rename(tmp_path / "away")
    generate("portrait", portrait_run, data, tmp_path / "computed")
    for name in ("ann/d.mp4", "ann/e.mp4"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "computed" / name).read_bytes()


def test_a_clip_that_could_not_be_derived_is_a_failure(
    portrait_run: Path, data: Path, tmp_path: Path
) -> None:
    done = generate("portrait", portrait_run, data, tmp_path / "out", GenerateOptions(split="train"))
    assert done.made == 6 and list(done.failures) == ["cid/a"]
    assert "could not be derived" in done.failures["cid/a"]


def test_a_portrait_is_scored_in_its_view_and_reported(
    portrait_run: Path, data: Path, tmp_path: Path
) -> None:
    generate("portrait", portrait_run, data, tmp_path / "videos")
    result = evaluate(
        {"portrait": tmp_path / "videos"},
        data=data,
        metrics=["psnr.frame"],
        regions=["full"],
        with_trivial=True,
        device="cpu",
        workers=1,
        out=tmp_path / "result",
    )
    figures = {m.method: m.figures[0] for m in result.methods}
    assert figures["portrait"].scored == figures["still"].scored == 2
    assert figures["portrait"].value is not None and 0 < figures["portrait"].value < 40
    assert result.output == "box128"
    (block,) = build_table("default", [result], "full").blocks
    text = "\n".join(block.notes)
    assert "box128" in text


def test_a_portrait_of_a_film_of_another_rate_has_25_frames_a_second(
    portrait_run: Path, data: Path, tmp_path: Path
) -> None:
    corpus, fast = data.parent / "corpus", tmp_path / "fast.mp4"
    write_video(fast, frames(corpus / "ann/d.mp4"), fps=50)
    out = tmp_path / "out.mp4"
    done = dub("portrait", portrait_run, fast, corpus / "ann/e.mp4", out, device="cpu")
    assert (done.fps, done.source_fps, done.width, done.height) == (25, 50, 128, 128)
    assert probe(out).source_fps == 25 and done.frames == done.generated == probe(out).n_frames


@pytest.mark.parametrize("pose", ["footage", "still", "video"])
def test_a_portrait_is_dubbed(portrait_run: Path, data: Path, tmp_path: Path, pose: str) -> None:
    corpus = data.parent / "corpus"
    posing: Any = corpus / "ann/e.mp4" if pose == "video" else pose
    out = tmp_path / "out.mp4"
    done = dub(
        "portrait",
        portrait_run,
        corpus / "ann/d.mp4",
        corpus / "ann/e.mp4",
        out,
        pose=posing,
        device="cpu",
        sheet=tmp_path / "sheet.jpg",
    )
    assert (done.frames, done.width, done.height) == (probe(out).n_frames, 128, 128)
    seen = colours(out)
    # The tone is derived from the video itself; where it was derived from the data set it is the same.
    assert ((seen[:, 1] < 12).all()) == (pose == "still")
    assert (tmp_path / "sheet.jpg").stat().st_size > 1000


def test_the_command_derives_and_says_what_is_missing(data: Path, preset: str, words: list[str]) -> None:
    sets = [word for text in words for word in ("--set", text)]
    call = ["derive", "portrait", "--data", str(data), "--preset", preset, "--device", "cpu", *sets]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 3, shown.exception
    assert "gaze of 9 clips" in shown.stdout.replace("\n", "")
    assert "missing: 1 (cid/a, for one): derive: gaze: it looks away" in shown.stderr
    assert CliRunner().invoke(app, [*call, "--allow-partial"]).exit_code == 0


def test_a_missing_source_is_no_failure_of_the_clip(
    data: Path, preset: str, words: list[str], tmp_path: Path
) -> None:
    """With the right folder the same command derives the clip."""
    (data.parent / "corpus").rename(tmp_path / "moved")
    with pytest.raises(
        BenchError, match="the source video is missing: give the folder of the corpus with --root"
    ):
        derive("portrait", [data], preset=preset, overrides=words)
    found, _ = derive("portrait", [data], preset=preset, overrides=words, root=tmp_path / "moved")
    assert found.clips == 9 and list(found.failures) == ["cid/a"]


def test_a_run_brings_its_own_options(portrait_run: Path, data: Path, preset: str) -> None:
    found, _ = derive("portrait", [data], run=portrait_run)
    assert found.clips == 9
    with pytest.raises(BenchError, match="has its own configuration: leave --preset and --set out"):
        derive("portrait", [data], run=portrait_run, overrides=["gain=2"])


# One person: data at construction, a run set, adaptation -------------------------------------------------------


@pytest.fixture
def run_set(data: Path, preset: str, tmp_path: Path) -> Path:
    train("personal", [data], preset=preset, overrides=TINY, per="speaker", run=tmp_path / "set")
    return tmp_path / "set"


def test_one_run_for_several_persons_is_refused_by_the_method(
    data: Path, preset: str, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match="it learns one person, not 3: train it with --per speaker"):
        train("personal", [data], preset=preset, overrides=TINY, run=tmp_path / "run")


def test_a_run_set_holds_out_clips_of_every_person(run_set: Path) -> None:
    found = RunSet.load(run_set)
    assert found is not None
    # Bob's clips lie in one split: the last in time are held out.
    assert found.held_out() == {"ann": ("ann/d", "ann/e"), "bob": ("bob/d",)}
    assert list(found.skipped) == ["cid"]


def test_a_run_set_generates_and_is_scored_as_one_method(run_set: Path, data: Path, tmp_path: Path) -> None:
    done = generate("personal", run_set, data, tmp_path / "videos")
    assert not done.failures and (done.per, done.adapted, done.made) == ("speaker", True, 3)
    assert done.clips_list == ["ann/d", "ann/e", "bob/d"]
    assert set(done.weights) == {"ann/net", "bob/net"}
    result = evaluate(
        {"personal": tmp_path / "videos"},
        data=data,
        metrics=["psnr.frame"],
        regions=["full"],
        device="cpu",
        workers=1,
        out=tmp_path / "result",
    )
    (method,) = result.methods
    assert method.figures[0].scored == method.figures[0].asked == 3
    blocks = build_table("default", [result], "full").blocks
    assert "personal" in [row.label for block in blocks for row in block.rows]


@pytest.mark.parametrize("speaker", ["ann", "bob"])
def test_a_run_without_a_checkpoint_is_named_before_work(
    run_set: Path, data: Path, tmp_path: Path, speaker: str
) -> None:
    """As after a training that was killed before its first checkpoint."""
    shutil.rmtree(run_set / speaker / "personal" / "checkpoints")
    with pytest.raises(BenchError) as caught:
        generate("personal", run_set, data, tmp_path / "videos")
    command = f"bench train personal --per speaker --run {run_set} --resume --speaker {speaker}"
    assert str(caught.value) == (
        f"{run_set}: the run of {speaker} has no checkpoint of the stage personal yet: {command}"
    )
    assert not (tmp_path / "videos").exists()
    train("personal", run=run_set, per="speaker", resume=True, speakers=[speaker])
    assert generate("personal", run_set, data, tmp_path / "videos").made == 3


def test_persons_without_a_run_are_named(data: Path, preset: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    train("personal", [data], preset=preset, overrides=TINY, per="speaker", run=folder, speakers=["bob"])
    call = ["generate", "personal", "--run", folder, "--data", data, "--out", tmp_path / "videos"]
    shown = CliRunner().invoke(app, [*map(str, call), "--device", "cpu"])
    assert shown.exit_code == 0, shown.exception
    command = f"bench train personal --per speaker --run {folder} --resume --speaker ann"
    assert f"{folder}: no videos of ann, who have no run yet: {command}" in shown.stderr
    assert [path.name for path in (tmp_path / "videos").rglob("*.mp4")] == ["d.mp4"]


def test_a_run_set_and_a_run_share_a_table(
    run_set: Path, portrait_run: Path, data: Path, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Notes(Watcher):
        def note(self, text: str) -> None:
            notes.append(text)

    runs = {"one": portrait_run, "set": run_set}
    out = tmp_path / "out"
    made = reproduce(
        "lipformer-table3", data, out, runs=runs, limit=2, device="cpu", allow_partial=True, watcher=Notes()
    )
    assert (out / "clips.txt").read_text() == "ann/d\nann/e\nbob/d\n"
    for name, folder in made.videos.items():
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.mp4"))
        assert found == ["ann/d.mp4", "ann/e.mp4"], name
    figures = [made.result.figure(name, "psnr.frame", "face") for name in runs]
    assert [figure and (figure.scored, figure.asked) for figure in figures] == [(2, 2), (2, 2)]
    assert [note for note in notes if "trained" in note] == [
        f"one ({portrait_run}) was trained on {data}, and 1 of the 3 clips are in its training split "
        "(one of them: bob/d): its figures are not those of unseen clips"
    ]


def test_run_sets_with_different_clips_share_no_table(
    run_set: Path, data: Path, preset: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    train("personal", [data], preset=preset, overrides=TINY, per="speaker", run=other, speakers=["bob"])
    out = tmp_path / "out"
    with pytest.raises(BenchError, match=r"a and b are run sets that held out different clips .*: ann/d"):
        reproduce("lipformer-table3", data, out, runs={"a": run_set, "b": other})
    assert not out.exists()


def test_a_run_set_refuses_clips_that_it_was_trained_on(run_set: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_text("bob/a\nbob/d\n")
    call = ["generate", "personal", "--run", run_set, "--data", data, "--out", tmp_path / "videos"]
    shown = CliRunner().invoke(app, [*map(str, call), "--clips", str(tmp_path / "clips.txt")])
    assert str(shown.exception) == (
        f"{run_set} generates only the clips that it held out, not bob/a: take that out of the list of clips"
    )
    options = GenerateOptions(clips=("bob/d",))
    assert generate("personal", run_set, data, tmp_path / "videos", options).clips_list == ["bob/d"]


def test_fine_tuning_changes_the_videos_and_nothing_else(run_set: Path, data: Path, tmp_path: Path) -> None:
    before = {path: sha256(path.read_bytes()).hexdigest() for path in run_set.rglob("*.safetensors")}
    generate("personal", run_set, data, tmp_path / "adapted")
    # Ann has two clips and is learnt once; bob once.
    assert Personal.adaptations == 2
    kept = sorted(path.parent.parent.name for path in run_set.rglob(f"{ADAPTED}/*.safetensors"))
    assert kept == ["ann", "bob"]
    assert {path: sha256(path.read_bytes()).hexdigest() for path in before} == before
    generate("personal", run_set, data, tmp_path / "again")
    assert Personal.adaptations == 2
    for name in ("ann/d.mp4", "ann/e.mp4", "bob/d.mp4"):
        assert (tmp_path / "adapted" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_damaged_adapted_weights_are_made_again(run_set: Path, data: Path, tmp_path: Path) -> None:
    generate("personal", run_set, data, tmp_path / "first")
    for path in run_set.rglob(f"{ADAPTED}/*.safetensors"):
        path.write_bytes(path.read_bytes()[:20])
    generate("personal", run_set, data, tmp_path / "second")
    assert Personal.adaptations == 4
    assert (tmp_path / "first/ann/d.mp4").read_bytes() == (tmp_path / "second/ann/d.mp4").read_bytes()


def test_a_transfer_takes_the_clips_that_are_held_out(run_set: Path, data: Path, tmp_path: Path) -> None:
    done = generate("personal", run_set, data, tmp_path / "out", GenerateOptions(protocol="transfer"))
    assert done.made == 1 and not done.failures and done.driver in {"ann/d", "ann/e", "bob/d"}


def test_the_trained_weights_are_back_after_a_person(run_set: Path, data: Path, tmp_path: Path) -> None:
    """With clips of two persons in turn each has its own weights, whichever came first."""
    generate("personal", run_set, data, tmp_path / "all")
    options = GenerateOptions(limit=1, protocol="reconstruction")
    generate("personal", run_set, data, tmp_path / "one", options)
    assert (tmp_path / "all/ann/d.mp4").read_bytes() == (tmp_path / "one/ann/d.mp4").read_bytes()


def test_a_loss_that_is_not_finite_ends_fine_tuning(data: Path, preset: str, tmp_path: Path) -> None:
    words = [*TINY, "explode=true"]
    train("personal", [data], preset=preset, overrides=words, per="speaker", run=tmp_path / "set")
    with pytest.raises(BenchError, match=r"fine-tuning on .* failed: the loss of net is nan"):
        generate("personal", tmp_path / "set", data, tmp_path / "videos")
    assert not list((tmp_path / "set").rglob(f"{ADAPTED}/*"))


def test_dubbing_needs_to_know_whose_run(run_set: Path, data: Path, tmp_path: Path) -> None:
    corpus = data.parent / "corpus"
    call: Any = ("personal", run_set, corpus / "bob/d.mp4", corpus / "ann/e.mp4", tmp_path / "out.mp4")
    with pytest.raises(BenchError, match=r"has one run per person: choose one with --speaker \(ann, bob\)"):
        dub(*call, device="cpu")
    done = dub(*call, device="cpu", speaker="bob")
    assert done.frames == 24 and Personal.adaptations == 1
    with pytest.raises(BenchError, match="with a still head, only with the pose of the footage"):
        dub(*call, device="cpu", speaker="bob", pose="still")
