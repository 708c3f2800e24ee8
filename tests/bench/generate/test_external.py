"""Somebody else's code over a data set: a small script stands for it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from baselines.external import CommandTemplate
from bench.cli.app import app
from bench.clips.inputs import from_dataset, from_pairs
from bench.clips.inputs.declared import GENERATION
from bench.clips.protocols import PAIRS, dubbing, load_pairs
from bench.common.errors import BenchError
from bench.generate.external import ExternalGeneration, external, read_external
from bench.generate.external_inputs import write_inputs
from bench.generate.external_options import ExternalOptions
from bench.generate.fit import Fit
from bench.generate.pairing import Task
from prep.errors import PrepError
from prep.shards import MANIFEST, write_json
from prep.sound_reading import sound
from prep.video_reading import frames, probe
from prep.video_writing import write_video
from tests.bench.fake_method import number_of, numbered
from tests.bench.fake_metrics import NAMES
from tests.prep.fakes import fake_clip, write_fake_dataset

LENGTHS = {"s0/a": 14, "s0/b": 10, "s1/c": 11}

#: The "official" code: it writes the video that lies in its working folder, or misbehaves.
SCRIPT = """\
import os, shutil, subprocess, sys, time
mode, face, audio, out, name = sys.argv[1:6]
assert os.path.getsize(face) and os.path.getsize(audio)
print("running", name)
if os.path.isfile(name.replace("/", "-") + ".fails"):
    sys.stderr.write("loading\\n 10%|#\\r 90%|##\\r\\x1b[31mValueError: no face in " + face + "\\x1b[0m\\n")
    sys.exit(3)
if mode == "hang":
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    open("pids", "w").write(f"{os.getpid()} {child.pid}")
    sys.stderr.write("thinking")
    sys.stderr.flush()
    time.sleep(60)
if mode == "abort":
    os.abort()
if mode != "nothing":
    source = {"damaged": sys.argv[0]}.get(mode, mode + ".mp4")
    shutil.copy(source, os.path.join(out, "theirs.mp4") if os.path.isdir(out) else out)
if mode == "twice":
    shutil.copy(source, os.path.join(out, "more.avi"))
if mode == "preview":
    shutil.copy(source, os.path.join(out, "more.gif"))
