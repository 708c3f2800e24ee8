"""``bench train`` as a user types it, with a method that trains in a moment."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer.main
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

import bench.cli
from bench.cli.app import app
from bench.common.errors import BenchError
from bench.common.methods import METHODS
from bench.train.assets import load_assets
from bench.train.checkpoint import best_files, held_out_figures, write_networks
from bench.train.config import RunConfig, load_config
from bench.train.inputs import build_method
from bench.train.log import read_log
from bench.weights.digests import file_sha256
from bench.weights.store import Entry, WeightStore
from models.base import Asset, Batch, Progress, Update
from prep.commands import prep_command
from prep.shards import MANIFEST, Failure, write_json
from tests.bench.fake.method import ColourStage, Fake
from tests.prep.fakes import fake_clip, fake_dataset, write_fake_dataset

ENTRY = "tests.bench.fake.method:Fake"
Command = Callable[..., str]


class Other(Fake):
    name = "other"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "fake"
    fake_dataset(folder, {"train": 5, "val": 3}, n_frames=21)
    return folder


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setitem(METHODS.entries, "fake", ENTRY)
    monkeypatch.chdir(tmp_path)
    yield
    # A process has one precision, which the first run decides.
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def bench_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process; returns what it says, errors last."""

    def run(*words: str | Path, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["bench", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            bench.cli.main()
        said = capsys.readouterr()
        assert ended.value.code == code, said.out + said.err
        return said.out + said.err

    return run


def losses(run: Path, stage: str) -> list[tuple[int, float]]:
    lines = read_log(run / stage / "log.jsonl")
    return [(line["step"], line["logs"]["L_colour"]) for line in lines if line["kind"] == "step"]


def test_a_method_is_trained(bench_: Command, data: Path) -> None:
    said = bench_("train", "fake", "--data", data, "--preset", "tiny", "--device", "cpu")
    run = Path("runs/fake")
    assert "colour: from step 0 of 6" in said and "colour: 6 steps" in said and "shade: 4 steps" in said
    assert "runs/fake: trained" in said
    assert [step for step, _ in losses(run, "colour")] == [2, 4, 6]
    assert losses(run, "colour")[-1][1] < losses(run, "colour")[0][1]
    assert (run / "colour" / "samples" / "step-00000006.jpg").is_file()
    assert not (run / "colour" / "tensorboard").exists()
    config = RunConfig.load(run)
    assert (config.preset, config.data, config.runner.device) == ("tiny", (data,), "cpu")
    recorded = json.loads((run / "provenance.json").read_text())
    assert recorded["data"] == [
        {"path": str(data), "name": "fake", "manifest_sha256": file_sha256(data / MANIFEST)}
    ]
    (start,) = recorded["starts"]
    assert start["command"] == shlex.join(sys.argv)
    assert start["device"] == "cpu" and start["packages"]["torch"] == torch.__version__.partition("+")[0]


def test_options_reach_the_run(bench_: Command, data: Path) -> None:
    bench_(
        *("train", "fake", "--data", data, "--preset", "tiny", "--run", "mine", "--stage", "shade"),
        *("--set", "shade.train.steps=1", "--set", "runner.tensorboard=true", "--precision", "bf16"),
    )
    config = RunConfig.load(Path("mine"))
    assert config.runner.precision == "bf16"
    names = ["config.json", "data.json", "provenance.json", "shade"]
    assert sorted(path.name for path in Path("mine").iterdir()) == names
    assert any(Path("mine/shade/tensorboard").iterdir())
    assert [step for step, _ in losses(Path("mine"), "shade")] == [1]


def test_a_stopped_run_goes_on_where_it_was(
    bench_: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (
        "train",
        "fake",
        "--data",
        data,
        "--preset",
        "tiny",
        "--stage",
        "colour",
        "--set",
        "runner.log_every=1",
    )
    bench_(*words, "--run", "whole")
    calm = ColourStage.updates

    def updates(self: ColourStage, batch: Batch, progress: Progress) -> Iterator[Update]:
        yield from calm(self, batch, progress)
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ColourStage, "updates", updates)
    assert "cut: stopped; continue with --resume" in bench_(*words, "--run", "cut", code=143)
    monkeypatch.setattr(ColourStage, "updates", calm)
    said = bench_("train", "fake", "--run", "cut", "--resume", "--stage", "colour")
    assert "colour: from step 4 of 6" in said
    assert losses(Path("cut"), "colour") == losses(Path("whole"), "colour")
    files = [best_files(Path(run), "colour")["colour"].read_bytes() for run in ("cut", "whole")]
    assert files[0] == files[1]
    recorded = json.loads(Path("cut/provenance.json").read_text())
    assert len(recorded["starts"]) == 2


def test_what_may_change_changes_and_is_recorded(bench_: Command, data: Path) -> None:
    bench_("train", "fake", "--data", data, "--preset", "tiny", "--stage", "colour")
    bench_("train", "fake", "--resume", "--set", "shade.train.steps=2", "--set", "runner.log_every=1")
    assert [step for step, _ in losses(Path("runs/fake"), "shade")] == [1, 2]
    (_, start) = json.loads(Path("runs/fake/provenance.json").read_text())["starts"]
    assert start["changed"] == {"shade.train.steps": [4, 2], "runner.log_every": [2, 1]}
    assert RunConfig.load(Path("runs/fake")).runner.log_every == 1


def test_a_stage_that_has_not_begun_may_be_another(bench_: Command, data: Path) -> None:
    bench_("train", "fake", "--data", data, "--preset", "tiny", "--stage", "colour")
    wanted = ("--set", "shade.train.batch_size=2", "--set", "shade.train.steps=1")
    bench_("train", "fake", "--resume", "--stage", "shade", *wanted)
    stored = json.loads(Path("runs/fake/config.json").read_bytes())
    assert stored["method_config"]["shade"]["train"]["batch_size"] == 2
    said = bench_("train", "fake", "--resume", "--set", "shade.train.batch_size=3", code=1)
    assert "was begun with shade.train.batch_size=2, not 3" in said


def test_a_run_that_goes_on_is_the_run_that_began(
    bench_: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "fake", "--data", data, "--preset", "tiny")
    bench_(*words, "--set", "colour.train.steps=1", "--set", "shade.train.steps=1")
    kept = Path("runs/fake/config.json").read_bytes()
    assert "runs/fake exists already: continue it with --resume, or name another with --run" in bench_(
        *words, code=1
    )
    said = bench_("train", "fake", "--resume", "--set", "shade.hidden=4", code=1)
    assert "was begun with shade.hidden=8, not 4" in said
    said = bench_("train", "fake", "--resume", "--preset", "paper", code=1)
    assert "was begun with colour.train.batch_size=2, not 4" in said
    other = tmp_path / "other"
    fake_dataset(other, {"train": 4, "val": 2}, n_frames=21)
    said = bench_("train", "fake", "--resume", "--data", other, code=1)
    assert f"{other} is not the data set that runs/fake was begun with ({data})" in said
    said = bench_("train", "fake", "--resume", "--data", data, "--data", data, code=1)
    assert "was begun with 1 data sets, not 2" in said
    assert Path("runs/fake/config.json").read_bytes() == kept
    stored = json.loads(kept)
    Path("runs/fake/config.json").write_text(json.dumps({**stored, "method": "other"}))
    monkeypatch.setitem(METHODS.entries, "other", f"{__name__}:Other")
    assert "is a run of other, not of fake" in bench_("train", "fake", "--resume", code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["faek", "--data", "x"], "no method is called faek; did you mean fake?"),
        (["fake"], "nothing to train on: name a prepared data set with --data"),
        (["fake", "--data", "no-such"], "no-such is not a prepared data set"),
        (["fake", "--data", "DATA", "--stage", "shape"], "unknown stage 'shape': did you mean shade?"),
        (["fake", "--data", "DATA", "--set", "colour.hiden=1"], "did you mean colour.hidden?"),
        (
            ["fake", "--data", "DATA", "--set", "colour.hidden=2"],
            "fake: colour.hidden and shade.hidden differ",
        ),
        (
            ["fake", "--data", "DATA", "--precision", "fp8"],
            "runner.precision=fp8: must be 'auto', 'no', 'bf16' or 'fp16'",
        ),
        (["fake", "--run", "none", "--resume"], "none is not a training run"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    bench_: Command, data: Path, words: list[str], message: str
) -> None:
    said = bench_("train", *[str(data) if word == "DATA" else word for word in words], code=1)
    assert said.startswith("error: ") and len(said.strip().splitlines()) == 1
    assert message in said
    assert not Path("runs").exists() and not Path("none").exists()


def test_a_run_for_each_person(bench_: Command, tmp_path: Path) -> None:
    clips = [replace(fake_clip(f"{who}/{i}", 8), speaker=who) for who in ("anna", "bert") for i in range(4)]
    write_fake_dataset(tmp_path / "people", [*clips, replace(fake_clip("carl/1", 8), speaker="carl")])
    words = ("train", "fake", "--data", "people", "--preset", "tiny", "--per", "speaker", "--run", "set")
    said = bench_(*words, "--speaker", "bert", "--stage", "colour")
    assert "carl is skipped: clips: 1, and 3 are needed" in said and "bert: set/bert: trained" in said
    assert said.endswith("set: trained\n") and not Path("set/anna").exists()
    said = bench_("train", "fake", "--per", "speaker", "--run", "set", "--resume")
    assert "anna (1 of 2): set/anna" in said and "anna: set/anna: trained" in said
    assert [step for step, _ in losses(Path("set/bert"), "shade")] == [2, 4]
    said = bench_("train", "fake", "--per", "speakers", code=1)
    assert "unknown --per 'speakers': did you mean speaker?" in said


# Data ---------------------------------------------------------------------------------------------------------

OPTIONS = {
    "source": "lrs2",
    "name": "lrs2",
    "detector": "facemesh",
    "views": ["box128"],
    "encoding": "jpeg",
    "quality": 95,
    "tracking": True,
    "fan": False,
    "mel_padding": "reflect",
    "min_detected": 0.5,
    "clip_seconds": 10.0,
    "clips_per_shard": None,
    "clips": 8,
}


def prepared(folder: Path, splits: dict[str, int], **changes: object) -> Path:
    fake_dataset(folder, splits, n_frames=21)
    manifest = json.loads((folder / MANIFEST).read_text())
    write_json(folder / MANIFEST, {**manifest, "root": "/data/LRS 2", "options": OPTIONS, **changes})
    return folder


@pytest.mark.parametrize(
    ("splits", "changes", "words", "message"),
    [
        (
            {"train": 2, "val": 1},
            {},
            ["--set", "shade.view=face96"],
            "lrs2 lacks the view face96, which stage shade needs; add it: bench prep --out lrs2 --add-view face96",
        ),
        (
            {"train": 2, "val": 1},
            {"complete": False},
            [],
            "lrs2 is not complete; finish it: bench prep lrs2 '/data/LRS 2' --out lrs2 --views box128 --tracking",
        ),
        (
            {"train": 2},
            {},
            [],
            "lrs2: no split val, which training needs; hold some speakers out: bench prep lrs2 '/data/LRS 2' "
            "--out lrs2-split --views box128 --tracking --mel-padding reflect --holdout 10%",
        ),
        (
            {"val": 2},
            {},
            [],
            "lrs2: no split train, which training needs; hold some speakers out: bench prep",
        ),
        (
            {"train": 2},
            {"listing": {"split": "train", "limit": 9, "sound_root": "/data/wav"}},
            [],
            "no split val, which training needs; prepare all splits: bench prep lrs2 '/data/LRS 2' --out lrs2-split "
            "--views box128 --tracking --mel-padding reflect --sound-root /data/wav",
        ),
        (
            {"train": 2},
            {"listing": {"holdout": {"share": 0.2, "seed": 3}}},
            [],
            "no split val, which training needs; none of the clips held out could be used, hold out others: bench prep "
            "lrs2 '/data/LRS 2' --out lrs2-seed4 --views box128 --tracking --mel-padding reflect --holdout 20% "
            "--seed 4",
        ),
        (
            {"train": 2, "val": 1},
            {
                "complete": False,
                "listing": {"holdout": {"share": 0.2, "seed": 3}, "split": "val", "limit": 9},
            },
            [],
            "finish it: bench prep lrs2 '/data/LRS 2' --out lrs2 --views box128 --tracking "
            "--mel-padding reflect --holdout 20% --seed 3 --split val --limit 9",
        ),
        (
            {"train": 2, "val": 1},
            {},
            ["--set", "colour.landmarks=landmarks68"],
            "lrs2 lacks the 68 landmarks that stage colour needs; prepare them: bench prep lrs2 '/data/LRS 2' "
            "--out lrs2-fan --views box128 --tracking --fan",
        ),
        (
            {"train": 2, "val": 1},
            {},
            ["--set", "colour.landmarks=mesh"],
            "stage colour asks for impossible samples: landmarks is 'mesh'",
        ),
    ],
)
def test_data_that_will_not_do_name_the_command_that_mends_them(
    bench_: Command,
    splits: dict[str, int],
    changes: dict[str, object],
    words: list[str],
    message: str,
) -> None:
    prepared(Path("lrs2"), splits, **changes)
    said = bench_("train", "fake", "--data", "lrs2", "--preset", "tiny", *words, code=1)
    assert message in said and len(said.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_a_split_without_a_usable_clip_is_one_line(bench_: Command) -> None:
    failure = Failure("v/1", "val", "v/1.mp4", "landmarks", "no face")
    write_fake_dataset(Path("empty"), [fake_clip("a/1", 8)], failures={"val": [failure]})
    said = bench_("train", "fake", "--data", "empty", "--preset", "tiny", code=1)
    assert "error: nothing of val in empty: 0 of 0 clips" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        {"root": "/data/LRS 2", "options": OPTIONS},
        {
            "root": "/x",
            "options": {**OPTIONS, "name": "mine", "fan": True, "clips_per_shard": 8, "quality": 90},
        },
        {},
    ],
)
def test_the_command_is_one_that_bench_prep_understands(manifest: dict[str, object]) -> None:
    words = shlex.split(prep_command(manifest, Path("out")))
    assert words[:2] == ["bench", "prep"]
    command = typer.main.get_command(app)
    context = command.commands["prep"].make_context("prep", words[2:])  # type: ignore[attr-defined]
    asked = dict(manifest.get("options", {}))  # type: ignore[call-overload]
    for key in asked.keys() & context.params.keys() - {"views"}:
        assert context.params[key] == asked[key] or (key == "name" and asked["name"] == asked["source"])
    views = ",".join(asked["views"]) if asked else None
    assert context.params["views"] == views and context.params["out"] == Path("out")


# Pretrained networks ------------------------------------------------------------------------------------------


def with_expert() -> Fake:
    words = ["shade.with_expert=true"]
    method = build_method(load_config("fake", "tiny", words, [], Path("runs/fake")))
    assert isinstance(method, Fake)
    return method


def store(folder: Path) -> WeightStore:
    entry = Entry("fake_expert", "expert.safetensors", urls=("https://example.org/expert.safetensors",))
    return WeightStore({"fake_expert": entry}, [folder])


def test_pretrained_weights_are_loaded_where_a_stage_uses_them(tmp_path: Path) -> None:
    state = {"weight": torch.arange(6.0).reshape(3, 2), "bias": torch.ones(3)}
    save_file(state, tmp_path / "expert.safetensors")
    method = with_expert()
    assert load_assets(method, {"train"}, store(tmp_path), stages=[method.stages["colour"]]) == {}
    assert not torch.equal(method.expert.weight, state["weight"])
    digests = load_assets(method, {"train"}, store(tmp_path), stages=list(method.stages.values()))
    assert digests == {"fake_expert": file_sha256(tmp_path / "expert.safetensors")}
    assert torch.equal(method.expert.weight, state["weight"])


def test_weights_that_are_missing_name_the_ways_out(tmp_path: Path) -> None:
    method = with_expert()
    with pytest.raises(BenchError) as raised:
        load_assets(method, {"train"}, store(tmp_path), stages=[method.stages["shade"]])
    assert str(raised.value) == (
        "fake needs fake_expert for the expert's loss: weights fake_expert are missing: no file expert.safetensors; "
        "bench weights fetch fake_expert; or do without: --set shade.with_expert=false"
    )


def test_other_weights_name_the_first_key(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, 2)}, tmp_path / "expert.safetensors")
    method = with_expert()
    with pytest.raises(BenchError, match="fake_expert: lacks bias"):
        load_assets(method, {"train"}, store(tmp_path), stages=[method.stages["shade"]])


