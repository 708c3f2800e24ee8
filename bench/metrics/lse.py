"""LSE-D, LSE-C and the offset between lips and sound, under both protocols of Wav2Lip; IP-LAP's SyncScore.

``lse.lrs`` is ``calculate_scores_LRS.py``: the whole frame resized to 224², for data sets that are cropped to a face.
``lse.tracked`` is ``calculate_scores_real_videos.sh``: faces are first detected, tracked and cropped, for videos in the
wild. The two must not be mixed: SyncNet gets different images.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.common.errors import Unscorable
from bench.metrics import tracked
from bench.metrics.base import Batch, ClipInfo, Context, Meter, Metric, Output, Score, Spec
from bench.metrics.lossy import AviWriter, JpegEncoder, decode_jpeg, require_av
from bench.metrics.syncnet import (
    EPSILON,
    MEDIAN_WINDOW,
    MIN_FRAMES,
    SIZE,
    VSHIFT,
    WINDOW,
    Sync,
    SyncReader,
    load_syncnet,
)

_JPEG = "JPEG: FFmpeg's mjpeg encoder at its default of 200 kb/s, 1 thread"
_CODING = "YUV 4:2:0 of BT.601, converted from decoded RGB"

#: What both protocols share; every key is in every variant.
_PARAMETERS: dict[str, Any] = {
    "network": "SyncNet v2",
    "fps": 25,
    "pictures": "whole frame",
    "generations": [_JPEG],
    "coding": _CODING,
    "resize": f"OpenCV bilinear to {SIZE}x{SIZE}, aspect not kept",
    "layout": "BGR, 0 to 255, not normalised",
    "window": f"{WINDOW} frames, every frame; the last window is dropped",
    "audio": "16 kHz mono int16 values, not scaled, not coded again",
    "audio_features": "MFCC of python_speech_features 0.6 at its defaults, 20 columns a window, 4 a frame",
    "length": "min(frames, samples // 640)",
    "vshift": VSHIFT,
    "padding": "features of zero beyond both ends, averaged in",
    "distance": f"Euclidean, {EPSILON:g} added to every difference",
    "averaging": "mean over windows for each shift, then the least; the middle one of all shifts less the least",
    "series": f"middle frame of a window; confidence median-filtered over {MEDIAN_WINDOW} windows",
    "detector": None,
    "shots": None,
    "track": None,
    "crop": None,
    "tracks": None,
    "failure": f"less than {MIN_FRAMES} frames with sound, or no sound: no score",
}

_FORMULA = (
    r"With features $l_i$ of frames $i \ldots i+4$ and $a_i$ of the sound beside them ($a_i = 0$ outside of the clip), "
    r"$m_s = \frac{1}{n} \sum_i \lVert l_i - a_{i-s} \rVert_2$ for shifts $|s| \le 15$ frames: "
    r"$\text{LSE-D} = \min_s m_s$, $\text{LSE-C} = \operatorname{median}_s m_s - \min_s m_s$, "
    r"$\text{offset} = \arg\min_s m_s$, positive if the video is late."
)

_OUTPUTS = (
    Output("d", "LSE-D", "lower", low=0.0),
    Output("c", "LSE-C", "higher", low=0.0),
    Output("offset", "offset", "none", unit="frames", low=-VSHIFT, high=VSHIFT, decimals=2),
    Output("abs_offset", "|offset|", "lower", unit="frames", low=0.0, high=VSHIFT, decimals=2),
)

_TRAPS = (
    "LSE-D is that of the best shift: a video with a constant delay scores as well as one in sync. See |offset|.",
    "Shifted windows are compared with zeros beyond the ends of the clip: at 15 frames these are a third of the "
    "comparisons in a clip of two seconds, 6 % in one of ten. LSE-C depends on the length of the clip: compare sets of "
    "equal lengths.",
    "Sound scaled to -1 … 1 changes the energy term of the MFCC, and so every figure.",
    "Generators trained with SyncNet as a loss score better than true videos. Compare with the row of the "
    "ground truth.",
    "Of a BT.709 video the reference sees the colours of BT.601: FFmpeg keeps the samples in JPEG and AVI, and OpenCV "
    "decodes these by BT.601. Measured with FFmpeg 5.1.9: (200, 60, 50) becomes (188, 44, 53). `--matrix bt601` does "
    "the same.",
    "The reference encodes JPEG from the decoded YUV; here decoded RGB is converted, so chroma is subsampled "
    "once more.",
)


class LseLrs(Metric):
    r"""Lip sync error by SyncNet over whole frames: LSE-D, LSE-C, offset and \|offset\|.

    The numbers equal those of Wav2Lip's ``calculate_scores_LRS.py`` (Prajwal et al. 2020) on 25 fps video and 16
    kHz sound: frames encoded as JPEG by FFmpeg, resized to 224², SyncNet v2, shifts of up to 15 frames, zeros at
    the ends. LSE-D in units of SyncNet's features, ≥ 0, lower is better; LSE-C ≥ 0, higher is better; offsets in
    frames.

    Raises:
        Unavailable: the weights ``syncnet_v2``, package syncnet-python or PyAV are missing.
    """

    spec = Spec(
        name="lse.lrs",
        summary="SyncNet distance, confidence and offset over whole frames (Wav2Lip's protocol for LRS2, LRS3, LRW)",
        outputs=_OUTPUTS,
        parameters=_PARAMETERS,
        formula=_FORMULA,
        reference="Rudrabha/Wav2Lip, evaluation/scores_LSE/calculate_scores_LRS.py",
        traps=_TRAPS,
        needs=frozenset({"audio"}),
        paired=False,
        regions=False,
        weights=("syncnet_v2",),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        require_av()
        self.net = load_syncnet(context)

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`bench.common.errors.Unscorable` where there is no sound."""
        return _LrsMeter(SyncReader(self.net, _sound(clip), clip.n_frames))


