"""Frozen expectations: what counts as drift."""

from __future__ import annotations

import math

import pytest
import typer
from typer.testing import CliRunner

from bench.cli import check as command
from bench.common.errors import BenchError
from bench.report import regression
from bench.results import Data, Figure, MethodResult, MetricInfo, OutputInfo, Provenance, Result, write_result


def _result(psnr: float = 30.0, scored: int = 4, spec_hash: str = "abc", ssim: float | None = 0.9) -> Result:
    def info(name: str, label: str, digest: str) -> MetricInfo:
        outputs = [OutputInfo(key="", label=label, better="higher")]
        return MetricInfo(name=name, summary="", spec_hash=digest, parameters={}, outputs=outputs)

    def figure(name: str, value: float | None) -> Figure:
        return Figure(region="full", metric=name, output=name, value=value, asked=4, scored=scored)

    figures = [figure("psnr.frame", psnr), figure("ssim.wang11", ssim)]
    return Result(
        data=Data(name="toy", kind="dataset", split="test", clips_sha256="0", clips=4),
        protocol="reconstruction",
        audio="prediction",
        regions=["full"],
        metrics=[info("psnr.frame", "PSNR", spec_hash), info("ssim.wang11", "SSIM", "def")],
        methods=[MethodResult(method="still", kind="trivial", figures=figures)],
        provenance=Provenance(
            suite_version="0",
            packages={},
            python="3.11",
            machine={},
            device="cpu",
            seed=0,
            created="2026-01-01T00:00:00+00:00",
            seconds=1.0,
        ),
    )


def test_same_result_has_no_drift():
    assert not regression.compare(regression.freeze(_result(), "first"), _result())


def test_another_detector_is_drift():
    ours = {"name": "facemesh", "digest": "0123456789ab"}
    result = _result().model_copy(update={"detector": ours})
    assert not regression.compare(regression.freeze(result, "first"), result)
    # One from before detectors had names is mediapipe's.
    (drift,) = regression.compare(regression.freeze(_result(), "first"), result)
    assert (drift.output, drift.expected) == ("detector", "mediapipe")
    assert drift.found == "facemesh (networks 0123456789ab)"


def test_drift_beyond_tolerance_is_named_with_its_reason():
    frozen = regression.freeze(_result(), "first")
    assert not regression.compare(frozen, _result(psnr=30.04))
    (drift,) = regression.compare(frozen, _result(psnr=30.2))
    assert (drift.method, drift.output, drift.expected, drift.found) == ("still", "psnr.frame", "30", "30.2")
    assert "FFmpeg" in drift.reason


def test_specification_coverage_and_absence_are_drift():
    frozen = regression.freeze(_result(), "first")
    assert "specification" in regression.compare(frozen, _result(spec_hash="xyz"))[0].reason
    assert regression.compare(frozen, _result(scored=3))[0].expected == "4/4 clips"
    assert regression.compare(frozen, _result(ssim=None))[0].found == "n/a"
    gone = _result()
    gone.methods[0].figures.pop()
    assert regression.compare(frozen, gone)[0].found == "absent"


def test_infinite_must_stay_infinite():
    frozen = regression.freeze(_result(psnr=math.inf), "first")
    assert not regression.compare(frozen, _result(psnr=math.inf))
    assert regression.compare(frozen, _result(psnr=80.0))


def test_update_needs_a_note_and_keeps_tolerances():
    with pytest.raises(BenchError, match="--note"):
        regression.freeze(_result(), " ")
    before = regression.freeze(_result(), "first")
    before.tolerances["psnr"] = regression.Tolerance(absolute=2.0, reason="measured")
    assert regression.freeze(_result(), "again", before).tolerances["psnr"].absolute == 2.0


def test_command_fails_with_a_diff_until_updated(tmp_path):
    app = typer.Typer()
    command.register(app)
    app.callback()(lambda: None)
    frozen = tmp_path / "toy.json"
    regression.write_expectation(frozen, regression.freeze(_result(), "first"))
    write_result(tmp_path, _result(psnr=12.5))
    words = ["check", str(tmp_path), "--against", str(frozen)]
    failed = CliRunner().invoke(app, words)
    assert failed.exit_code == 1 and "12.5" in failed.output
    assert CliRunner().invoke(app, [*words, "--update", "--note", "a new decoder"]).exit_code == 0
    assert regression.read_expectation(frozen).note == "a new decoder"
    assert CliRunner().invoke(app, words).exit_code == 0
