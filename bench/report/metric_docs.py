"""Generates docs/metrics.md from the specifications: run ``python -m bench.report.metric_docs`` after a change."""

from __future__ import annotations

import json
from pathlib import Path

from bench.metrics import ALIASES, DEFAULT, METRICS, get_spec
from bench.metrics.base import Output, Spec
from bench.metrics.regions import REGIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

*Generated from the specifications in `bench/metrics/` by `python -m bench.report.metric_docs`; a test compares both.*

"SSIM" is not a definition: another window, another range of values, or a hidden down-sampling gives another figure.
Here a metric is a **variant** with a name and a specification. The hash of the specification is part of every result,
and results with different hashes are never put in one column. A short name stands for one default variant.

Every mean comes with the number of clips behind it, the number of clips asked for, and a 95 % bootstrap interval
**over clips**. A metric whose network is missing is `n/a`, with the command that fetches it; there are no substitutes.

"""


def render() -> str:
    """The page, Markdown."""
    lines = [_HEAD, "## Regions\n"]
    lines += [f"- `{name}`: {text}" for name, text in REGIONS.items()]
    lines.append(
        "\nBoxes come from the ground truth and are the same for every method. Figures without a region "
        "are listed under `clip`.\n"
    )
    lines += [
        "## Variants\n",
        "| variant | short name | figures | default | needs |",
        "| --- | --- | --- | --- | --- |",
    ]
    short = {name: alias for alias, name in ALIASES.items()}
    specs = [get_spec(name) for name in METRICS.entries]
    for spec in specs:
        figures = ", ".join(f"{o.label} {_ARROWS[o.better]}".strip() for o in spec.outputs).replace(
            "|", r"\|"
        )
        needs = ", ".join(
            [
                *(f"weights `{name}`" for name in spec.weights),
                *([f"extra `{spec.extra}`"] * bool(spec.extra)),
                *(["a run of `sync-expert`"] * ("sync_expert" in spec.needs)),
            ]
        )
        alias = f"`{short[spec.name]}`" if spec.name in short else ""
        default = "yes" if spec.name in DEFAULT else ("to explain only" if spec.quirk else "")
        lines.append(
            f"| [`{spec.name}`](#{_anchor(spec.name)}) | {alias} | {figures} | {default} | {needs} |"
        )
    for spec in specs:
        lines += ["", *_section(spec)]
    return "\n".join(lines).rstrip() + "\n"


_ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _section(spec: Spec) -> list[str]:
    lines = [
        f"## {spec.name}",
        "",
        f"{spec.summary[:1].upper()}{spec.summary[1:].rstrip('.')}.",
        "",
        spec.formula.strip(),
        "",
    ]
    lines += [f"- {_figure(spec, output)}" for output in spec.outputs]
    lines.append(f"- reference: {spec.reference}")
    lines.append(
        f"- specification `{spec.hash}`: " + "; ".join(f"{k} {_value(v)}" for k, v in spec.parameters.items())
    )
    kinds = ["compared frame by frame" if spec.paired else "defined for dubbing as well"]
    kinds.append("in every region" if spec.regions else "once per clip")
    kinds.append("mean over clips" if spec.aggregate == "mean" else "one figure of all frames together")
    lines.append(f"- {', '.join(kinds)}")
    if spec.traps:
        lines += ["", "Traps:", ""]
        lines += [f"- {trap}" for trap in spec.traps]
    return lines


def _figure(spec: Spec, output: Output) -> str:
    better = {"higher": "higher is better", "lower": "lower is better", "none": "neither end is better"}
    low = "−∞" if output.low is None else f"{output.low:g}"
    high = "∞" if output.high is None else f"{output.high:g}"
    unit = f", in {output.unit}" if output.unit else ""
    cap = (
        f"; infinite values count as {output.cap:g} in a mean with finite ones"
        if output.cap is not None
        else ""
    )
    return f"`{spec.id(output)}` ({output.label}){unit}: {better[output.better]}, {low} to {high}{cap}"


def _value(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
