"""The configuration of a training run: a preset, changed by ``--set``, checked, and stored in the run.

A preset is a TOML file with one table per stage, as defined by the method's ``config_class``, and a table ``[runner]``
with the options of the runner (:class:`RunnerConfig`). A table ``[sound]`` says how the sound is prepared
(:class:`SoundConfig`); training takes it from the data sets. Keys are written with dots: ``render.train.batch_size``.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializeAsAny, ValidationError

from bench.common.errors import BenchError
from bench.common.methods import get_method
from bench.train.config_checks import Problem, keys, leaves, may_be_none, show, unknown, validate, within
from bench.train.run_options import RUNNER, SOUND, TABLES, Person, RunnerConfig, SoundConfig
from models.base import FitConfig, Section

CONFIG = "config.json"

#: Keys that may change when a run is resumed: how long it trains, what it logs and keeps, and what may help after a
#: #: loss that is not finite.
_MAY_CHANGE = re.compile(
    r".*\btrain\.(steps|epochs|patience|sample_every|checkpoint_every|clip_norm|compile|recompute|threads)"
    rf"|{RUNNER}\.(cache|compile|device|keep_last|log_every|tensorboard|workers)"
)


class RunConfig(BaseModel):
    """Everything that determines a training run.

    Attributes:
        method: its name.
        preset: name or file of the preset.
        data: prepared data sets.
        clips: list of the clips to train on (:func:`bench.clips.clip_lists.read_clips`); None: all of the split.
        out: folder of the run.
        runner: options of the runner.
        sound: how the sound of the training data was prepared.
        person: in a run set, the person: only this person's clips are used for training, validation and test. None: the
            splits determine the clips.
        begun_from: the run whose weights it began with; None: random weights.
        method_config: an instance of the method's ``config_class``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    preset: str
    data: tuple[Path, ...]
    clips: Path | None = None
    out: Path
    runner: RunnerConfig
    sound: SoundConfig = SoundConfig()
    person: Person | None = None
    begun_from: Path | None = None
    method_config: SerializeAsAny[Section]

    def save(self, run: Path) -> None:
        """Write ``config.json`` into the folder of a run, atomically."""
        from prep.shards import AtomicFile

        with AtomicFile(run / CONFIG) as sink:
            sink.write((self.model_dump_json(indent=1) + "\n").encode())
            sink.commit()

    @classmethod
    def load(cls, run: Path) -> RunConfig:
        """The configuration of a run; ``out`` is its current folder.

        Raises:
            BenchError: there is none, or it is not valid in this version of the suite.
        """
        path = run / CONFIG
        try:
            stored = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            inside = sorted(folder.parent for folder in run.glob(f"*/{CONFIG}"))
            if inside:
                raise BenchError(
                    f"{run} is not a training run, but holds some: give one of them, such as {inside[0]}"
                ) from None
            if run.is_file():
                raise BenchError(f"{run} is a file: --run takes the folder of a training run") from None
            raise BenchError(
                f"{run} is not a training run: {CONFIG} is missing; make one with `bench train`"
            ) from None
        except (OSError, ValueError) as error:
            raise BenchError(f"{path} cannot be read: {error}") from None
        return cls.from_stored(stored, run, path)

    @classmethod
    def from_stored(cls, stored: Any, out: Path, where: Path) -> RunConfig:
        """Read back from JSON what :meth:`save` wrote.

        Args:
            stored: the content.
            out: folder of the run.
            where: the file it comes from, for messages.

        Raises:
            BenchError: it is not a configuration, or is not valid in this version of the suite.
        """
        try:
            method, preset = str(stored["method"]), str(stored["preset"])
            data = [Path(folder) for folder in stored["data"]]
            clips = Path(stored["clips"]) if stored.get("clips") is not None else None
            person = Person.model_validate(stored["person"]) if stored.get("person") is not None else None
            begun_from = Path(stored["begun_from"]) if stored.get("begun_from") is not None else None
            tree = {**stored["method_config"], RUNNER: stored["runner"]}
            # Runs of earlier versions do not contain it.
            tree |= {SOUND: stored[SOUND]} if SOUND in stored else {}
        except (AttributeError, KeyError, TypeError, ValidationError):
            raise BenchError(f"{where} is not the configuration of a training run") from None
        kind = get_method(method).config_class
        try:
            config = _resolve(method, preset, kind, tree, (), data, clips, out, "")
        except BenchError as error:
            raise BenchError(f"{where} was written by another version of this suite: {error}") from None
        return config.model_copy(update={"person": person, "begun_from": begun_from})


def load_config(
    method: str,
    preset: str,
    overrides: Sequence[str],
    data: Sequence[Path],
    out: Path,
    clips: Path | None = None,
) -> RunConfig:
    """Resolve a configuration.

    Args:
        method: name.
        preset: ``paper``, ``tiny`` or another preset of the method; or the path of a TOML file.
        overrides: ``a.b=value`` with the value as in TOML. A word without quotes is a string; ``none`` means no
            value, for keys that allow it.
        data: prepared data sets.
        out: folder of the run.
        clips: list of the clips to train on.

    Raises:
        BenchError: a method, preset or key is unknown, or a value is not valid; the first problem, in one line.
    """
    kind = get_method(method).config_class
    where, tree = _read_preset(method, preset)
    return _resolve(method, preset, kind, tree, overrides, data, clips, out, where)


