"""docs/metrics.md says what the specifications say."""

from __future__ import annotations

from bench.metrics import ALIASES, DEFAULT, METRICS, get_spec
from bench.report.metric_docs import PAGE, render


def test_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == render(), "run: python -m bench.report.metric_docs"


def test_every_variant_is_whole():
    for name in METRICS:
        spec = get_spec(name)
        assert spec.name == name and spec.outputs and spec.formula and spec.reference and spec.parameters
        assert not (spec.quirk and name in DEFAULT)
    assert len({get_spec(name).hash for name in METRICS}) == len(METRICS)
    assert set(ALIASES.values()) <= set(METRICS)


def test_variants_of_a_family_can_be_compared():
    """`bench explain` attributes differences to parameters, so a family must use the same ones."""
    for family in ("psnr", "ssim", "lpips", "fid", "csim", "lmd"):
        keys = {frozenset(get_spec(n).parameters) for n in METRICS if n.partition(".")[0] == family}
        assert len(keys) == 1, (family, keys)
