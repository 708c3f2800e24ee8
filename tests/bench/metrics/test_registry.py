"""Metrics by name: the suite's own, and those that other installed packages bring."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import metrics
from bench.common.errors import BenchError
from bench.metrics import METRICS, family, full_names, get_metric, get_spec
from models.registry import METRIC_GROUP, Registry
from prep.errors import PrepError

CODE = """
from bench.metrics.base import Metric, Output, Spec

class Brightness(Metric):
    spec = Spec(
        name="bright.mean", summary="", outputs=(Output("", "B", "none"),), parameters={}, formula="", reference=""
    )

    def meter(self, clip):
        raise NotImplementedError
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with a metric, one under a wrong name, and one whose module is gone."""
    (tmp_path / "foreign_metrics.py").write_text(CODE)
    info = tmp_path / "foreign_metrics-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-metrics\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{METRIC_GROUP}]\nbright.mean = foreign_metrics:Brightness\nbright.other = foreign_metrics:Brightness\n"
        "gone = foreign_metrics_gone:Metric\npsnr.frame = foreign_metrics:Brightness\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(metrics, "METRICS", Registry(METRICS.entries, "metric", METRIC_GROUP))
    monkeypatch.delitem(sys.modules, "foreign_metrics", raising=False)
    return "foreign_metrics"


def test_another_packages_metric_is_known_by_its_name(package: str) -> None:
    assert list(metrics.METRICS)[: len(METRICS.entries)] == list(METRICS.entries)
    assert package not in sys.modules
    assert get_metric("bright.mean").__module__ == package
    assert "bright.mean" in family("bright")


def test_a_name_of_the_suite_stays_the_suites(package: str) -> None:
    assert get_metric("psnr.frame").__module__ == "bench.metrics.psnr"


def test_another_packages_faults_are_one_line(package: str) -> None:
    with pytest.raises(BenchError, match=r"the metric bright.other calls itself bright.mean"):
        get_metric("bright.other")
    with pytest.raises(
        BenchError, match=r"the metric gone of the package foreign-metrics cannot be imported"
    ):
        get_metric("gone")


def test_an_unknown_name_is_met_with_the_nearest() -> None:
    for name, nearest in (
        ("psnr.frme", "psnr.frame"),
        ("ssmi", "ssim"),
        ("wang11", "ssim.wang11"),
        ("LSE-D", "lse"),
    ):
        with pytest.raises(PrepError, match=rf"unknown metric '{name.lower()}': did you mean {nearest}\?"):
            get_metric(name)


def test_capitals_and_repetitions_do_not_matter_in_names() -> None:
    assert full_names(["PSNR", "psnr.frame", " LipLMD", "lmd"]) == ("psnr.frame", "lmd.lip_norm")


def test_every_metric_has_the_name_under_which_it_is_entered() -> None:
    assert all(get_spec(name).name == name for name in METRICS.entries)
