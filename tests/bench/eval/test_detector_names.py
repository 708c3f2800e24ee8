"""Which detector an evaluation has: recorded, never mixed with another, nor its landmarks with those of another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.app import app
from bench.clips.inputs import Inputs, from_dataset, from_folders, with_trivial
from bench.clips.job import Job
from bench.common.errors import BenchError, Unavailable
from bench.eval import EvalOptions, evaluate, evaluate_inputs
from bench.eval.faces import Faces
from bench.eval.plan import EvalPlan, plan_evaluation
from bench.metrics import METRICS
from bench.metrics.base import ClipInfo, Meter, Metric, Output, Spec
from bench.report.tables import build_table
from bench.results import Result, read_result
from bench.weights.store import WeightStore
from prep import detectors
from prep.detectors import identity
from prep.errors import PrepError
from prep.shards import MANIFEST, read_manifest
from tests.bench.eval.videos import drifting, write_lossless
from tests.prep.fakes import fake_clip, write_fake_dataset

HISTORY = Path(__file__).parents[2] / "history"
STORE = WeightStore({}, [])
PACKAGE = {"package": "mediapipe", "version": "0.10.21"}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package counts as installed."""
    monkeypatch.setattr(detectors, "_carrier", lambda name: PACKAGE if name == "mediapipe" else {})


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    write_lossless(tmp_path / "truth" / "c.mp4", drifting(6, 32, 48))
    return tmp_path / "truth"


def scored(truth: Path, out: Path, detector: str) -> Result:
    inputs = with_trivial(from_folders({"mine": truth}, truth), ["still"])
    return evaluate_inputs(inputs, out, EvalOptions(("psnr.frame",), ("full",), detector=detector), STORE)


def test_a_result_names_its_detector_and_stands_apart_from_others(truth: Path, tmp_path: Path) -> None:
    ours, package = (scored(truth, tmp_path / name, name) for name in ("facemesh", "mediapipe"))
    digest = identity("facemesh")["digest"]
    assert read_result(tmp_path / "facemesh").detector == {"name": "facemesh", "digest": digest}
    assert package.detector == {"name": "mediapipe", "digest": digest, **PACKAGE}
    apart = f"detector: facemesh (networks {digest}) and mediapipe (networks {digest}, mediapipe 0.10.21)"
    assert ours.differences(package) == [apart]
    table = build_table("default", [ours, package])
    assert len(table.blocks) == 2 and any(apart in note.text for note in table.footnotes)
    notes = [next(note for note in block.notes if note.startswith("Landmarks")) for block in table.blocks]
    assert notes == [
        f"Landmarks: facemesh (networks {digest}).",
        f"Landmarks: mediapipe (networks {digest}, mediapipe 0.10.21).",
    ]


def test_results_from_before_names_count_as_mediapipe(truth: Path, tmp_path: Path) -> None:
    old = read_result(HISTORY / "result")
    assert old.detector == {}
    for name, same in (("mediapipe", True), ("facemesh", False)):
        new = old.model_copy(update={"detector": scored(truth, tmp_path / name, name).detector})
        assert (not old.differences(new), not new.differences(old)) == (same, same)
        assert len(build_table("default", [old, new]).blocks) == (1 if same else 2)


def test_another_detector_is_another_evaluation(truth: Path, tmp_path: Path) -> None:
    scored(truth, tmp_path / "out", "facemesh")
    with pytest.raises(BenchError, match=r"holds another evaluation \(other detector\)"):
        scored(truth, tmp_path / "out", "mediapipe")
    stamp = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert stamp["detector"] == identity("facemesh")


