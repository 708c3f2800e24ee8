"""The metric variants, by name; a family's file is imported when one of its variants is first used.

Other packages bring theirs through entry points of the group ``talking_face_bench.metrics``: the name of the variant
leads to ``module:class``, as here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.common.errors import BenchError
from models.registry import METRIC_GROUP, Registry

if TYPE_CHECKING:
    from bench.metrics.base import Metric, Spec

#: Name → where its class lies. The order is that of tables; those of other packages come last.
_OWN: dict[str, str] = {
    "psnr.frame": "bench.metrics.psnr:PsnrFrame",
    "psnr.video": "bench.metrics.psnr:PsnrVideo",
    "psnr.grey": "bench.metrics.psnr:PsnrGrey",
    "psnr.uint8": "bench.metrics.psnr:PsnrUint8",
    "mse": "bench.metrics.psnr:Mse",
    "ssim.wang11": "bench.metrics.ssim:SsimWang11",
    "ssim.skimage7": "bench.metrics.ssim:SsimSkimage7",
    "ssim.piq": "bench.metrics.ssim:SsimPiq",
    "ssim.grey": "bench.metrics.ssim:SsimGrey",
    "lpips.alex": "bench.metrics.lpips:LpipsAlex",
    "lpips.vgg": "bench.metrics.lpips:LpipsVgg",
    "lpips.alex_01": "bench.metrics.lpips:LpipsAlexUnit",
    "fid.pytorch_fid": "bench.metrics.fid:FidPytorchFid",
    "fid.clean": "bench.metrics.fid:FidClean",
    "fid.at128": "bench.metrics.fid:FidAt128",
    "fid.batch96": "bench.metrics.fid:FidBatches",
    "csim.arcface_aligned": "bench.metrics.csim:CsimArcfaceAligned",
    "csim.frame112": "bench.metrics.csim:CsimFrame112",
    "csim.dlib": "bench.metrics.csim:CsimDlib",
    "csim.vico_pairs": "bench.metrics.csim:CsimVicoPairs",
    "lmd.chen_sum20": "bench.metrics.lmd:LmdChenSum20",
    "lmd.chen_mean": "bench.metrics.lmd:LmdChenMean",
    "lmd.chen_dlib": "bench.metrics.lmd:LmdChenDlib",
    "lmd.vico_l1": "bench.metrics.lmd:LmdViCo",
    "lmd.mean68": "bench.metrics.lmd:LmdMean68",
    "lmd.lip_norm": "bench.metrics.lmd:LmdLipNorm",
    "landmark_error": "bench.metrics.lmd:LandmarkError",
    "lse.lrs": "bench.metrics.lse:LseLrs",
    "lse.tracked": "bench.metrics.lse:LseTracked",
    "lse.expert": "bench.metrics.lse_expert:LseExpert",
    "syncscore": "bench.metrics.lse:SyncScore",
    "sync.cca": "bench.metrics.sync_cca:SyncCca",
}

METRICS = Registry(_OWN, "metric", METRIC_GROUP)

#: Short names: one default each. Where two lead to one variant, the last is the one that lists show.
ALIASES: dict[str, str] = {
    "psnr": "psnr.frame",
    "ssim": "ssim.wang11",
    "lpips": "lpips.alex",
    "fid": "fid.pytorch_fid",
    "csim": "csim.arcface_aligned",
    "lmd": "lmd.lip_norm",
    "liplmd": "lmd.lip_norm",
    "lse": "lse.lrs",
}

#: What `bench eval` computes if no metrics are named.
DEFAULT: tuple[str, ...] = (
    "psnr.frame",
    "ssim.wang11",
    "lpips.alex",
    "fid.pytorch_fid",
    "csim.arcface_aligned",
    "csim.dlib",
    "lmd.lip_norm",
    "lmd.mean68",
    "lse.lrs",
    "sync.cca",
)


def full_names(names: Sequence[str]) -> tuple[str, ...]:
    """Replace short names by full names of variants; capitals and small letters are the same.

    Raises:
        PrepError: a name is unknown; the message proposes the nearest, full or short.
    """
    from prep.names import known

    found = known("metric", [name.lower() for name in names], (*ALIASES, *METRICS))
    return tuple(dict.fromkeys(ALIASES.get(name, name) for name in found))


def get_metric(name: str) -> type[Metric]:
    """The class of a variant, by its name or its short name.

    Raises:
        PrepError: there is none of that name.
        BenchError: another package's cannot be imported, or the class has another name.
    """
    (name,) = full_names([name])
    try:
        found: type[Metric] = METRICS[name]
    except ImportError as error:
        raise BenchError(str(error)) from error
    own = getattr(getattr(found, "spec", None), "name", None)
    if own != name:
        raise BenchError(f"the metric {name} calls itself {own}: it must be entered under its own name")
    return found


def get_spec(name: str) -> Spec:
    """The specification of a variant, by its name or its short name."""
    return get_metric(name).spec


def family(name: str) -> list[str]:
    """All variants of a family: ``lse`` → ``lse.lrs``, ``lse.tracked`` … Raises ``PrepError`` for an unknown one."""
    from prep.names import known

    families: dict[str, list[str]] = {}
    for variant in METRICS:
        families.setdefault(variant.partition(".")[0], []).append(variant)
    (name,) = known("metric", [name.partition(".")[0]], families)
    return families[name]