def test_a_network_of_a_run_is_a_pretrained_one(
    bench_: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "fake", "--data", data, "--preset", "tiny")
    bench_(*words, "--stage", "colour", "--run", "runs/expert")
    monkeypatch.setattr(Fake, "weights", "runs/expert")
    bench_(*words, "--stage", "shade", "--set", "shade.with_expert=true")
    weights = json.loads(Path("runs/fake/provenance.json").read_text())["weights"]
    method = with_expert()
    assert weights == load_assets(method, {"train"}, store(Path()), stages=[method.stages["shade"]])
    assert list(weights) == ["runs/expert (colour)"]
    trained = load_file(best_files(Path("runs/expert"), "colour")["colour"])
    assert torch.equal(method.expert.weight, trained["weight"])
    bench_(*words, "--stage", "colour", "--run", "runs/again", "--set", "runner.seed=9")
    monkeypatch.setattr(Fake, "weights", "runs/nothing")
    said = bench_("train", "fake", "--resume", code=1)
    assert "runs/nothing: no checkpoint with a network colour" in said
    path = best_files(Path("runs/expert"), "colour")["colour"]
    path.write_bytes(best_files(Path("runs/again"), "colour")["colour"].read_bytes())
    monkeypatch.setattr(Fake, "weights", "runs/expert")
    said = bench_("train", "fake", "--resume", code=1)
    assert "runs/fake was begun with other weights runs/expert (colour) (sha256" in said


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("landmarks", "expert.frames, with expert.lengths to match"),
        ("tiny", "expert.windows, with expert.teach.averages to match"),
        ("paper", "expert.windows or expert.stride"),
    ],
)
def test_clips_that_are_too_short_name_the_options_that_make_samples_shorter(
    preset: str, options: str, bench_: Command, tmp_path: Path
) -> None:
    fake_dataset(tmp_path / "short", {"train": 1, "val": 1}, n_frames=12, views=("face96",))
    said = bench_("train", "sync-expert", "--data", tmp_path / "short", "--preset", preset, code=1)
    assert "nothing of train in" in said and " consecutive frames with a face; samples are shorter" in said
    assert said.endswith(f"shorter with a smaller {options}\n")


