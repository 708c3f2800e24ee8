"""Which choice moves a number most."""

from __future__ import annotations

import math
from itertools import pairwise

from bench import explain
from bench.metrics import get_spec
from bench.results import Data, Figure, MethodResult, MetricInfo, OutputInfo, Provenance, Result


def _result() -> Result:
    def info(name: str, **parameters: object) -> MetricInfo:
        outputs = [OutputInfo(key="", label="SSIM", better="higher")]
        return MetricInfo(name=name, summary="", spec_hash=name, parameters=parameters, outputs=outputs)

    def figure(name: str, region: str, value: float) -> Figure:
        return Figure(region=region, metric=name, output=name, value=value, asked=1, scored=1)

    figures = [
        figure("ssim.a", "full", 0.90),
        figure("ssim.a", "mouth", 0.60),
        figure("ssim.b", "full", 0.89),
        figure("ssim.c", "full", 0.70),
        figure("ssim.d", "full", math.inf),
    ]
    return Result(
        data=Data(name="x", kind="folders", clips_sha256="0", clips=1),
        protocol="reconstruction",
        audio="prediction",
        regions=["full", "mouth"],
        metrics=[
            info("ssim.a", window=11, channels="rgb"),
            info("ssim.b", window=7, channels="rgb"),
            info("ssim.c", window=7, channels="grey"),
            info("ssim.d", window=3, channels="rgb"),
        ],
        methods=[MethodResult(method="m", figures=figures)],
        provenance=Provenance(
            suite_version="0",
            packages={},
            python="3",
            machine={},
            device="cpu",
            seed=0,
            created="",
            seconds=0.0,
        ),
    )


def test_single_choices_are_found_and_ordered():
    found = explain.largest(explain.choices(_result()))
    assert [(c.name, round(c.difference, 3)) for c in found] == [
        ("region", -0.3),
        ("channels", -0.19),
        ("window", -0.01),
    ]


def test_variants_that_differ_in_two_choices_explain_nothing():
    pairs = [c.settings for c in explain.choices(_result())]
    assert not any("ssim.a" in x and "ssim.c" in y for x, y in pairs)


def test_each_step_to_atvgnets_psnr_is_one_choice():
    specs = [get_spec(name) for name in ("psnr.frame", "psnr.grey", "psnr.uint8")]
    changed = [
        {key for key in a.parameters if a.parameters[key] != b.parameters[key]} for a, b in pairwise(specs)
    ]
    assert changed == [{"channels"}, {"arithmetic"}]


def test_spread_leaves_infinite_values_out():
    assert explain.spread(explain.entries(_result())) == {("m", "SSIM"): (0.60, 0.90)}