"""

COMMAND = f"{sys.executable} -S official.py MODE {{video}} {{audio}} {{out}} {{name}}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    clips = [fake_clip(name, n, split="test") for name, n in LENGTHS.items()]
    write_fake_dataset(folder / "data", clips)
    for clip in clips:
        path = folder / "corpus" / clip.source
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [numbered(i) for i in range(clip.n_frames)], samples=clip.audio)
    manifest = json.loads((folder / "data" / MANIFEST).read_text())
    write_json(folder / "data" / MANIFEST, {**manifest, "root": str(folder / "corpus")})
    code = folder / "code"
    code.mkdir()
    (code / "official.py").write_text(SCRIPT)
    voice = np.zeros(640 * 12, np.int16)
    write_video(code / "copy.mp4", [numbered(7)] * 12, samples=voice)
    write_video(code / "silent.mp4", [numbered(7)] * 12)
    write_video(code / "short.mp4", [numbered(7)] * 11, samples=voice)
    write_video(code / "long.mp4", [numbered(7)] * 17, samples=voice)
    write_video(code / "wide.mp4", [numbered(7, width=320)] * 12, samples=voice)
    shutil.copy(code / "copy.mp4", code / "twice.mp4")
    shutil.copy(code / "copy.mp4", code / "preview.mp4")
    return folder


@pytest.fixture
def data(prepared: Path) -> Path:
    return prepared / "data"


@pytest.fixture
def code(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared / "code", tmp_path / "code")
    return tmp_path / "code"


def make(
    code: Path,
    data: Path | None,
    out: Path,
    mode: str = "copy",
    call: dict[str, Any] | None = None,
    text: str = COMMAND,
    shell: bool = False,
    **changes: Any,
) -> ExternalGeneration:
    template = CommandTemplate(text.replace("MODE", mode), shell)
    options = ExternalOptions(template, **{"cwd": str(code), **changes})
    return external("theirs", out, options, data=data, **(call or {}))


def videos(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.mp4"))


def test_every_pair_becomes_a_video(code: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = make(
        code, data, out, commit="5c90fa9", call={"command": "bench external …"}, workers=2, timeout=60
    )
    assert videos(out) == ["s0/a.mp4", "s0/b.mp4", "s1/c.mp4"]
    assert (out / "s1/c.mp4").read_bytes() == (code / "copy.mp4").read_bytes()
    assert (done.clips, done.made, done.failures, done.frames) == (3, 3, {}, 36)
    assert read_external(out) == done and done.complete
    assert (done.method, done.commit, done.protocol, done.seed) == (
        "theirs",
        "5c90fa9",
        "reconstruction",
        None,
    )
    assert done.command_template == COMMAND.replace("MODE", "copy") and done.command == "bench external …"
    assert done.manifest_sha256 == from_dataset({}, data).manifest_sha256 and done.packages["av"]
    printed = (out / "logs/s0/a.out.txt").read_text().splitlines()
    assert printed[0] == f"# in {code}" and printed[1].endswith(" s0/a") and printed[2:] == ["running s0/a"]
    assert not any(path.name.startswith(".") for path in out.rglob("*"))


def test_what_the_command_is_given(data: Path, tmp_path: Path) -> None:
    inputs = from_dataset({}, data)
    job = next(job for job in inputs.jobs if job.clip_id == "s0/b")
    given = write_inputs(
        Task("x", job, inputs.voices["s0/a"]), tmp_path, ExternalOptions(CommandTemplate(COMMAND), silence=3)
    )
    wanted = Fit().order(LENGTHS["s0/b"], LENGTHS["s0/a"]).tolist()
    shown = list(frames(given.video))
    assert [number_of(frame) for frame in shown] == wanted
    assert (given.width, given.height, given.n_frames) == (160, 200, LENGTHS["s0/a"])
    info = probe(given.video)
    assert (info.width, info.height, info.source_fps, info.has_audio) == (160, 200, 25.0, False)
    assert job.truth is not None
    true = list(frames(job.truth.path))
    # Nothing is lost but what the conversion of colours rounds.
    assert max(np.abs(a.astype(int) - true[i]).max() for a, i in zip(shown, wanted, strict=True)) <= 3
    with wave.open(str(given.audio)) as source:
        assert source.getparams()[:4] == (1, 2, 16_000, 640 * (LENGTHS["s0/a"] + 3))
        heard = np.frombuffer(source.readframes(source.getnframes()), "<i2")
    assert np.array_equal(heard[: -3 * 640], fake_clip("s0/a", LENGTHS["s0/a"]).audio)
    assert not heard[-3 * 640 :].any()


def test_code_that_names_its_file_itself(code: Path, data: Path, tmp_path: Path) -> None:
    text = COMMAND.replace("{out}", "{out_dir}")
    done = make(code, data, tmp_path / "out", text=text, limit=1)
    assert videos(tmp_path / "out") == ["s0/a.mp4"] and done.frames == 12
    done = make(code, data, tmp_path / "more", "twice", text=text, limit=1)
    assert done.failures == {"s0/a": "2 videos in {out_dir}: let the command write {out}"}
    done = make(code, data, tmp_path / "seen", "preview", text=text, limit=1)
    assert videos(tmp_path / "seen") == ["s0/a.mp4"]
    done = make(code, data, tmp_path / "none", "nothing", text=text, limit=1)
    assert done.failures == {"s0/a": "exit code 0, but no video in {out_dir}"}


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("nothing", "exit code 0, but no file {out}"),
        ("damaged", "its output cannot be used: video: damaged, or not a media file"),
        ("silent", "its output has no sound: let the command add {audio}, or --allow-silent"),
        ("wide", "its output is 320×200, its input 160×200: mend it in the command, or --any-size"),
        ("short", "its output is 3 frames shorter than its input: try --silence 3, or --any-length"),
        ("long", "its output is 3 frames longer than its input: mend it in the command, or --any-length"),
        ("abort", "ended by SIGABRT"),
    ],
)
def test_an_output_that_is_of_no_use_is_a_failure(
    code: Path, data: Path, tmp_path: Path, mode: str, reason: str
) -> None:
    out = tmp_path / "out"
    assert make(code, data, out, mode, limit=1).failures == {"s0/a": reason}
    assert videos(out) == []
    if mode in ("silent", "wide", "short", "long"):
        done = make(code, data, out, mode, limit=1, any_size=True, any_length=True, allow_silent=True)
        assert done.made == 1 and videos(out) == ["s0/a.mp4"]


def test_failures_are_counted_and_tried_again(code: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (code / "s0-a.fails").touch()
    (code / "s1-c.fails").touch()
    words = ["external", "theirs", "--command", COMMAND.replace("MODE", "copy"), "--data", data]
    words += ["--cwd", code, "--out", out]
    shown = CliRunner().invoke(app, list(map(str, words)))
    assert shown.exit_code == 3 and "1 of 3 videos" in shown.stdout
    # Paths differ from clip to clip, the reason does not.
    assert "missing: 2 of 3 (s0/a, for one): exit code 3: ValueError: no face in {video}\n" in shown.stderr
    assert f"output of the commands: {out / 'logs'}" in shown.stderr
    assert "10%" in (out / "logs/s0/a.err.txt").read_text()
    assert CliRunner().invoke(app, [*map(str, words), "--allow-partial"]).exit_code == 0
    before = (out / "s0/b.mp4").stat().st_mtime_ns
    (code / "s0-a.fails").unlink()
    steps: list[tuple[int, int]] = []
    done = make(code, data, out, call={"on_progress": lambda i, n: steps.append((i, n))})
    assert (done.made, done.frames, list(done.failures)) == (2, 12, ["s1/c"])
    assert steps == [(1, 3), (2, 3), (3, 3)] and (out / "s0/b.mp4").stat().st_mtime_ns == before


def alive(pid: int) -> bool:
    try:
        # A zombie is dead, though nobody has asked for it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(code: Path) -> bool:
    pids = [int(word) for word in (code / "pids").read_text().split()]
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(pids) == 2 and not any(map(alive, pids))


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="asks /proc which processes live")
def test_a_command_that_takes_too_long_is_killed_with_its_children(
    code: Path, data: Path, tmp_path: Path
) -> None:
    done = make(code, data, tmp_path / "out", "hang", limit=1, timeout=2.0)
    assert done.failures == {"s0/a": "killed, not done after 2 s: thinking"}
    assert gone(code)


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="asks /proc which processes live")
def test_sigterm_leaves_no_command_behind(code: Path, data: Path, tmp_path: Path) -> None:
    def terminate() -> None:
        while not (code / "pids").is_file() or len((code / "pids").read_text().split()) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=terminate, daemon=True).start()
    # The limit ends a test in which the signal does nothing.
    with pytest.raises(SystemExit) as left:
        make(code, data, tmp_path / "out", "hang", limit=1, timeout=30)
    assert left.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert gone(code) and not read_external(tmp_path / "out").complete


def test_an_interruption_is_gone_on_from(code: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stops(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(code, data, out, call={"on_progress": stops})
    assert not read_external(out).complete and len(videos(out)) >= 1
    assert make(code, data, out).made == 3 and read_external(out).complete


def test_each_worker_can_have_a_folder_of_its_own(code: Path, data: Path, tmp_path: Path) -> None:
    for worker in "01":
        shutil.copytree(code, tmp_path / f"code{worker}")
    done = make(tmp_path / "code{worker}", data, tmp_path / "out", workers=2)
    assert done.made == 3 and done.cwd.endswith("code{worker}")
    heads = [path.read_text().splitlines()[0] for path in (tmp_path / "out").rglob("*.out.txt")]
    assert {head[-1] for head in heads} <= set("01")


def test_programs_of_the_environment_come_first(
    code: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = tmp_path / "env"
    (env / "bin").mkdir(parents=True)
    (env / "bin/theirs").write_text('#!/bin/sh\necho "$VIRTUAL_ENV|$PYTHONPATH"\ncp copy.mp4 "$1"\n')
    (env / "bin/theirs").chmod(0o755)
    package = env / "lib/python3.7/site-packages/Torch-1.1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: Torch\nVersion: 1.1.0\n")
    monkeypatch.setenv("PYTHONPATH", "/ours")
    done = make(code, data, tmp_path / "out", text="theirs {out} {video} {audio}", env_dir=env, limit=1)
    assert done.made == 1 and done.environment == {"torch": "1.1.0"} and done.env_dir == str(env)
    assert f"{env}|\n" in (tmp_path / "out/logs/s0/a.out.txt").read_text()
    shutil.rmtree(package)
    with pytest.raises(BenchError, match=r"another generation \(other environment\)"):
        make(code, data, tmp_path / "out", text="theirs {out} {video} {audio}", env_dir=env, limit=1)


def test_a_shell_where_it_is_asked_for(code: Path, data: Path, tmp_path: Path) -> None:
    text = "test -s {video} && test -s {audio} && cp copy.mp4 {out}"
    assert make(code, data, tmp_path / "out", text=text, shell=True, limit=1).made == 1
    (code / "theirs").write_text('#!/bin/sh\ncp copy.mp4 "$1"\n')
    (code / "theirs").chmod(0o755)
    text = "./theirs {out} {video} {audio}"
    assert make(code, data, tmp_path / "path", text=text, limit=1).made == 1
    with pytest.raises(BenchError, match=r"^nowhere: no such program"):
        make(code, data, tmp_path / "other", text="nowhere {video} {audio} {out}")


def test_dubbing_and_lists(code: Path, data: Path, prepared: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = make(code, data, out, protocol="dubbing", seed=4)
    assert load_pairs(out / PAIRS, LENGTHS) == dubbing(LENGTHS, 4)
    assert (done.protocol, done.seed) == ("dubbing", 4) and from_dataset(
        {"x": out}, data
    ).protocol == "dubbing"
    with pytest.raises(BenchError, match=r"another generation \(other .*seed\)"):
        make(code, data, out, protocol="dubbing", seed=5)
    listed = tmp_path / "list.txt"
    listed.write_text("s0/b s1/c\ns1/c s0/a\ns0/b nowhere\n")
    done = make(code, None, tmp_path / "listed", call={"pairs": listed, "truth": prepared / "corpus"})
    assert videos(tmp_path / "listed") == ["0.mp4", "1.mp4"] and done.protocol == "dubbing"
    assert list(done.failures) == ["2"] and "the video of the pair is missing" in done.failures["2"]
    scored = from_pairs({"theirs": tmp_path / "listed"}, listed, prepared / "corpus")
    assert [job.candidates[0].problem == "" for job in scored.jobs] == [True, True, False]
    listed.write_text("s1/c s0/b\n")
    done = make(code, data, tmp_path / "both", call={"pairs": listed})
    assert videos(tmp_path / "both") == ["0.mp4"] and done.protocol == "dubbing"


OFFICIAL = """\
import sys, wave
import numpy as np
from prep.video_reading import frames
from prep.video_writing import write_video
face, audio, out = sys.argv[1:]
with wave.open(audio) as source:
    samples = np.frombuffer(source.readframes(source.getnframes()), "<i2")