def test_a_pretrained_network_that_knows_too_little_is_refused(
    bench_: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "fake", "--data", data, "--preset", "tiny")
    bench_(*words, "--stage", "colour", "--run", "runs/expert")
    monkeypatch.setattr(Fake, "weights", "runs/expert")
    plain = Fake.assets.fget
    figures = held_out_figures(Path("runs/expert"), "colour")
    assert plain is not None and figures is not None

    def asking(least: dict[str, float]) -> None:
        def assets(self: Fake) -> dict[str, Asset]:
            found = replace(plain(self)["expert"], least=least, anyway="shade.least=0")
            return {"expert": found}

        monkeypatch.setattr(Fake, "assets", property(assets))

    shade = (*words, "--stage", "shade", "--set", "shade.with_expert=true")
    asking({"loss": 1000})
    said = bench_(*shade, code=1)
    assert said.splitlines()[-1] == (
        "error: fake needs runs/expert for the expert's loss, whose loss is "
        f"{figures['loss']:.3f} on held-out clips; at least 1000 is asked for: train a better one, or go on with this: "
        "--set shade.least=0"
    )
    asking({"rank": 0.6})
    assert "whose rank was not measured on held-out clips; at least 0.6" in bench_(*shade, code=1)
    assert not Path("runs/fake").exists()
    asking({"loss": figures["loss"], "rank": 0})
    bench_(*shade)


