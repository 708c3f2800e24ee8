"""Identity preservation (CSIM): the cosine between identity vectors of a predicted frame and of the true frame.

The choice of network, crop and frames often changes CSIM more than the choice of method. Each variant fixes all three.
The reference is always the true frame at the same time, never a source image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.common.errors import Unscorable
from bench.metrics.arcface import ArcFace, align, five_points, load_arcface, squash
from bench.metrics.base import (
    Batch,
    ClipInfo,
    Context,
    Meter,
    Metric,
    Output,
    Pictures,
    Score,
    SetScore,
    Spec,
)
from bench.metrics.dlib_identity import EXTRA, FEATURES, POINTS_5, RECOGNITION, DlibFaces
from bench.metrics.landmark_distance import MISSING_FACES, faces_of, has_face, scored_frames

Array = npt.NDArray[np.floating[Any]]
Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_ARCFACE = "arcface_r100"


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> Float:
    """Cosines (n,) float64 of paired vectors (n, d); NaN where one is NaN."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    result: Float = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    # Rounding can make the cosine of a vector with itself greater than 1.
    return np.clip(result, -1.0, 1.0)


def mean_cosine_of_all_pairs(clips: Sequence[tuple[Array, Array]]) -> float:
    """Mean cosine between every vector on the one side and every vector on the other, over all clips.

    It equals the dot product of the mean unit vectors of both sides, so no pair is computed.

    Args:
        clips: (n, d) and (m, d) for each clip, taken one at a time.
    """
    sums = [np.zeros(1), np.zeros(1)]
    counts = [0, 0]
    for clip in clips:
        for side, vectors in enumerate(clip):
            wide = np.asarray(vectors, np.float64)
            sums[side] = sums[side] + (wide / np.linalg.norm(wide, axis=1, keepdims=True)).sum(axis=0)
            counts[side] += len(wide)
    return float(sums[0] @ sums[1] / (counts[0] * counts[1]))


class _FaceMeter(Meter):
    """Compares the faces of every ``stride``-th frame."""

    def __init__(self, metric: FaceSimilarity) -> None:
        self._metric = metric
        self._seen: list[tuple[Bool, Bool]] = []
        self._series: dict[str, list[Float]] = {output.key: [] for output in metric.spec.outputs}
        self._sampled: list[Bool] = []

    def update(self, batch: Batch) -> None:
        mine, face, truth = faces_of(batch)
        sampled = np.arange(batch.start, batch.start + len(truth)) % self._metric.stride == 0
        in_truth = has_face(face)
        both = in_truth & has_face(mine)
        self._sampled.append(sampled)
        self._seen.append((has_face(mine), in_truth))
        real = truth.shared(self._metric.key, lambda: self._embed(truth, face, sampled & in_truth))
        fake = real if batch.pred is truth else self._embed(batch.pred, face, sampled & both)
        for key, values in self._metric.compare(fake, real).items():
            self._series[key].append(values)

    def _embed(self, pictures: Pictures, face: npt.NDArray[Any], wanted: Bool) -> Float:
        result = np.full((len(pictures), self._metric.features), np.nan)
        if wanted.any():
            result[wanted] = self._metric.embed(pictures.array[wanted], face[wanted])
        return result

    def finish(self) -> Score:
        if not self._sampled:
            raise Unscorable("no frames")
        sampled = np.concatenate(self._sampled)
        pred, truth = (np.concatenate(side)[sampled] for side in zip(*self._seen, strict=True))
        both = scored_frames(pred, truth)
        series = {key: np.concatenate(parts) for key, parts in self._series.items()}
        return Score(
            {key: float(values[sampled][both].mean()) for key, values in series.items()},
            {key: values.astype(np.float32) for key, values in series.items()},
            notes={"frames_without_face": int((~both).sum()), "frames_compared": int(both.sum())},
        )


class FaceSimilarity(Metric):
    """Compares identities of faces that are cropped by the truth's landmarks, in both videos."""

    #: Distance between compared frames, and length of the vectors.
    stride: ClassVar[int] = 1
    features: ClassVar[int] = 512
    #: Identifies the vectors of :meth:`embed`, so metrics and methods share those of the truth.
    key: ClassVar[str]

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _FaceMeter(self)

    @abstractmethod
    def embed(self, frames: npt.NDArray[np.uint8], face: npt.NDArray[Any]) -> Array:
        """Identity vectors.

        Args:
            frames: (n, H, W, 3) uint8 RGB, n > 0.
            face: (n, 478, 3), the truth's landmarks in these frames.

        Returns:
            (n, features).
        """

    def compare(self, pred: Float, truth: Float) -> dict[str, Float]:
        """Output key → (n,) figures of paired vectors (n, features), NaN where one of them is."""
        return {"": cosine(pred, truth)}


