"""Distances between landmarks of the prediction and of the truth.

"LMD" is the name of a dozen figures that differ by factors of up to twenty. Here each is a
:class:`~bench.metrics.landmark_distance.Definition`: the points and their detector, centred or not, the norm, sum or
mean over points, and the unit.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.common.errors import Unscorable
from bench.metrics.base import Batch, ClipInfo, Context, Meter, Metric, Output, Pictures, Score, Spec
from bench.metrics.dlib_identity import EXTRA, POINTS_68, DlibFaces
from bench.metrics.landmark_distance import (
    POINTS,
    Definition,
    Float,
    face_boxes,
    faces_of,
    has_face,
    landmark_distance,
    scored_frames,
)

#: Side in pixels of the images in which ATVGnet and IP-LAP generate a face. The face fills the image.
FACE_PIXELS = 128


class _Meter(Meter):
    def __init__(self, metric: LandmarkMetric) -> None:
        self._metric = metric
        self._pred: list[npt.NDArray[Any]] = []
        self._truth: list[npt.NDArray[Any]] = []
        self._boxes: list[Float] = []

    def update(self, batch: Batch) -> None:
        _, landmarks, truth = faces_of(batch)
        self._truth.append(self._metric.points(truth, landmarks))
        same = batch.pred is truth
        self._pred.append(self._truth[-1] if same else self._metric.points(batch.pred, landmarks))
        self._boxes.append(truth.shared("face boxes", lambda: face_boxes(landmarks)))

    def finish(self) -> Score:
        if not self._truth:
            raise Unscorable("no frames")
        pred, truth = np.concatenate(self._pred), np.concatenate(self._truth)
        both = scored_frames(has_face(pred), has_face(truth))
        series = landmark_distance(pred, truth, np.concatenate(self._boxes), self._metric.definition)
        return Score(
            {"": float(series[both].mean())},
            {"": series.astype(np.float32)},
            notes={"frames_without_face": int((~both).sum())},
        )


class LandmarkMetric(Metric):
    """The mean over a clip's frames of :func:`landmark_distance`, for one :class:`Definition`."""

    definition: ClassVar[Definition]

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter that stores the points of the clip's frames; about 500 kB for 10 s."""
        return _Meter(self)

    def points(self, pictures: Pictures, face: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The points of some frames.

        Args:
            pictures: frames of one of the two videos, with landmarks.
            face: (n, 478, 3), the truth's landmarks in the same frames.

        Returns:
            (n, k, 2), pixels of the frame, NaN where there is no face.
        """
        assert pictures.landmarks is not None
        return pictures.landmarks[:, POINTS[self.definition.points], :2]


def _spec(name: str, label: str, definition: Definition, *, decimals: int = 3, **words: Any) -> Spec:
    unit = "" if definition.size == 1 and definition.unit != "frame" else "px"
    return Spec(
        name=name,
        outputs=(Output("", label, "lower", unit=unit, low=0.0, decimals=decimals),),
        parameters=asdict(definition),
        needs=frozenset({"truth", "landmarks"}),
        regions=False,
        detects=definition.detector == "FaceMesh",
        **words,
    )


_DETECTORS = (
    "Detectors differ: FaceMesh's mouth follows a 3-D face model, dlib's is a regression on the image, and FAN gives "
    "whole pixels of its own crop. Do not compare values of different detectors in one column."
)
_SCALE = (
    "Most papers give pixels without the size of the face; the figure grows with the image. Here the truth's face is "
    f"scaled to {FACE_PIXELS} px."
)
_SUM = (
    "The code sums over 20 points; the paper (Chen et al., ECCV 2018) divides by their number. Published LMDs "
    "of 1 to 3 are means: a sum of that size would be a tenth of a pixel per point."
)
_CHEN = Definition("mouth20", centred=True, over_points="sum", unit="face height", size=FACE_PIXELS)
_CHEN_FORMULA = (
    r"$\frac1T\sum_t\sum_{p=48}^{67}\lVert(\hat x_{tp}-\bar{\hat x}_t)-(x_{tp}-\bar x_t)\rVert_2\cdot"
    r"\frac{128}{h}$ with the mouth's mean $\bar x_t$ and the median height $h$ of the truth's face box"
)
_CHEN_SIZE = (
    "ATVGnet's script finds landmarks in the 128² images that its network generates: the square of dlib's detector, "
    "filled by the face. It does not resize them for LMD (its 256² is for SSIM and PSNR)."
)


class LmdChenSum20(LandmarkMetric):
    """LMD as ATVGnet's code computes it: mouth shape, summed over 20 points."""

    definition = _CHEN
    spec = _spec(
        "lmd.chen_sum20",
        "LMD-Σ20",
        definition,
        summary="distance of the centred mouths, summed over 20 points, px at a face of 128 px (ATVGnet's code)",
        formula=_CHEN_FORMULA,
        reference="lelechen63/ATVGnet, evaluation_matrix.py, with FaceMesh in place of dlib",
        traps=(_SUM, _CHEN_SIZE, _DETECTORS),
    )


class LmdChenMean(LandmarkMetric):
    """LMD by the formula of its paper: mouth shape, mean over 20 points."""

    definition = Definition("mouth20", centred=True, over_points="mean", unit="face height", size=FACE_PIXELS)
    spec = _spec(
        "lmd.chen_mean",
        "LMD",
        definition,
        summary="distance of the centred mouths, mean over 20 points, px at a face of 128 px (the paper's formula)",
        formula=rf"$\frac1{{20}}$ of lmd.chen_sum20: {_CHEN_FORMULA}",
        reference="Chen et al., ECCV 2018, as it is commonly read; FaceMesh in place of dlib",
        traps=(_SUM, _CHEN_SIZE, _DETECTORS),
        quirk=True,
    )


class LmdChenDlib(LandmarkMetric):
    """LMD of ATVGnet's code with its own landmark predictor, dlib's."""

    definition = Definition(
        "mouth20", centred=True, over_points="sum", unit="face height", size=FACE_PIXELS, detector="dlib68"
    )
    spec = _spec(
        "lmd.chen_dlib",
        "LMD-Σ20 (dlib)",
        definition,
        summary="lmd.chen_sum20 on dlib's 68 points, the predictor of ATVGnet's code",
        formula=_CHEN_FORMULA,
        reference="lelechen63/ATVGnet, evaluation_matrix.py; the square for both videos comes from the truth",
        traps=(
            _SUM,
            _CHEN_SIZE,
            "The reference runs dlib's detector on both images, uses the last face in its list, and drops a "
            "frame where it finds none. That detector is not run here: the square comes from the truth's "
            "FaceMesh, for both videos.",
            "dlib gives whole pixels: here of the frame, in the reference of the 128² image, where rounding alone adds "
            "up to half a pixel per point.",
        ),
        extra=EXTRA,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._dlib = DlibFaces([POINTS_68])

    def points(self, pictures: Pictures, face: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Points 48 to 67 of dlib's predictor where both FaceMeshes see a face; see the base class."""

        def predict() -> Float:
            assert pictures.landmarks is not None
            found = np.full((len(pictures), 20, 2), np.nan)
            for i in np.flatnonzero(has_face(face) & has_face(pictures.landmarks)):
                found[i] = self._dlib.points68(pictures.array[i], face[i])[48:]
            return found

        return pictures.shared("dlib68 mouth", predict)


class LmdMean68(LandmarkMetric):
    """F-LMD: all 68 points, not centred."""

    definition = Definition("ibug68", centred=False, over_points="mean", unit="face height", size=FACE_PIXELS)
    spec = _spec(
        "lmd.mean68",
        "F-LMD",
        definition,
        summary="distance of the face's 68 points, mean, not centred, px at a face of 128 px",
        formula=(
            r"$\frac1{68T}\sum_t\sum_p\lVert\hat x_{tp}-x_{tp}\rVert_2\cdot\frac{128}{h}$ with the median height $h$ "
            "of the truth's face box"
        ),
        reference="F-LMD as the term is commonly used; no single reference implementation",
        traps=(
            "Not centred: a head in the wrong place or pose counts, often more than the lips.",
            "EAT's script (yuangan/evaluation_eat, test_lmd.py) uses the name F-LMD for the same mean over dlib's 68 "
            "points, but subtracts the face's mean first, so a displaced face does not count there.",
            _SCALE,
            _DETECTORS,
        ),
    )


class LmdLipNorm(LandmarkMetric):
    """LipLMD of IP-LAP: lips in units of the face box."""

    definition = Definition("lips40", centred=False, over_points="mean", unit="face box", size=1)
    spec = _spec(
        "lmd.lip_norm",
        "LipLMD",
        definition,
        summary="distance of the lips' 40 points in units of the truth's face box, mean (IP-LAP's LipLMD)",
        decimals=5,
        formula=(
            r"$\frac1{40T}\sum_t\sum_p\left\lVert\left(\frac{\hat x_{tp}-x_{tp}}{w_t},"
            r"\frac{\hat y_{tp}-y_{tp}}{h_t}\right)\right\rVert_2$ with width $w_t$ and height $h_t$ of the truth's "
            "face box in that frame"
        ),
        reference=(
            "Zhong et al., CVPR 2023, section 4.2: “normalized lip landmarks distance”, after Xie et al., ACM MM 2021; "
            "no code was released. The normaliser is inferred: IP-LAP's code gives landmarks in units of the face's "
            "box, and its Table 1 fits them. Up to 0.31 for displaced faces excludes centred lips; 0.013 for its own "
            "method lies between FaceMesh's jitter (0.004 to 0.008 of the box on real clips) and the lips of another "
            "moment on the right head (0.023 to 0.050). In units of the mouth's width it would be less than the jitter."
        ),
        traps=(
            "The normaliser is not in the paper: compare with its Table 1 in size only.",
            "Not centred: a still head scores 0.05 to 0.18 on moving ones, even if its lips are right.",
            "ViCo's script, linked from IP-LAP's page, does not normalise: lmd.vico_l1.",
        ),
    )


class LmdViCo(LandmarkMetric):
    """LMD of the ViCo challenge 2022: absolute differences of lip coordinates in pixels of the frame."""

    definition = Definition("mouth20", centred=False, over_points="mean", unit="frame", size=1, norm="l1")
    spec = _spec(
        "lmd.vico_l1",
        "LMD-L1",
        definition,
        summary="absolute difference of the mouth's coordinates, mean, in pixels of the frame (ViCo's code)",
        formula=(
            r"$\frac1{T}\sum_t\frac1{40}\sum_{p=48}^{67}\left(|\hat x_{tp}-x_{tp}|+|\hat y_{tp}-y_{tp}|\right)$, not "
            "centred, not scaled"
        ),
        reference="dc3ea9f/vico_challenge_baseline, compute_lmd.py, with FaceMesh in place of FAN",
        traps=(
            "Grows with the size of the video and of the face in it: not comparable between data sets.",
            "The script pools the frames of all clips, so long clips have more weight; here all clips have the same.",
            "It uses the first face in the list, skips a frame if the true frame has none and fails if the predicted "
            "frame has none. The challenge of 2023 used 3DDFA_V2 instead.",
            _DETECTORS,
        ),
        quirk=True,
    )


class LandmarkError(LandmarkMetric):
    """The landmark error of IP-LAP's Table 3; parts of its definition are assumed."""

    definition = Definition("content57", centred=False, over_points="mean", unit="face box", size=FACE_PIXELS)
    spec = _spec(
        "landmark_error",
        "Landmark error",
        definition,
        summary="distance of IP-LAP's 57 jaw and lip points, mean, px of its 128² face crop",
        formula=(
            r"$\frac{128}{57T}\sum_t\sum_p\left\lVert\left(\frac{\hat x_{tp}-x_{tp}}{w_t},"
            r"\frac{\hat y_{tp}-y_{tp}}{h_t}\right)\right\rVert_2$ with width $w_t$ and height $h_t$ of the truth's "
            "face box in that frame"
        ),
        reference=(
            "Zhong et al., CVPR 2023, Table 3 (3.04 and 3.99), which leaves the definition to a supplement. Assumed: "
            "the points that its generator predicts, Euclidean, in pixels of its crop"
        ),
        traps=(
            "The definition is an assumption: compare with Table 3 in size only.",
            "Table 3 scores predicted landmarks; here they are detected in the finished frames, so the detector's "
            "jitter (0.5 to 1 px) and the renderer's errors are part of the figure.",
        ),
    )
