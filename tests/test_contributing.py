"""The examples of CONTRIBUTING.md, as they stand there: added to a copy of the packages, and used."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import metrics
from bench.cli.listing import entries
from bench.common import methods
from bench.common.errors import BenchError
from models.registry import METHOD_GROUP, METRIC_GROUP, Registry
from prep import images
from prep.landmark_sets import LIPS
from prep.shards import read
from prep.video_reading import frames
from prep.video_writing import write_video
from prep.views import map_points
from tests.prep.fakes import fake_dataset

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FACE = ROOT / "tests" / "history" / "toy" / "mvlrs_v1" / "main" / "9000000000000000003" / "00001.mp4"
PACKAGES = ("bench", "prep", "models", "baselines", "leaderboards")
#: What is added → file, registry, its variable.
ADDED = {
    "A metric": ("bench/metrics/mae.py", "bench/metrics/__init__.py", "_OWN"),
    "A view": ("prep/views/lips96.py", "prep/views/__init__.py", "NAMES"),
    "A corpus": ("prep/sources/interviews.py", "prep/sources/__init__.py", "SOURCES"),
    "A method": ("models/mouth_colour.py", "models/__init__.py", "METHODS"),
}


def section(title: str) -> str:
    """The text under a heading of the third level."""
    (text,) = re.findall(rf"^### {title}\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def block(title: str, language: str, before: str = "") -> str:
    """The one block of a section whose last line before it holds ``before``."""
    blocks = re.findall(rf"^([^\n]*)\n\n```{language}\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    (code,) = [code for line, code in blocks if before in line]
    return str(code)


def append(path: Path, variable: str, line: str) -> None:
    """Put a line at the end of a tuple or dictionary of a module."""
    text = path.read_text("utf-8")
    (value,) = [
        node.value
        for node in ast.parse(text).body
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == variable
        )
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == variable)
    ]
    assert isinstance(value, ast.Dict | ast.Tuple) and value.end_lineno is not None
    lines = text.splitlines(keepends=True)
    assert lines[value.end_lineno - 1].strip() in ("}", ")"), "the bracket has no line of its own"
    lines.insert(value.end_lineno - 1, line)
    path.write_text("".join(lines), "utf-8")


def python(*words: object, cwd: Path, paths: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    """Run Python where the modules of some folders come before all others."""
    return _run([sys.executable, *map(str, words)], cwd, paths)


def shell(commands: str, cwd: Path, *paths: Path) -> str:
    """Run the commands of a block, all of which must succeed; what they printed."""
    start = f'set -eu\nbench() {{ "{sys.executable}" -m bench "$@"; }}\n'
    done = _run(["sh", "-c", start + commands], cwd, paths)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _run(words: list[str], cwd: Path, paths: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(words, cwd=cwd, env=around, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages in which all that the page adds stands: a new file and a new line each."""
    tree = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package)
    for title, (file, registry, variable) in ADDED.items():
        assert not (tree / file).exists()
        (tree / file).write_text(block(title, "python", f"New file `{file}`:"), "utf-8")
        line = block(title, "diff", f"One line at the end of `{variable}` in `{registry}`")
        assert line.startswith("+") and line.count("\n") == 1
        append(tree / registry, variable, line[1:])
    where = python("-c", "import bench; print(bench.__file__)", cwd=tree, paths=[tree]).stdout.strip()
    assert where == str(tree / "bench" / "__init__.py")
    return tree


def test_the_code_has_the_style_of_the_suite(tree: Path) -> None:
    pytest.importorskip("ruff", reason="the extra `dev` is not installed")
    files = [file for added in ADDED.values() for file in added[:2]]
    (tree / "test_mae.py").write_text(block("A metric", "python", "tests/bench/metrics/test_mae.py"), "utf-8")
    shutil.copy(ROOT / "pyproject.toml", tree)
    for words in (["check", *files], ["format", "--check", *files, "test_mae.py"]):
        done = python("-m", "ruff", *words, "--no-cache", cwd=tree, paths=[])
        assert done.returncode == 0, done.stdout + done.stderr


def write_grey_videos(folder: Path) -> None:
    for name, grey in (("truth", 130), ("ours", 100)):
        (folder / "videos" / name).mkdir(parents=True)
        write_video(folder / "videos" / name / "grey.mp4", [np.full((64, 64, 3), grey, np.uint8)] * 10)


