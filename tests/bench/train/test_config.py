"""Presets, ``--set``, and what a run may change when it goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli.listing import entries
from bench.common.errors import BenchError
from bench.common.methods import METHODS, get_method
from bench.train.config import RunConfig, RunnerConfig, change_config, check_resume, differences, load_config
from tests.bench.fake.method import Fake, FakeConfig

ENTRY = "tests.bench.fake.method:Fake"


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.entries, "fake", ENTRY)


def load(*overrides: str, preset: str = "tiny", out: Path = Path("runs/fake")) -> RunConfig:
    return load_config("fake", preset, overrides, [Path("data")], out)


def method_config(config: RunConfig) -> FakeConfig:
    assert isinstance(config.method_config, FakeConfig)
    return config.method_config


def test_methods_of_papers_and_baselines_are_found_by_name() -> None:
    assert get_method("fake") is Fake
    assert {"ipl", "wav2lip", "sync-expert"} <= set(METHODS)
    with pytest.raises(BenchError, match="no method is called faek; did you mean fake"):
        get_method("faek")


def test_a_method_has_the_name_under_which_it_is_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS.entries, "faek", ENTRY)
    with pytest.raises(
        BenchError, match="the method faek calls itself fake: it must be entered under its own"
    ):
        get_method("faek")


def test_a_method_without_a_title_is_named_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Fake, "title")
    with pytest.raises(BenchError, match="the method fake has no title"):
        get_method("fake")
    listed = entries("methods")
    assert listed["fake"].startswith("the method fake has no title") and "ipl" in listed


def test_a_preset_sets_the_method_and_the_runner() -> None:
    config = load()
    assert method_config(config).colour.layers == (4, 8)
    assert method_config(config).shade.loss == "l1"
    assert config.runner == RunnerConfig(workers=0, log_every=2, seed=5, tensorboard=False)
    assert method_config(load(preset="paper")).colour.train.steps == 600


def test_a_method_in_one_file_holds_its_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"train": {"batch_size": 7}}
    mine = {"colour": tables, "shade": tables, "runner": {"seed": 3}}
    monkeypatch.setattr(Fake, "presets", {"mine": mine})
    config = load("shade.train.batch_size=9", preset="mine")
    assert config.runner == RunnerConfig(seed=3)
    assert method_config(config).colour.train.batch_size == 7
    assert method_config(config).shade.train.batch_size == 9
    assert tables == {"train": {"batch_size": 7}}
    with pytest.raises(BenchError, match="fake has no preset tiny; there are mine"):
        load()


def test_a_module_outside_of_any_package_has_no_preset_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lonely_method.py").write_text(
        "from tests.bench.fake.method import Fake\n\nclass Lonely(Fake):\n    name = 'lonely'\n"
    )
    (tmp_path / "paper.toml").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(METHODS.entries, "lonely", "lonely_method:Lonely")
    with pytest.raises(BenchError, match="lonely has no preset paper; there are none"):
        load_config("lonely", "paper", [], [Path("data")], Path("run"))


@pytest.mark.parametrize("preset", ["paper", "tiny"])
@pytest.mark.parametrize("method", ["ipl", "wav2lip", "sync-expert"])
def test_every_method_comes_with_presets(method: str, preset: str) -> None:
    config = load_config(method, preset, [], [Path("data")], Path("run"))
    assert isinstance(config.method_config, get_method(method).config_class)


def test_a_file_is_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[colour.train]\nbatch_size = 7\n[shade.train]\nbatch_size = 1\n")
    config = load(preset=str(path))
    assert method_config(config).colour.train.batch_size == 7
    assert config.runner == RunnerConfig()


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("colour.learning_rate=1e-4", 1e-4),
        ("colour.learning_rate = 3", 3.0),
        ("colour.hidden=16", 16),
        ("colour.layers=[3, 2, 1]", (3, 2, 1)),
        ("colour.loss=l1", "l1"),
        ('colour.loss="l1"', "l1"),
        ("colour.tag=two words", "two words"),
        ('colour.tag="3"', "3"),
        ('colour.tag="none"', "none"),
        ("colour.tag=a=b", "a=b"),
        ("colour.tag=none", None),
        ("colour.with_expert=true", True),
        ("colour.train.patience=none", None),
        ("colour.train.epochs=2", 2.0),
    ],
)
def test_values_are_written_as_in_toml_and_words_bare(word: str, wanted: object) -> None:
    value: object = load("colour.tag=before", "colour.train.patience=3", word).method_config
    for name in word.partition("=")[0].strip().split("."):
        value = getattr(value, name)
    assert value == wanted and type(value) is type(wanted)


def test_a_table_is_laid_over_the_one_that_is_there() -> None:
    train = method_config(load("colour.train={steps = 9, ema = 0.5}")).colour.train
    assert (train.steps, train.ema, train.batch_size) == (9, 0.5, 2)


def test_the_last_word_counts() -> None:
    assert load("runner.seed=1", "runner.seed=2").runner.seed == 2
    assert load("runner.precision=no").runner.precision == "no"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("colour.lerning_rate=1", "colour.lerning_rate: no such key; did you mean colour.learning_rate?"),
        ("color.train.steps=1", "color.train.steps: no such key; did you mean colour.train.steps?"),
        ("shade.batch_size=1", "shade.batch_size: no such key; did you mean shade.train.batch_size?"),
        (
            "batch_size=4",
            "batch_size: no such key; did you mean colour.train.batch_size or shade.train.batch_size?",
        ),
        ("colour.lr=1", "colour.lr: no such key; did you mean colour.learning_rate?"),
        ("runner.sed=1", "runner.sed: no such key; did you mean runner.seed?"),
        ("seed=1", "seed: no such key; did you mean runner.seed?"),
        ("colour.hidden.size=1", "colour.hidden.size: no such key; did you mean colour.hidden?"),
        ("colour.train={stesp = 1}", "colour.train.stesp: no such key; did you mean colour.train.steps?"),
        ("colour.hidden=wide", "colour.hidden=wide: must be a valid integer"),
        ("colour.hidden=1.5", "colour.hidden=1.5: must be a valid integer"),
        ("colour.hidden=null", "colour.hidden=null: must be a valid integer"),
        ("colour.train.steps=null", "colour.train.steps=null: write none"),
        ("colour.hidden=true", "colour.hidden=true: must be a valid integer"),
        ('colour.learning_rate="1e-4"', "colour.learning_rate=1e-4: must be a valid number"),
        ("colour.with_expert=1", "colour.with_expert=1: must be a valid boolean"),
        ("colour.tag=3", "colour.tag=3: must be a valid string"),
        ("colour.loss=l3", "colour.loss=l3: must be 'l1' or 'l2'"),
        ("runner.precision=fp8", "runner.precision=fp8: must be 'auto', 'no', 'bf16' or 'fp16'"),
        ("runner.cache=x", "runner.cache=x: must be 'auto' or 'off', or a valid integer"),
        ("runner.cache=-1", "runner.cache=-1: must be 'auto' or 'off', or greater than or equal to 1"),
        ("runner.workers=-2", "runner.workers=-2: must be 'auto', or greater than or equal to 0"),
        ("colour.hidden=0", "colour.hidden=0: must be greater than or equal to 1"),
        ("colour.layers=[1, x]", "colour.layers=[1, x]: must be a valid array"),
        ("colour.layers=[1, 'x']", "colour.layers.1=x: must be a valid integer"),
        ("colour.hidden=7", "colour: hidden 7 is odd"),
        ("colour=3", "colour=3: must be a table, with keys such as colour.loss"),
        ("colour", "--set colour: write it as key=value, with a key such as colour.view"),
        ("colour..hidden=2", "--set colour..hidden=2: write it as key=value"),
        ("=2", "--set =2: write it as key=value"),
    ],
)
def test_a_mistake_is_one_line_with_key_value_and_what_is_expected(word: str, message: str) -> None:
    with pytest.raises(BenchError) as raised:
        load(word)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not str(raised.value).startswith("preset")


def test_no_second_key_is_smuggled_in_with_a_value() -> None:
    text = "1\nhidden = 2"
    assert method_config(load(f"colour.tag={text}")).colour.tag == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[colour.train]\nbatch_size = 1\n", "mine.toml: shade.train is missing"),
        ("[colour]\n[shade.train]\nbatch_size=1\n", "mine.toml: colour.train is missing"),
        (
            "[colour.train]\nsteps=1\n[shade.train]\nbatch_size=1\n",
            "mine.toml: colour.train.batch_size is missing",
        ),
        ("[colour.train]\nbatchsize = 1\n", "mine.toml: colour.train.batch"),
        ("[colour.train\n", "mine.toml is not TOML: "),
        ("[runner]\nseed = 'x'\n", "mine.toml: runner.seed=x: must be a valid integer"),
        ("runner = 3\n", "mine.toml: runner=3: must be a table, with keys such as runner."),
    ],
)
def test_a_mistake_in_a_file_names_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(BenchError) as raised:
        load("shade.hidden=2", preset=str(path))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_preset_that_is_not_there_is_named() -> None:
    with pytest.raises(BenchError, match=r"fake has no preset tinny; did you mean tiny\?"):
        load(preset="tinny")
    with pytest.raises(BenchError, match="there are paper, tiny"):
        load(preset="huge")
    with pytest.raises(BenchError, match=r"preset no/such.toml cannot be read"):
        load(preset="no/such.toml")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    config = load("colour.tag=none", "shade.train.epochs=1.5", out=tmp_path)
    config.save(tmp_path)
    assert RunConfig.load(tmp_path) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_that_was_moved_lies_where_it_is_now(tmp_path: Path) -> None:
    load(out=tmp_path / "old").save(tmp_path)
    assert RunConfig.load(tmp_path).out == tmp_path


def test_the_configuration_of_another_version_is_refused_with_the_key(tmp_path: Path) -> None:
    load(out=tmp_path).save(tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    stored["method_config"]["colour"]["depth"] = 3
    path.write_text(json.dumps(stored))
    with pytest.raises(
        BenchError, match=r"written by another version of this suite: colour\.depth: no such key"
    ):
        RunConfig.load(tmp_path)
    path.write_text("{}")
    with pytest.raises(BenchError, match="is not the configuration of a training run"):
        RunConfig.load(tmp_path)
    path.write_text("{")
    with pytest.raises(BenchError, match=r"config\.json cannot be read"):
        RunConfig.load(tmp_path)
    path.unlink()
    with pytest.raises(BenchError, match=r"is not a training run: config\.json is missing"):
        RunConfig.load(tmp_path)


@pytest.mark.parametrize(
    "word",
    [
        "colour.train.steps=900",
        "colour.train.epochs=3",
        "shade.train.patience=2",
        "shade.train.sample_every=0",
        "shade.train.checkpoint_every=10",
        "shade.train.clip_norm=1.0",
        "runner.workers=1",
        "runner.keep_last=5",
        "runner.log_every=1",
        "runner.tensorboard=true",
        "runner.device=cpu",
    ],
)
def test_how_long_and_what_is_told_may_change(word: str) -> None:
    old = load()
    new = change_config(old, [word])
    assert list(differences(old, new)) == [word.partition("=")[0]]
    check_resume(old, new)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("colour.hidden=2", r"fake was begun with colour\.hidden=8, not 2: .*another --run"),
        ("colour.train.batch_size=4", r"colour\.train\.batch_size=2, not 4"),
        ("colour.tag=x", r"colour\.tag=none, not x"),
        ("colour.train.validate_every=1", r"colour\.train\.validate_every=3, not 1"),
        ("runner.seed=6", r"runner\.seed=5, not 6"),
        ("runner.precision=bf16", r"runner\.precision=auto, not bf16"),
    ],
)
def test_all_else_may_not(word: str, message: str, tmp_path: Path) -> None:
    old = begun(tmp_path / "fake", "colour")
    new = change_config(old, ["colour.train.steps=900", word])
    with pytest.raises(BenchError, match=message):
        check_resume(old, new)


def test_a_stage_without_a_checkpoint_may_be_another(tmp_path: Path) -> None:
    old = begun(tmp_path / "fake", "colour")
    new = change_config(old, ["shade.train.batch_size=7"])
    assert list(differences(old, new)) == ["shade.train.batch_size"]
    check_resume(old, new)
    begun(tmp_path / "fake", "shade")
    with pytest.raises(BenchError, match=r"shade\.train\.batch_size"):
        check_resume(old, new)


def begun(run: Path, stage: str) -> RunConfig:
    """A run that has a checkpoint of a stage."""
    (run / stage / "checkpoints").mkdir(parents=True)
    (run / stage / "checkpoints" / "last").write_text("step-00000001")
    return load().model_copy(update={"out": run})


def test_where_the_data_lie_does_not_count() -> None:
    old = load()
    new = change_config(old, [], [Path("elsewhere")])
    assert new.data == (Path("elsewhere"),)
    assert differences(old, new) == {}


def test_a_list_of_clips_is_kept_until_another_is_named(tmp_path: Path) -> None:
    assert load().clips is None
    old = load_config("fake", "tiny", [], [Path("data")], tmp_path, Path("lists/clips.csv"))
    old.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["clips"] == "lists/clips.csv"
    assert RunConfig.load(tmp_path) == old
    assert change_config(old, ["runner.workers=1"]).clips == Path("lists/clips.csv")
    new = change_config(old, [], clips=Path("moved.csv"))
    assert new.clips == Path("moved.csv")
    # Where the list lies does not count; what is in it is seen to by the record.
    assert differences(old, new) == {}


def test_a_run_from_before_there_were_lists_of_clips_trains_on_all(tmp_path: Path) -> None:
    load(out=tmp_path).save(tmp_path)
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["clips"]
    path.write_text(json.dumps(stored))
    assert RunConfig.load(tmp_path).clips is None


# Sound --------------------------------------------------------------------------------------------------------


def test_the_choices_of_sound_are_a_table_of_every_run(tmp_path: Path) -> None:
    assert load().sound.mel_padding == "constant"
    config = load("sound.mel_padding=reflect", out=tmp_path)
    assert config.sound.mel_padding == "reflect"
    config.save(tmp_path)
    assert RunConfig.load(tmp_path).sound == config.sound
    with pytest.raises(BenchError, match=r"sound.mel_padding=zeros: must be 'constant' or 'reflect'"):
        load("sound.mel_padding=zeros")
    with pytest.raises(BenchError, match=r"sound.padding: no such key; did you mean sound.mel_padding\?"):
        load("sound.padding=reflect")


def test_a_run_of_an_earlier_version_has_the_sound_of_then(tmp_path: Path) -> None:
    load(out=tmp_path).save(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["sound"], stored["person"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    config = RunConfig.load(tmp_path)
    assert config.sound.mel_padding == "constant" and config.person is None
    assert "sound" not in config.model_fields_set


def test_a_run_does_not_go_on_with_other_sound(tmp_path: Path) -> None:
    old = load(out=tmp_path)
    with pytest.raises(BenchError, match=r"was begun with sound.mel_padding=constant, not reflect"):
        check_resume(old, change_config(old, ["sound.mel_padding=reflect"]))
