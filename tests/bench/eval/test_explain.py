"""Which choice moves a number most."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from bench.clips.inputs import Inputs
from bench.clips.job import Candidate, Job, Take, Voice
from bench.eval import explain as explain
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


def _inputs(*lengths: int) -> Inputs:
    jobs = [
        Job(
            f"c{n}",
            Take(Path("truth.mp4"), start=10, stop=10 + n),
            n,
            (Path("shard"), 0),
            (Candidate("m", Take(Path("pred.mp4")), Voice(Path("shard"), row_group=0)), Candidate("still")),
        )
        for n in lengths
    ]
    return Inputs("x", "dataset", "test", "reconstruction", jobs)


def test_lengths_that_shorten_few_clips_are_left_out():
    clips = explain.clip_lengths(_inputs(30, 60, 90))
    assert clips == {"c30": 30, "c60": 60, "c90": 90}
    assert explain.worth_trying([75, 25, 50, 25], clips) == [25, 50]
    assert explain.worth_trying([25], {}) == []


def test_shortened_clips_keep_where_they_begin():
    (job,) = explain.shortened(_inputs(30, 60), 40, {"c60"}).jobs
    assert job.truth == Take(Path("truth.mp4"), start=10, stop=50)
    assert job.n_frames == 40 and job.shard == (Path("shard"), 0)
    made, still = job.candidates
    assert made.video == Take(Path("pred.mp4"), stop=40)
    assert made.audio == Voice(Path("shard"), stop=40, row_group=0)
    assert (still.video, still.audio) == (None, None)
    (whole,) = explain.shortened(_inputs(30), 40, {"c30"}).jobs
    assert whole.truth == Take(Path("truth.mp4"), start=10, stop=40) and whole.n_frames == 30


def test_lengths_are_compared_over_the_same_clips():
    def rows(**values: float | None) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {
                    "clip_id": clip,
                    "method": "m",
                    "region": "full",
                    "metric": "ssim.a",
                    "output": "ssim.a",
                    "value": value,
                    "reason": "" if value is not None else "no face",
                }
                for clip, value in values.items()
            ]
        )

    found = explain.by_length(
        _result(), {25: rows(a=0.5, b=None), None: rows(a=0.7, b=0.9, c=0.1)}, {"a", "b"}
    )
    assert [(e.frames, e.value, e.scored, e.clips) for e in found] == [
        (25, 0.5, 1, 2),
        (None, pytest.approx(0.8), 2, 2),
    ]
    assert {(e.variant, e.region, e.label, e.method) for e in found} == {("ssim.a", "full", "SSIM", "m")}