def test_a_metric(tree: Path, tmp_path: Path) -> None:
    write_grey_videos(tmp_path)
    said = shell(block("A metric", "sh"), tmp_path, tree)
    label, figure = block("A metric", "text").split()
    assert figure == "30.00" and label in said and figure in said
    scored = pd.read_parquet(tmp_path / "result" / "clips.parquet")
    assert scored["value"].where(scored["metric"] == "mae.rgb").dropna().tolist() == [30.0]


def test_the_tests_of_a_metric(tree: Path, tmp_path: Path) -> None:
    test = tmp_path / "test_mae.py"
    test.write_text(block("A metric", "python", "tests/bench/metrics/test_mae.py"), "utf-8")
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path, test]
    done = python(*words, cwd=tmp_path, paths=[tree])
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
    shutil.copytree(tree / "bench", tmp_path / "wrong" / "bench")
    wrong = tmp_path / "wrong" / ADDED["A metric"][0]
    wrong.write_text(wrong.read_text("utf-8").replace("np.abs(", "("), "utf-8")
    assert "1 failed, 1 passed" in python(*words, cwd=tmp_path, paths=[tmp_path / "wrong", tree]).stdout


def test_the_page_of_metrics_is_remade(tree: Path) -> None:
    assert "`python -m bench.report.metric_docs`" in section("A metric")
    (tree / "docs").mkdir()
    done = python("-m", "bench.report.metric_docs", cwd=tree, paths=[tree])
    assert done.returncode == 0, done.stderr
    assert "Mean absolute error of RGB pixels" in (tree / "docs" / "metrics.md").read_text("utf-8")


