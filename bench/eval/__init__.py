"""Scoring videos: planned, scored, summarised and written, in that order.

from bench.eval import evaluate
result = evaluate({"mine": Path("videos")}, data=Path("data/lrs2"), out=Path("results/mine"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.eval.evaluation import evaluate as evaluate
    from bench.eval.evaluation import evaluate_inputs as evaluate_inputs
    from bench.eval.plan import EvalOptions as EvalOptions
    from bench.eval.summarise import short_coverage as short_coverage

#: Public name → its module. Modules are imported at first use, since `bench --help` must be fast.
_HOMES = {
    "EvalOptions": "bench.eval.plan",
    "evaluate": "bench.eval.evaluation",
    "evaluate_inputs": "bench.eval.evaluation",
    "short_coverage": "bench.eval.summarise",
}
__all__ = ["EvalOptions", "evaluate", "evaluate_inputs", "short_coverage"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