def change_config(
    config: RunConfig, overrides: Sequence[str], data: Sequence[Path] = (), clips: Path | None = None
) -> RunConfig:
    """``config`` with some values replaced, also data sets or list of clips if given. Raises as :func:`load_config`."""
    kind = type(config.method_config)
    where = str(config.out / CONFIG)
    changed = _resolve(
        config.method,
        config.preset,
        kind,
        _tree(config),
        overrides,
        data or config.data,
        clips or config.clips,
        config.out,
        where,
    )
    return changed.model_copy(update={"person": config.person, "begun_from": config.begun_from})


def differences(old: RunConfig, new: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ → old and new value (None: no value); data sets, clips and folder are ignored."""
    before, after = (
        dict(leaves({"method": old.method, **_tree(old)})),
        dict(leaves({"method": new.method, **_tree(new)})),
    )
    keys = [*before, *(key for key in after if key not in before)]
    return {key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)}


def check_resume(old: RunConfig, new: RunConfig) -> None:
    """Check that a run is resumed with the options that it began with.

    These may change: how long it trains, what it logs and keeps, ``clip_norm``, and all options of a stage without a
    checkpoint. So a copy of a run without its last stage can be used to try that stage with other options.

    Raises:
        BenchError: names the first key that must not differ.
    """
    for key, (before, after) in differences(old, new).items():
        if not _MAY_CHANGE.fullmatch(key) and _begun(old, key.partition(".")[0]):
            raise BenchError(
                f"{old.out} was begun with {key}={show(before)}, not {show(after)}: "
                "leave this option out, or start a new training with another --run"
            )


def _begun(run: RunConfig, section: str) -> bool:
    """Whether results depend on a section: on that of a stage once it has a checkpoint, on any other always."""
    table = getattr(run.method_config, section, None)
    of_stage = isinstance(table, FitConfig) or hasattr(table, "train")
    return not of_stage or (run.out / section / "checkpoints" / "last").exists()


# Reading ------------------------------------------------------------------------------------------------------


def _toml() -> Any:
    return import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def _read_preset(method: str, preset: str) -> tuple[str, dict[str, Any]]:
    """The place of a preset, for messages, and its content."""
    if "/" in preset or preset.endswith(".toml"):
        where, text = preset, _read_text(Path(preset))
    else:
        where, kind = f"preset {preset} of {method}", get_method(method)
        files = {} if kind.presets else _preset_files(kind.__module__)
        names = sorted(kind.presets or files)
        if preset not in names:
            near = difflib.get_close_matches(preset, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
            raise BenchError(f"{method} has no preset {preset}; {hint} (or give the path of a TOML file)")
        if kind.presets:
            return where, dict(kind.presets[preset])
        text = files[preset].read_text("utf-8")
    try:
        return where, _toml().loads(text)
    except ValueError as error:
        raise BenchError(f"{where} is not TOML: {error}") from None


def _preset_files(module: str) -> dict[str, Any]:
    """Name → TOML file in the folder of a module; a module outside of any package has no folder of its own."""
    package = sys.modules[module].__package__
    entries = resources.files(package).iterdir() if package else ()
    return {entry.name[:-5]: entry for entry in entries if entry.name.endswith(".toml")}


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BenchError(f"preset {path} cannot be read: {error}") from None


def _tree(config: RunConfig) -> dict[str, Any]:
    return {
        **config.method_config.model_dump(mode="json"),
        **{name: getattr(config, name).model_dump(mode="json") for name in TABLES},
    }


def _resolve(
    method: str,
    preset: str,
    kind: type[Section],
    tree: dict[str, Any],
    overrides: Sequence[str],
    data: Sequence[Path],
    clips: Path | None,
    out: Path,
    where: str,
) -> RunConfig:
    """``where`` is put before the text of problems that are not in ``overrides``."""
    words = {}
    for word in overrides:
        key, value = _parse(kind, word)
        words[key] = word
        tree = _put(kind, tree, key.split("."), value, word)
    rest = {key: value for key, value in tree.items() if key not in TABLES}
    try:
        return RunConfig(
            method=method,
            preset=preset,
            data=tuple(data),
            clips=clips,
            out=out,
            runner=validate(RunnerConfig, tree.get(RUNNER, {}), kind, (RUNNER,)),
            **({SOUND: validate(SoundConfig, tree[SOUND], kind, (SOUND,))} if SOUND in tree else {}),
            method_config=validate(kind, rest, kind, ()),
        )
    except Problem as problem:
        said = any(within(problem.key, key) for key in words)
        raise BenchError(problem.text if said or not where else f"{where}: {problem.text}") from None


def _parse(kind: type[Section], word: str) -> tuple[str, Any]:
    key, equals, text = word.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not all(key.split(".")):
        raise BenchError(f"--set {word}: write it as key=value, with a key such as {keys(kind)[0]}")
    try:
        parsed = _toml().loads(f"value = {text}")
    except ValueError:
        parsed = {}
    if parsed.keys() != {"value"}:
        return key, None if text == "none" and may_be_none(kind, key) else text
    return key, parsed["value"]


def _put(
    kind: type[Section], tree: dict[str, Any], path: Sequence[str], value: Any, word: str
) -> dict[str, Any]:
    """``tree`` with a value at ``path``; a table is merged into the existing one."""
    head, rest = path[0], path[1:]
    inner = tree.get(head)
    if rest:
        if inner is not None and not isinstance(inner, dict):
            key = word.partition("=")[0].strip()
            raise BenchError(unknown(key, kind))
        return {**tree, head: _put(kind, inner or {}, rest, value, word)}
    if isinstance(value, dict) and isinstance(inner, dict):
        for name, part in value.items():
            inner = _put(kind, inner, [name], part, word)
        return {**tree, head: inner}
    return {**tree, head: value}