def test_weights_from_elsewhere_are_not_asked_for_figures(tmp_path: Path) -> None:
    write_networks(tmp_path, "colour", {"colour": {}}, "official: expert.pth")
    assert held_out_figures(tmp_path, "colour") is None
    assert held_out_figures(tmp_path / "nothing", "colour") is None


# The start ----------------------------------------------------------------------------------------------------


def test_the_command_starts_without_torch() -> None:
    code = "import sys, bench.cli; sys.exit('torch' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == 0


def test_only_the_main_process_writes_and_tells(
    bench_: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    told: list[object] = []

    def train_stages(*arguments: object, **options: object) -> object:
        from bench.train import TrainResult

        told.append(arguments[-1])
        return TrainResult(Path("runs/fake"), False)

    monkeypatch.setattr("bench.train.one_run.train_stages", train_stages)
    assert bench_("train", "fake", "--data", data, "--preset", "tiny") == ""
    assert not Path("runs").exists()
    told[0].note("to nobody")  # type: ignore[attr-defined]


def two_processes(folder: Path, *words: str) -> str:
    """Run ``bench train fake`` in two processes; returns what they print."""
    script = folder / "start.py"
    script.write_text(
        "import bench.cli\n"
        "from bench.common.methods import METHODS\n"
        f"METHODS.entries['fake'] = {ENTRY!r}\n"
        "if __name__ == '__main__':\n    bench.cli.main()\n"
    )
    # Without "--" torchrun takes --run for an abbreviation of an option of its own.
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(script), "train", "fake", "--device", "cpu", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_two_processes_train_one_run(data: Path, tmp_path: Path) -> None:
    said = two_processes(tmp_path, "--data", str(data), "--preset", "tiny", "--stage", "colour")
    assert said.count("colour: 6 steps") == 1
    assert [step for step, _ in losses(tmp_path / "runs" / "fake", "colour")] == [2, 4, 6]
    (start,) = json.loads((tmp_path / "runs" / "fake" / "provenance.json").read_text())["starts"]
    assert start["processes"] == 2


@pytest.mark.slow
def test_two_processes_train_a_run_set_and_pass_over_the_same_person(tmp_path: Path) -> None:
    clips = [replace(fake_clip(f"{who}/{i}", 8), speaker=who) for who in ("anna", "carl") for i in range(4)]
    clips += [replace(fake_clip(f"bert/{i}", 4, undetected=range(4)), speaker="bert") for i in range(3)]
    write_fake_dataset(tmp_path / "people", clips)
    words = ("--data", "people", "--preset", "tiny", "--per", "speaker", "--run", "set")
    said = two_processes(tmp_path, *words)
    assert said.count("bert was skipped: nothing of") == 1 and said.count("carl: set/carl: trained") == 1
    for who in ("anna", "carl"):
        assert [step for step, _ in losses(tmp_path / "set" / who, "shade")] == [2, 4]
    assert "colour: from step" not in two_processes(tmp_path, "--per", "speaker", "--run", "set", "--resume")


# Measuring ----------------------------------------------------------------------------------------------------


def _files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def test_a_profile_is_a_table_and_a_trace_and_changes_no_run(bench_: Command, data: Path) -> None:
    words = ("train", "fake", "--data", data, "--preset", "tiny", "--stage", "shade")
    bench_(*words)
    before = _files()
    AcceleratorState._reset_state(reset_partial_state=True)
    said = bench_(*words, "--profile", "--precision", "no")
    assert _files().keys() - before.keys() == {"profile-fake-shade.json.gz"}
    assert {name: _files()[name] for name in before} == before
    rows = dict(_rows(said))
    assert list(rows) == [
        "waiting for data",
        "forward: shade",
        "forward: losses and other",
        "backward: colour",
        "optimizer step: colour",
        "other",
        "a step",
    ]
    assert rows.pop("a step") == pytest.approx(sum(rows.values()), abs=1e-3)
    assert "mean of 5 steps of 3 samples, float32, cpu" in said
    assert "trace of one more step, for https://ui.perfetto.dev: profile-fake-shade.json.gz" in said


def _rows(said: str) -> list[tuple[str, float]]:
    return [(name, float(value)) for name, value in re.findall(r"^(\S.*?)  +([\d.]+)  +[\d.]+%", said, re.M)]


def test_the_time_of_a_schedule_is_said_for_each_stage_and_in_all(
    bench_: Command, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.train.throughput.SECONDS", 0.0)
    words = ("train", "fake", "--data", data, "--preset", "tiny", "--throughput", "--precision", "no")
    said = bench_(*words)
    assert "colour: 2 samples a step, float32, cpu" in said and "samples/s" in said
    assert "6 steps, 2.4 epochs of 5 clips: 0.0 minutes" in said and "fake: 0.0 minutes in all" in said
    assert "Measured on this machine now, without validations and checkpoints." in said
    assert not _files()
    AcceleratorState._reset_state(reset_partial_state=True)
    found = json.loads(bench_(*words, "--json", "--set", "shade.train.steps=none").rpartition("}")[0] + "}")
    assert [stage["stage"] for stage in found["stages"]] == ["colour", "shade"]
    colour, shade = found["stages"]
    (part,) = colour["parts"]
    assert colour["days"] == pytest.approx(6 * part["seconds"] / 86_400)
    assert shade["total"] is None and shade["days"] is None and found["days"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "--throughput"], "--profile and --throughput measure apart: leave one of them out"),
        (["--json"], "--json needs --profile or --throughput"),
        (["--traces", "x"], "--traces needs --profile"),
        (["--throughput", "--traces", "x"], "--throughput writes no traces"),
        (
            ["--profile", "--run", "x"],
            "measures steps from random weights and writes no run: leave --run out",
        ),
        (["--profile", "--resume"], "leave --resume out"),
        (["--throughput", "--from", "x"], "leave --from out"),
        (["--throughput", "--per", "speaker"], "leave --per out"),
        (["--throughput"], "nothing to train on: name a prepared data set with --data"),
    ],
)
def test_options_that_do_not_go_with_measuring_are_one_line(
    bench_: Command, words: list[str], message: str
) -> None:
    said = bench_("train", "fake", *words, code=1)
    assert message in said and len(said.strip().splitlines()) == 1
    assert not _files()