write_video(out, [255 - frame for frame in frames(face)], samples=samples)
"""


def test_what_they_made_is_scored_under_a_name(
    code: Path, data: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code / "official.py").write_text(OFFICIAL)
    out = tmp_path / "videos"
    text = f"{sys.executable} official.py {{video}} {{audio}} {{out}}"
    done = make(code, data, out, text=text, workers=2)
    assert done.made == 3 and done.frames == sum(LENGTHS.values())
    for name, n in LENGTHS.items():
        numbers = [number_of(255 - frame) for frame in frames(out / f"{name}.mp4")]
        assert numbers == list(range(n)) and len(sound(out / f"{name}.mp4").samples) >= 640 * (n - 1)
    monkeypatch.setattr("bench.metrics.METRICS", NAMES)
    for where in (["--data", data], ["--truth", prepared / "corpus"]):
        result = tmp_path / f"scored{where[0]}"
        words = ["eval", "--pred", out, "--method-name", "Their Net", *where, "--out", result]
        words += ["--metrics", "fake.mean,fake.loudness", "--region", "full", "--device", "cpu", "--json"]
        shown = CliRunner().invoke(app, list(map(str, words)))
        assert shown.exit_code == 0, shown.stderr or shown.exception
        (row,) = json.loads(shown.stdout)["methods"]
        assert row["method"] == "Their Net" and [figure["scored"] for figure in row["figures"]] == [3, 3]


@pytest.mark.parametrize("words", [["a", "b"], ["x=a"], []])
def test_a_method_name_is_that_of_one_folder(words: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    call = ["eval", *words, "--method-name", "N", "--data", "data", "--out", "out"]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, BenchError) and "works with a single folder only" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--command", "run {video} {audio} {output}"], r"--command: unknown placeholder \{output\}"),
        (["--command", "run {video} {audio}"], r"--command: the command lacks \{out\} or \{out_dir\}"),
        (["--cwd", "nowhere"], r"nowhere is not a folder: give the checkout of the code with --cwd"),
        (["--cwd", "x{gpu}"], r"only \{worker\} can be used in it, not \{gpu\}"),
        (["--env-dir", "."], r"\. is not a virtual environment: it has no folder bin"),
        (["--protocol", "dub"], "did you mean dubbing"),
        (["--truth", "."], "give either --data or --truth, not both"),
        (["--split", "tets"], "did you mean test"),
    ],
)
def test_mistakes_are_one_line(
    code: Path, data: Path, tmp_path: Path, words: list[str], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(code)
    call = ["external", "theirs", "--data", data, "--out", tmp_path / "out"]
    if "--command" not in words:
        call += ["--command", COMMAND]
    done = CliRunner().invoke(app, list(map(str, [*call, *words])))
    assert isinstance(done.exception, (BenchError, PrepError))
    with pytest.raises(type(done.exception), match=match):
        raise done.exception
    assert "\n" not in str(done.exception) and not (tmp_path / "out").exists()


def test_other_peoples_folders_are_refused(code: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(code, data, out, limit=1)
    with pytest.raises(BenchError, match=r"another generation \(other commit\).*--overwrite"):
        make(code, data, out, limit=1, commit="newer")
    assert make(code, data, out, limit=1, commit="newer", call={"overwrite": True}).frames == 12
    (out / GENERATION).write_text('{"protocol": "reconstruction"}')
    with pytest.raises(BenchError, match=r"generation\.json is not of `bench external`, or damaged"):
        make(code, data, out)
    (out / GENERATION).unlink()
    with pytest.raises(BenchError, match=r"holds videos without generation\.json"):
        make(code, data, out)
    with pytest.raises(BenchError, match="'still' cannot name a method"):
        external("still", out, ExternalOptions(CommandTemplate(COMMAND)), data=data)
    with pytest.raises(BenchError, match="give --data, or --pairs with the folder of its files as --truth"):
        make(code, None, tmp_path / "new")
