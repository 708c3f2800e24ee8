"""Results to print, without an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from bench.clips.job import TRIVIAL
from bench.results import Data, Figure, MethodResult, MetricInfo, Missing, OutputInfo, Provenance, Result

#: Metric → its figures: (key, label, direction, unit, decimals).
METRICS: dict[str, list[tuple[str, str, str, str, int]]] = {
    "psnr.frame": [("", "PSNR", "higher", "dB", 2)],
    "mse": [("", "MSE", "lower", "", 4)],
    "ssim.wang11": [("", "SSIM", "higher", "", 4)],
    "lpips.alex": [("", "LPIPS", "lower", "", 4)],
    "fid.pytorch_fid": [("", "FID", "lower", "", 2)],
    "csim.arcface_aligned": [("", "CSIM", "higher", "", 4)],
    "lmd.lip_norm": [("", "LipLMD", "lower", "", 5)],
    "lse.lrs": [("d", "LSE-D", "lower", "", 3), ("c", "LSE-C", "higher", "", 3)],
    "lse.tracked": [("d", "LSE-D", "lower", "", 3), ("c", "LSE-C", "higher", "", 3)],
    "syncscore": [("", "SyncScore", "higher", "", 3)],
}
#: Metrics without regions.
CLIP_WIDE = ("lse.lrs", "lse.tracked", "syncscore")


def figure(
    output: str,
    value: float | None,
    region: str = "full",
    asked: int = 45,
    scored: int | None = None,
    failures: Mapping[str, int] | None = None,
) -> Figure:
    """One figure; its interval is a tenth of the value wide."""
    metric = next(name for name in METRICS if output == name or output.rpartition(".")[0] == name)
    finite = value is not None and abs(value) != float("inf")
    return Figure(
        region="clip" if metric in CLIP_WIDE else region,
        metric=metric,
        output=output,
        value=value,
        low=value * 0.95 if finite and value is not None else None,
        high=value * 1.05 if finite and value is not None else None,
        interval="bootstrap" if finite else "",
        asked=asked,
        scored=asked if scored is None else scored,
        failures=dict(failures or {}),
    )


def method(name: str, figures: Mapping[str, float | None] | Sequence[Figure], **words: str) -> MethodResult:
    """A row; trivial where its name is one of the trivial rows."""
    trivial = name in TRIVIAL
    rows = [figure(k, v) for k, v in figures.items()] if isinstance(figures, Mapping) else list(figures)
    return MethodResult(method=name, kind="trivial" if trivial else "method", figures=rows, **words)


def result(
    methods: Sequence[MethodResult],
    dataset: str = "lrs2",
    protocol: Literal["reconstruction", "dubbing"] = "reconstruction",
    metrics: Sequence[str] | None = None,
    missing: Sequence[Missing] = (),
    spec_hash: str = "0123456789ab",
    clips_sha256: str = "c" * 64,
    commit: str = "d" * 40,
) -> Result:
    """An evaluation of ``methods``; its metrics are those that they have figures of, unless told otherwise."""
    found = dict.fromkeys(f.metric for m in methods for f in m.figures)
    return Result(
        data=Data(
            name=dataset,
            kind="dataset",
            split="test",
            manifest_sha256="a" * 64,
            clips_sha256=clips_sha256,
            clips=45,
        ),
        protocol=protocol,
        audio="prediction",
        regions=["full", "face"],
        metrics=[_metric(name, spec_hash) for name in (found if metrics is None else metrics)],
        missing=list(missing),
        methods=list(methods),
        provenance=Provenance(
            suite_version="0.1.0",
            git_commit=commit,
            packages={"numpy": "1.26.4"},
            python="3.11.0",
            machine={"system": "Linux"},
            device="cpu",
            seed=0,
            created="2026-01-02T03:04:05+00:00",
            seconds=1.5,
        ),
    )


def _metric(name: str, spec_hash: str) -> MetricInfo:
    keys = ("key", "label", "better", "unit", "decimals")
    outputs = [OutputInfo.model_validate(dict(zip(keys, row, strict=True))) for row in METRICS[name]]
    weights = {"alexnet": "f" * 64} if name == "lpips.alex" else {}
    return MetricInfo(
        name=name,
        summary=f"what {name} is",
        spec_hash=spec_hash,
        parameters={"window": 11},
        outputs=outputs,
        weights=weights,
    )