def _parameters(**own: Any) -> dict[str, Any]:
    return {
        "colour": "RGB",
        "similarity": "cosine",
        "reference": "true frame of the same moment",
        "over_frames": "mean",
        "frame_stride": 1,
        "missing": MISSING_FACES,
        **own,
    }


_ARCFACE_INPUT = "112², (x / 255 - 0.5) / 0.5"
_OUTPUT = Output("", "CSIM", "higher", low=-1.0, high=1.0)
_FORMULA = (
    r"$\frac1T\sum_t\frac{\langle f(\hat I_t),f(I_t)\rangle}{\lVert f(\hat I_t)\rVert\,\lVert f(I_t)\rVert}$"
)
_NETWORKS = (
    "Every network has its own scale: between strangers ArcFace's cosine is about 0, dlib's about 0.8. Name network, "
    "weights and crop with the figure."
)


class CsimArcfaceAligned(FaceSimilarity):
    """CSIM with ArcFace as intended: on aligned faces."""

    key = f"{_ARCFACE} aligned"
    spec = Spec(
        name="csim.arcface_aligned",
        summary="cosine of ArcFace R100 vectors of aligned faces, frame by frame",
        outputs=(_OUTPUT,),
        parameters=_parameters(
            network="ArcFace iresnet100 (ms1mv3)",
            input=_ARCFACE_INPUT,
            crop="least-squares similarity to ArcFace's five points, bilinear, black beyond the frame",
            crop_from="FaceMesh of the truth, for both videos; nothing is detected anew in the prediction's crop",
            five_points="means of six points of each eye, tip of the nose, corners of the mouth (FaceMesh)",
        ),
        formula=f"{_FORMULA} with $f$ on the aligned face",
        reference="Deng et al., CVPR 2019; deepinsight/insightface, arcface_torch and face_align.py (norm_crop)",
        traps=(
            "insightface aligns each image by its own five points from RetinaFace. Here both images are cropped by the "
            "truth's points, so a face in the wrong place lowers the figure.",
            _NETWORKS,
            "Some papers compare with the source image, not the true frame, or average over all frames of all clips.",
        ),
        needs=frozenset({"truth", "landmarks"}),
        paired=False,
        regions=False,
        weights=(_ARCFACE,),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.network = _arcface(context)

    def embed(self, frames: npt.NDArray[np.uint8], face: npt.NDArray[Any]) -> Array:
        """ArcFace vectors of aligned faces; see the base class."""
        return self.network.embed(align(frames, five_points(face)))


class CsimDlib(FaceSimilarity):
    """CSIM with dlib's identity network, which is available on PyPI."""

    stride = 5
    features = FEATURES
    key = "dlib identity"
    spec = Spec(
        name="csim.dlib",
        summary="cosine (and distance) of dlib's identity vectors of aligned faces, every 5th frame",
        outputs=(
            _OUTPUT,
            Output("distance", "ID distance", "lower", low=0.0),
        ),
        parameters=_parameters(
            network=f"dlib {RECOGNITION} (sha256 55533b28a958)",
            input="150², padding 0.25",
            crop=f"dlib.get_face_chip by dlib {POINTS_5} (sha256 c4b1e9804792)",
            crop_from="square by FaceMesh of the truth, for both videos; in it five points of each video's own frame",
            five_points="dlib's: corners of the eyes, base of the nose",
            frame_stride=stride,
        ),
        formula=(
            rf"{_FORMULA} over every 5th frame from the first; the second figure is the mean of "
            r"$\lVert f(\hat I_t)-f(I_t)\rVert$"
        ),
        reference="davisking/dlib, face_recognition_model_v1 (King 2017), with the files of davisking/dlib-models",
        traps=(
            "dlib's network was trained for the Euclidean distance: below 0.6 two images count as one person. Its "
            "vectors are not centred, so all its cosines are high: 0.94 to 1 between frames of one person, 0.75 "
            "to 0.89 between strangers, on real clips.",
            _NETWORKS,
            "Every 5th frame only: the network needs about 80 ms per face on one core.",
        ),
        needs=frozenset({"truth", "landmarks"}),
        paired=False,
        regions=False,
        extra=EXTRA,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.dlib = DlibFaces([RECOGNITION, POINTS_5])

    def embed(self, frames: npt.NDArray[np.uint8], face: npt.NDArray[Any]) -> Array:
        """dlib's vectors; see the base class."""
        return np.stack([self.dlib.identity(*pair) for pair in zip(frames, face, strict=True)])

    def compare(self, pred: Float, truth: Float) -> dict[str, Float]:
        """Cosine and Euclidean distance; see the base class."""
        return {"": cosine(pred, truth), "distance": np.linalg.norm(pred - truth, axis=1)}


class _FrameMeter(Meter):
    """Collects the vectors of whole frames."""

    def __init__(self, network: ArcFace, *, all_pairs: bool) -> None:
        self.network = network
        self._all_pairs = all_pairs
        self._vectors: list[tuple[Array, Array]] = []

    def update(self, batch: Batch) -> None:
        if batch.truth is None:
            raise Unscorable("no truth")
        self._vectors.append((self._embed(batch.pred), self._embed(batch.truth)))

    def _embed(self, pictures: Pictures) -> Array:
        return pictures.shared(f"{_ARCFACE} frame112", lambda: self.network.embed(squash(pictures.array)))

    def finish(self) -> Score:
        if not self._vectors:
            raise Unscorable("no frames")
        pred, truth = (np.concatenate(side) for side in zip(*self._vectors, strict=True))
        if self._all_pairs:
            return Score(features=(pred, truth))
        values = cosine(pred, truth)
        return Score({"": float(values.mean())}, {"": values.astype(np.float32)})


_FRAME = {
    "network": "ArcFace iresnet100 (ms1mv3)",
    "input": _ARCFACE_INPUT,
    "crop": "none: the whole frame squeezed by cv2.resize, bilinear",
    "crop_from": "none",
    "five_points": "none",
    "missing": "no face is looked for; every frame counts",
}
_UNALIGNED = (
    "ArcFace was trained on aligned faces only. In squeezed frames the background, the pose and the frame's shape "
    "influence the figure, and frames of one person can be far apart."
)


class CsimFrame112(Metric):
    """CSIM as the ViCo challenge computes it since July 2023: on whole frames."""

    spec = Spec(
        name="csim.frame112",
        summary="cosine of ArcFace R100 vectors of whole frames squeezed to 112², frame by frame (ViCo's code)",
        outputs=(_OUTPUT,),
        parameters=_parameters(**_FRAME),
        formula=f"{_FORMULA} with $f$ on the whole frame",
        reference="dc3ea9f/vico_challenge_baseline, evaluations/arcface_torch/compute_csim.py at 16424c0",
        traps=(
            _UNALIGNED,
            "The script pools the frames of all clips, so long clips have more weight; here all clips have the same.",
            "Until July 2023 the script used the mean over all pairs of frames: csim.vico_pairs.",
            _NETWORKS,
        ),
        paired=False,
        regions=False,
        weights=(_ARCFACE,),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.network = _arcface(context)

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _FrameMeter(self.network, all_pairs=False)


class CsimVicoPairs(Metric):
    """CSIM as the ViCo challenge computed it until July 2023: over all pairs of frames of all clips."""

    spec = Spec(
        name="csim.vico_pairs",
        summary="cosine of ArcFace R100 vectors of whole frames, mean over all pairs of frames (ViCo's first code)",
        outputs=(_OUTPUT,),
        parameters=_parameters(
            **_FRAME,
            reference="every true frame of every clip",
            over_frames="mean over all pairs, all clips pooled",
        ),
        formula=(
            r"$\frac1{NM}\sum_{i=1}^{N}\sum_{j=1}^{M}\cos\left(f(\hat I_i),f(I_j)\right)$ over the $N$ predicted and "
            "the $M$ true frames of all clips"
        ),
        reference="dc3ea9f/vico_challenge_baseline, evaluations/arcface_torch/compute_csim.py before 16424c0",
        traps=(
            "scikit-learn's cosine_similarity gives the matrix of all pairs, and the script used its mean: frames of "
            "different times and people are compared, and the truth compared with itself is below 1. IP-LAP's page "
            "links to that version of the script.",
            _UNALIGNED,
        ),
        paired=False,
        regions=False,
        weights=(_ARCFACE,),
        aggregate="set",
        quirk=True,
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.network = _arcface(context)

    def meter(self, clip: ClipInfo) -> Meter:
        """A meter for one clip."""
        return _FrameMeter(self.network, all_pairs=True)

    def reduce(self, clips: Sequence[tuple[Array, Array]]) -> SetScore:
        """The mean over all pairs; see the base class."""
        return SetScore({"": mean_cosine_of_all_pairs(clips)})


def _arcface(context: Context) -> ArcFace:
    path = context.weights.path(_ARCFACE)
    return load_arcface(path, context.device, context.weights.entries[_ARCFACE].remedy)
