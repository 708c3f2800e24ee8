"""Means, intervals and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.eval.statistics import Value, bootstrap, mean_over_clips


def _figure(values, cap=None, seed=0):
    return mean_over_clips(values, "full", "psnr.frame", "psnr.frame", cap, seed)


def test_mean_and_coverage_count_what_failed():
    values = [Value("a", 1.0), Value("b", None, "no face"), Value("c", 3.0), Value("d", None, "no face")]
    figure = _figure(values)
    assert figure.value == 2.0
    assert (figure.asked, figure.scored) == (4, 2)
    assert figure.failures == {"no face": 2}


def test_nothing_scored_is_absent_and_not_zero():
    figure = _figure([Value("a", None, "no file")])
    assert figure.value is None and figure.low is None and figure.scored == 0


def test_identical_videos_are_infinite_and_capped_beside_others():
    inf = math.inf
    assert _figure([Value("a", inf), Value("b", inf)], cap=80.0).value == inf
    assert _figure([Value("a", inf), Value("b", 40.0)], cap=80.0).value == 60.0


def test_interval_covers_the_mean_at_its_rate():
    random = np.random.default_rng(3)
    hits = 0
    for trial in range(60):
        sample = random.normal(5.0, 2.0, 40)
        low, high = bootstrap(sample, seed=trial, name="x")
        hits += low <= 5.0 <= high
    assert 50 <= hits <= 60


def test_interval_depends_on_seed_alone():
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap(values, 1, "x") == bootstrap(values, 1, "x")
    assert bootstrap(values, 1, "x") != bootstrap(values, 2, "x")
    ordered = [Value(f"{i:02d}", float(v)) for i, v in enumerate(values)]
    assert _figure(ordered) == _figure(ordered[::-1])


@pytest.mark.parametrize("n", [0, 1])
def test_no_interval_from_fewer_than_two_clips(n):
    assert bootstrap(np.ones(n), 0, "x") is None
