"""A package or a library of the system that is missing: one line with what to install, whatever the command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.cli.failing import one_line
from bench.common.errors import BenchError
from prep.installing import explain, install

#: Runs commands in one process in which the import of some modules fails, and prints how each ended.
_RUN = """
import contextlib, io, json, sys
hidden, commands = json.loads(sys.argv[1])

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name) if not hidden[name] else (
                ImportError(hidden[name]))

sys.meta_path.insert(0, Hide())
from bench.cli import main
ended = []
for words in commands:
    sys.argv = ["bench", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
    ended.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(ended))
"""


def run(hidden: dict[str, str], commands: Sequence[Sequence[str | Path]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each command; ``hidden``: module → message of its error."""
    words = json.dumps([hidden, [list(map(str, command)) for command in commands]])
    done = subprocess.run([sys.executable, "-c", _RUN, words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [tuple(ended) for ended in json.loads(done.stdout.splitlines()[-1])]


NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"


def test_without_libgl_every_command_says_in_one_line_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    folder = tmp_path / "videos"
    commands = [
        ["prep", "folder", folder, "--out", tmp_path / "data"],
        ["eval", folder, "--truth", folder, "--metrics", "psnr", "--out", tmp_path / "result"],
        ["dub", "wav2lip", "--run", tmp_path, "--video", "a.mp4", "--audio", "a.wav", "--out", "b.mp4"],
        ["train", "ipl", "--data", tmp_path, "--run", tmp_path / "run"],
        ["toy", tmp_path / "toy"],
        ["ls"],
        ["inspect", tmp_path],
        ["report", "--table", "iplap-table1"],
    ]
    *ended, reported = run({"cv2": NO_GL}, commands)
    assert reported[0] == 0 and "PSNR" in reported[1]  # it needs no pictures
    for code, _, err in ended:
        assert code == 1
        assert err.startswith(
            "error: the system library libGL.so.1 is missing: apt install libgl1 libglib2.0-0"
        )
        assert "opencv-contrib-python-headless" in err
        assert len(err.splitlines()) == 1


def test_without_libgl_doctor_reports_it_with_the_rest() -> None:
    ((code, out, err),) = run({"cv2": NO_GL, "torch": ""}, [["doctor"]])
    assert code == 1 and "error: the system library libGL.so.1 is missing: apt install" in err
    assert "error: the package torch is not installed" in err
    for part in ("machine", "packages", "folders of weights", "metrics that are n/a here", "psnr.frame"):
        assert part in out


def test_doctor_runs_without_the_packages_of_the_command_line() -> None:
    hidden = ("typer", "rich", "psutil", "packaging", "platformdirs", "numpy", "torch", "av")
    ((code, out, err),) = run(dict.fromkeys(hidden, ""), [["doctor"]])
    assert code == 1 and "error: the package numpy is not installed" in err
    assert "machine" in out and "metrics that are n/a here" in out


def test_a_missing_package_is_one_line_in_the_commands_that_need_it() -> None:
    ((code, _, err),) = run({"typer": ""}, [["ls"]])
    assert (code, err) == (1, f"error: the package typer is not installed: {install()}\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("libgthread-2.0.so.0: cannot open shared object file: No such file"), "libglib2.0-0"),
        (OSError("libgomp.so.1: cannot open shared object file: No such file or directory"), "apt install libgomp1"),
        (ImportError("libfoo-1.2.so.3: cannot open shared object file"), "apt-file search libfoo-1.2.so.3"),
        (ImportError("cannot import name 'x' from 'y'", name="y"), "y cannot be imported"),
    ],
)  # fmt: skip
def test_what_to_install_is_named(error: Exception, said: str) -> None:
    line = one_line(error)
    assert line is not None and said in line and "\n" not in line


def test_a_registry_passes_the_remedy_on() -> None:
    try:
        try:
            raise ImportError(NO_GL)
        except ImportError as error:
            raise BenchError(str(error)) from None
    except BenchError as error:
        assert "apt install libgl1" in (one_line(error) or "")


def test_errors_of_the_suite_itself_keep_their_traceback() -> None:
    assert explain(ModuleNotFoundError("No module named 'bench.nowhere'", name="bench.nowhere")) is None
    assert one_line(ValueError("a fault of ours")) is None
    assert one_line(OSError("no file is named")) is None