class SyncScore(LseLrs):
    """IP-LAP's SyncScore: SyncNet's confidence; a pure number ≥ 0, higher is better.

    The paper (Zhong et al. 2023, section 4.1) names SyncNet, but neither frames nor crops. The protocol of
    :class:`LseLrs` is assumed, so this equals its LSE-C.
    """

    spec = Spec(
        name="syncscore",
        summary="SyncNet confidence as IP-LAP reports it; the protocol of lse.lrs is assumed",
        outputs=(Output("", "SyncScore", "higher", low=0.0),),
        parameters=_PARAMETERS,
        formula=_FORMULA + r" $\text{SyncScore} = \text{LSE-C}$.",
        reference="Zhong et al., CVPR 2023, section 4.1; the confidence of Chung and Zisserman 2016",
        traps=(
            "The paper does not say which crops are used as input of SyncNet, nor how distances become a score: whole "
            "frames and the confidence are assumed.",
            *_TRAPS,
        ),
        needs=frozenset({"audio"}),
        paired=False,
        regions=False,
        weights=("syncnet_v2",),
    )

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`bench.common.errors.Unscorable` where there is no sound."""
        return _SyncScoreMeter(SyncReader(self.net, _sound(clip), clip.n_frames))


class LseTracked(Metric):
    r"""Lip sync error by SyncNet over face tracks: LSE-D, LSE-C, offset and \|offset\|, each the mean over the tracks.

    The numbers equal those of Wav2Lip's ``calculate_scores_real_videos.sh``: ``run_pipeline.py`` of syncnet_python,
    then SyncNet; see :mod:`bench.metrics.tracked`. The notes of a score contain the number of tracks.

    Raises:
        Unavailable: the weights ``syncnet_v2`` or ``s3fd``, package syncnet-python or PyAV are missing.
    """

    spec = Spec(
        name="lse.tracked",
        summary="SyncNet distance, confidence and offset over face tracks (Wav2Lip's protocol for videos in the wild)",
        outputs=_OUTPUTS,
        parameters=_PARAMETERS
        | {
            "pictures": "crop of a face track",
            "generations": [
                "MPEG-4: FFmpeg's mpeg4 encoder at quantiser 2 in AVI, 1 thread, no picture in front of the first",
                "JPEG: FFmpeg's mjpeg encoder at quantiser 2, 1 thread",
                "MPEG-4: OpenCV's XVID writer at its default rate, 224x224",
                _JPEG,
            ],
            "audio": f"{_PARAMETERS['audio']}, not delayed: it begins with the first picture",
            "detector": {
                "name": "S3FD",
                "confidence": tracked.CONFIDENCE,
                "scale": tracked.SCALE,
                "nms": 0.1,
            },
            "shots": {
                "name": "PySceneDetect content",
                "threshold": tracked.CUT_THRESHOLD,
                "min_frames": tracked.MIN_SHOT,
            },
            "track": {
                "min_iou": tracked.MIN_OVERLAP,
                "max_gap": tracked.MAX_GAP,
                "detections_above": tracked.MIN_TRACK,
                "side_above": tracked.MIN_FACE,
                "gaps": "interpolated",
            },
            "crop": {
                "scale": tracked.CROP_SCALE,
                "median_filter": tracked.MEDIAN_WINDOW,
                "pad_value": tracked.PAD_VALUE,
            },
            "tracks": "mean",
            "failure": f"{_PARAMETERS['failure']}; {tracked.NO_TRACK}: no score",
        },
        formula=_FORMULA + " Mean over the face tracks of a clip.",
        reference=(
            "Rudrabha/Wav2Lip, evaluation/scores_LSE/calculate_scores_real_videos.sh; joonson/syncnet_python, "
            "run_pipeline.py"
        ),
        traps=(
            "For a clip without a track of more than 100 detections (4 s) the reference prints no line and no message, "
            "and its mean is without that clip. Other code lowers the limit to 50.",
            "The reference prints one line per track and does not say how to combine them: here, the mean.",
            "Four lossy encodings come before SyncNet: the versions of FFmpeg and OpenCV influence the figure.",
            "The reference's MP4-to-AVI step (`ffmpeg -async 1 -r 25`) also moves sound against picture; it is "
            "left out here, since that depends on the file and on FFmpeg. Measured with 5.1.9: where an MP4's "
            "sound begins with its picture, the delay of the MP3 encoder, 1105 samples, makes the sound late by "
            "25 ms at 44.1 kHz and 69 ms at 16 kHz, so the reference's offset is 0.6 to 1.7 frames lower than "
            "here. Where an edit list hides the priming of AAC, as in MP4 that FFmpeg writes (and this suite), "
            "one picture at 44.1 kHz and two at 16 kHz are put in front, and the picture remains 15 and 11 ms "
            "late: 0.3 to 0.4 frames higher. At 30 fps it was three pictures and 51 ms.",
            "The reference also encodes the sound, as MP3 in its AVI; here it is used unchanged.",
            "The reference pins PySceneDetect 0.5.1, whose threshold is 30; that of 0.6 is 27.",
            *_TRAPS,
        ),
        needs=frozenset({"audio"}),
        paired=False,
        regions=False,
        weights=("syncnet_v2", "s3fd"),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        require_av()
        self.net = load_syncnet(context)
        self.detect = tracked.load_s3fd(context)

    def meter(self, clip: ClipInfo) -> Meter:
        """Raises :class:`bench.common.errors.Unscorable` where there is no sound, or too few frames for a track."""
        samples = _sound(clip)
        if clip.n_frames <= tracked.MIN_TRACK:
            raise Unscorable(tracked.NO_TRACK)
        return _TrackedMeter(self, clip, samples)


def _sound(clip: ClipInfo) -> npt.NDArray[np.int16]:
    if clip.audio is None:
        raise Unscorable("no audio track")
    return clip.audio


class _LrsMeter(Meter):
    def __init__(self, reader: SyncReader) -> None:
        self.reader = reader
        self.encoder = JpegEncoder()

    def update(self, batch: Batch) -> None:
        pictures = (decode_jpeg(self.encoder.encode(picture)) for picture in batch.pred.array)
        self.reader.add(pictures, batch.pred.shared)

    def finish(self) -> Score:
        return _score([(0, self.reader.finish())], self.reader.seen)


class _SyncScoreMeter(_LrsMeter):
    def finish(self) -> Score:
        score = super().finish()
        return Score({"": score.values["c"]}, {"": score.series["c"]})


class _TrackedMeter(Meter):
    def __init__(self, metric: LseTracked, clip: ClipInfo, samples: npt.NDArray[np.int16]) -> None:
        self.metric = metric
        self.samples = samples
        self.seen = 0
        self.folder = TemporaryDirectory(prefix="bench-lse-")
        self.video = Path(self.folder.name) / "video.avi"
        self.writer = AviWriter(self.video, clip.width, clip.height)

    def update(self, batch: Batch) -> None:
        for picture in batch.pred.array:
            self.writer.write(picture)
        self.seen += len(batch.pred)

    def finish(self) -> Score:
        if self.seen <= tracked.MIN_TRACK:
            raise Unscorable(tracked.NO_TRACK)
        self.writer.finish()
        pictures = Path(self.folder.name) / "pictures"
        pictures.mkdir()
        found = tracked.score_tracks(self.video, self.samples, self.metric.detect, self.metric.net, pictures)
        score = _score([(track.start, sync) for track, sync in found], self.seen)
        return Score(score.values, score.series, notes={"tracks": len(found)})

    def close(self) -> None:
        self.writer.close()
        self.folder.cleanup()


def _score(found: list[tuple[int, Sync]], n_frames: int) -> Score:
    """The mean over the results at some frames of a clip."""
    values = {
        "d": [sync.distance for _, sync in found],
        "c": [sync.confidence for _, sync in found],
        "offset": [float(sync.offset) for _, sync in found],
        "abs_offset": [float(abs(sync.offset)) for _, sync in found],
    }
    series = {
        "d": _series([(start, sync.distances) for start, sync in found], n_frames),
        "c": _series([(start, sync.confidences) for start, sync in found], n_frames),
    }
    return Score({key: float(np.mean(figures)) for key, figures in values.items()}, series)


def _series(found: list[tuple[int, npt.NDArray[np.float64]]], n_frames: int) -> npt.NDArray[np.float32]:
    """(n_frames,): for each frame the mean of the windows centred there; NaN if there is none."""
    total, count = np.zeros(n_frames), np.zeros(n_frames)
    for start, values in found:
        first = start + WINDOW // 2
        total[first : first + len(values)] += values
        count[first : first + len(values)] += 1
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)