def test_a_view(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(FACE, tmp_path / "videos" / "face.mp4")
    said = shell(block("A view", "sh"), tmp_path, tree)
    assert "lips96" in said and "the box of the lips and a quarter around it" in said
    (clip,) = read(tmp_path / "data", "test")
    assert list(clip.images) == ["lips96"] and all(clip.detected)
    assert images.decode(clip.images["lips96"][0]).shape == (96, 96, 3)
    # What the page says: a quarter of the lips' size around them, to whole pixels.
    lips = map_points(clip.landmarks[:, LIPS, :2], clip.transforms["lips96"])
    pixel = 96 * 2 / np.ptp(clip.landmarks[:, LIPS, :2], axis=1).min()
    assert np.abs(lips.min(axis=1) - 16).max() < pixel and np.abs(lips.max(axis=1) - 80).max() < pixel


def test_a_corpus(tree: Path, tmp_path: Path) -> None:
    for person in ("ann", "bob"):
        (tmp_path / "corpus" / person).mkdir(parents=True)
        shutil.copy(FACE, tmp_path / "corpus" / person / "01.mp4")
    (tmp_path / "corpus" / "test.txt").write_text("ann\n")
    said = shell(block("A corpus", "sh"), tmp_path, tree)
    assert "interviews: one folder a person" in said
    (clip,) = read(tmp_path / "data")
    assert (clip.clip_id, clip.split, clip.speaker, clip.dataset) == ("ann/01", "test", "ann", "interviews")
    (tmp_path / "empty").mkdir()
    words = ["-m", "bench", "prep", "interviews", "empty", "--out", "new", "--dry-run"]
    done = python(*words, cwd=tmp_path, paths=[tree])
    assert (
        done.returncode == 1
        and done.stderr == "error: no interview in empty: looked for <person>/<clip>.mp4\n"
    )


def train_two_steps(commands: str, folder: Path, *paths: Path) -> str:
    """Run the commands of the method's example, or some of them; what they printed."""
    fake_dataset(folder / "data", {"train": 4, "val": 2}, n_frames=21)
    shutil.copy(FACE, folder / "face.mp4")
    said = shell(commands, folder, *paths)
    assert "Mouth colour: Paints the lower half of the face in one colour that follows the sound" in said
    log = folder / "runs" / "mouth-colour" / "colour" / "log.jsonl"
    lines = map(json.loads, log.read_text("utf-8").splitlines())
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [2]
    return said


def test_a_method(tree: Path, tmp_path: Path) -> None:
    train_two_steps(block("A method", "sh"), tmp_path, tree)
    new, old = (list(frames(tmp_path / name)) for name in ("dubbed.mp4", "face.mp4"))
    assert len(new) >= len(old) == 27
    apart = np.abs(new[0].astype(int) - old[0]).mean(axis=2)
    assert (apart > 20).mean() > 0.05, "the lower half of the face is painted"
    assert apart[:10].mean() < 5, "what is above the face stays"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip has installed a package with the method and the metric of the page.

    Its presets are files.
    """
    source = tmp_path_factory.mktemp("package")
    (source / "pyproject.toml").write_text(block("A package of your own", "toml"), "utf-8")
    (source / "mouth_colours").mkdir()
    method = block("A method", "python", "New file")
    presets = re.compile(r"^    presets: .*\n", re.MULTILINE)
    assert presets.search(method)
    (source / "mouth_colours" / "method.py").write_text(presets.sub("", method), "utf-8")
    (source / "mouth_colours" / "metric.py").write_text(block("A metric", "python", "New file"), "utf-8")
    (source / "mouth_colours" / "__init__.py").write_text("")
    (source / "mouth_colours" / "paper.toml").write_text("[colour.train]\nbatch_size = 8\n")
    (source / "mouth_colours" / "tiny.toml").write_text("[colour.train]\nbatch_size = 2\nsteps = 2\n")
    return install(source, source / "site")


def install(source: Path, site: Path) -> Path:
    pytest.importorskip("pip", reason="this environment has no pip")
    words = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source]
    done = python("-m", "pip", "install", *words, cwd=source, paths=[])
    assert done.returncode == 0, done.stderr
    assert list(site.glob("*.dist-info/entry_points.txt"))
    return site


def test_a_package_brings_a_method(package: Path, tmp_path: Path) -> None:
    commands = block("A method", "sh").splitlines(keepends=True)
    said = train_two_steps("".join(commands[:2]), tmp_path, ROOT, package)
    assert said.index("sync-expert") < said.index("mouth-colour")
    config = json.loads((tmp_path / "runs" / "mouth-colour" / "config.json").read_text())
    assert config["preset"] == "tiny" and config["method_config"]["colour"]["train"]["batch_size"] == 2


def test_a_package_brings_a_metric(package: Path, tmp_path: Path) -> None:
    write_grey_videos(tmp_path)
    assert "30.00" in shell(block("A metric", "sh"), tmp_path, ROOT, package)
    said = shell("bench ls metrics", tmp_path, ROOT, package)
    assert "MAE↓: mean absolute error of RGB pixels" in said


def test_a_package_with_a_fault_is_named(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "unlucky"\nversion = "1"\n[tool.setuptools]\npy-modules = ["unlucky"]\n'
        f'[project.entry-points."{METHOD_GROUP}"]\n'
        'gone = "unlucky_gone:Method"\nbroken = "unlucky:Method"\nmouth-colour = "unlucky:Method"\n'
        f'[project.entry-points."{METRIC_GROUP}"]\n"broken.metric" = "unlucky:Metric"\n'
    )
    (tmp_path / "unlucky.py").write_text("raise RuntimeError('no such\\nlibrary')\n")
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.syspath_prepend(str(install(tmp_path, tmp_path / "site")))
    monkeypatch.setattr(methods, "METHODS", Registry(methods.METHODS.entries, group=METHOD_GROUP))
    monkeypatch.setattr(metrics, "METRICS", Registry(metrics.METRICS.entries, "metric", METRIC_GROUP))
    remedy = "update or uninstall that package"
    missing = "(ModuleNotFoundError: No module named 'unlucky_gone')"
    faults = {
        "gone": f"the method gone of the package unlucky cannot be imported {missing}: {remedy}",
        "broken": "the method broken of the package unlucky cannot be imported "
        f"(RuntimeError: no such library): {remedy}",
        "mouth-colour": "the method mouth-colour is in several packages, mouth-colours, unlucky: "
        "uninstall all but one",
    }
    for name, fault in faults.items():
        with pytest.raises(BenchError) as raised:
            methods.get_method(name)
        assert str(raised.value) == fault
    # They are said where all are listed, and hide no other.
    assert list(entries("methods")) == [*methods.METHODS.entries, *sorted(faults)]
    assert {name: line for name, line in entries("methods").items() if name in faults} == faults
    assert "of the package unlucky cannot be imported" in entries("metrics")["broken.metric"]
    assert "psnr.frame" in entries("metrics")