def test_an_unknown_name_is_one_line(truth: Path, tmp_path: Path) -> None:
    with pytest.raises(PrepError, match="unknown detector 'facemsh': did you mean facemesh"):
        evaluate({"mine": truth}, truth=truth, out=tmp_path / "out", detector="facemsh")
    words = ["eval", f"mine={truth}", "--truth", str(truth), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--detector", "facemsh"])
    assert done.exit_code != 0 and "did you mean facemesh" in f"{done.output}{done.exception}"


# Landmarks of a data set --------------------------------------------------------------------------------------------


def plan(inputs: Inputs, detector: str, metrics: tuple[str, ...] = ("psnr.frame",)) -> EvalPlan:
    return plan_evaluation(inputs, EvalOptions(metrics, ("full",), detector=detector), STORE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set whose landmarks are ours, with its source video."""
    clip = fake_clip("ann/a", 8, split="test")
    write_fake_dataset(tmp_path / "data", [clip])
    write_lossless(tmp_path / "corpus" / clip.source, drifting(8, clip.height, clip.width))
    return tmp_path / "data"


@pytest.mark.parametrize("recorded", ["facemesh", "mediapipe", None])
@pytest.mark.parametrize("detector", ["facemesh", "mediapipe"])
def test_landmarks_of_a_data_set_are_used_if_the_same_detector_found_them(
    data: Path, recorded: str | None, detector: str
) -> None:
    manifest = read_manifest(data)
    if recorded != "facemesh":
        manifest["options"] = {"detector": recorded} if recorded else {}
        (data / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    inputs = from_dataset({}, data, "test", data.parent / "corpus")
    assert all(job.shard is not None for job in inputs.jobs)
    found = plan(with_trivial(inputs, ["still"]), detector)
    used = all(job.shard is not None for job in found.inputs.jobs)
    assert used == ((recorded or "mediapipe") == detector)
    assert found.setup.build().detector == found.engine.detector == detector


def test_other_networks_under_the_same_name_are_another_detector(data: Path) -> None:
    manifest = read_manifest(data)
    manifest["options"]["detector_digest"] = "0123456789ab"
    (data / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    inputs = from_dataset({}, data, "test", data.parent / "corpus")
    assert all(job.shard is None for job in plan(with_trivial(inputs, ["still"]), "facemesh").inputs.jobs)


def test_the_old_data_set_is_scored_by_either(tmp_path: Path) -> None:
    shutil.copytree(HISTORY / "data", tmp_path / "data")
    inputs = from_dataset({}, tmp_path / "data", "val", HISTORY / "toy")
    assert inputs.detector == {"name": "mediapipe", **PACKAGE}
    for detector, used in (("mediapipe", True), ("facemesh", False)):
        jobs: list[Job] = plan(with_trivial(inputs, ["still"]), detector).inputs.jobs
        assert all((job.shard is not None) == used for job in jobs)


class Afterwards(Metric):
    """Needs the truth's landmarks, not those of the prediction."""

    spec = Spec(
        "afterwards",
        "",
        (Output("", "X", "none"),),
        {},
        "",
        "",
        needs=frozenset({"truth", "truth_landmarks"}),
    )

    def meter(self, clip: ClipInfo) -> Meter:
        raise NotImplementedError


@pytest.mark.parametrize("metric", ["lmd.mean68", "afterwards"])
def test_metrics_of_landmarks_are_missing_without_the_detector(
    data: Path, monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    def none(self: Faces, detector: str, device: str) -> None:
        raise Unavailable(f"landmarks cannot be found: no {detector}")

    monkeypatch.setattr(Faces, "__init__", none)
    monkeypatch.setitem(METRICS.entries, "afterwards", f"{__name__}:Afterwards")
    inputs = with_trivial(from_dataset({}, data, "test", data.parent / "corpus"), ["still"])
    found = plan(inputs, "mediapipe", ("psnr.frame", metric))
    assert [(m.metric, m.reason) for m in found.missing] == [
        (metric, "landmarks cannot be found: no mediapipe")
    ]
    assert list(found.metrics) == ["psnr.frame"] == list(found.setup.metrics)
    # Those of the data set are ours: it has all that the metric needs.
    known = [m.metric for m in plan(inputs, "facemesh", ("psnr.frame", metric)).missing]
    assert known == (["lmd.mean68"] if metric == "lmd.mean68" else [])
    plan_evaluation(inputs, EvalOptions(("psnr.frame",)), STORE)
    with pytest.raises(BenchError, match=r"the regions face and mouth need landmarks .*no mediapipe"):
        plan_evaluation(inputs, EvalOptions(("psnr.frame",), detector="mediapipe"), STORE)
