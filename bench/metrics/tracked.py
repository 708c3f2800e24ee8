"""Face tracks, found and cropped as in SyncNet's own pipeline: ``run_pipeline.py`` of joonson/syncnet_python.

The frames pass four lossy encodings, in files of a temporary folder:

1. MPEG-4 at quantiser 2, in an AVI file;
2. JPEG at quantiser 2; S3FD detects faces in these;
3. every track, cropped to 224², MPEG-4 again (``XVID``, through OpenCV's writer);
4. JPEG at 200 kb/s; these are the input of SyncNet.

The reference's first step also moves sound against picture, by an amount that depends on the file and on FFmpeg's
version. That is left out: frame i of the file stays frame i, and the sound begins with frame 0 (see the traps of
``lse.tracked``).

PySceneDetect finds the cuts between shots; a track stays within one shot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bench.common.errors import Unavailable, Unscorable
from bench.metrics.base import Context, Image
from bench.metrics.lossy import FPS, JpegEncoder, avi_frames, decode_jpeg
from bench.metrics.syncnet import (
    SAMPLES_PER_FRAME,
    SIZE,
    Sync,
    SyncNetV2,
    SyncReader,
    load_network,
)
from prep.installing import install

#: Smallest score of a detected face, and scale of the frame for the detector.
CONFIDENCE, SCALE = 0.9, 0.25
#: A track has more detections than this, and a shot at least as many frames.
MIN_TRACK = 100
#: Longest gap of a track: frames without a detection.
MAX_GAP = 25
#: Smallest overlap (intersection over union) of the boxes of consecutive detections in a track.
MIN_OVERLAP = 0.5
#: The mean box of a track must be wider or higher than this, in pixels.
MIN_FACE = 100
#: Margin of the crop as a share of the box, on each side; twice as much below.
CROP_SCALE = 0.40
#: Frames of the median filter of the boxes' centre and size; grey level outside the frame.
MEDIAN_WINDOW, PAD_VALUE = 13, 110
#: PySceneDetect's content detector with its defaults: mean change of hue, saturation and value; shortest shot in
#: frames.
CUT_THRESHOLD, MIN_SHOT = 27.0, 15
#: Why a clip has no score.
NO_TRACK = f"no face track of more than {MIN_TRACK} detections, wider or higher than {MIN_FACE} px"

Boxes = npt.NDArray[np.float64]
#: Picture, (H, W, 3) uint8 BGR → (k, 4) float64, x1 y1 x2 y2 of its faces.
Detector = Callable[[Image], Boxes]


@dataclass(frozen=True)
class Track:
    """One face in successive frames of a shot.

    Attributes:
        start: first frame.
        boxes: (n, 4) float64, x1 y1 x2 y2 in pixels, interpolated for frames without a detection.
    """

    start: int
    boxes: Boxes

    def __len__(self) -> int:
        return len(self.boxes)


def load_s3fd(context: Context) -> Detector:
    """S3FD of package syncnet-python, with the registry's weights ``s3fd``.

    Raises:
        Unavailable: the weights, or the package, are missing.
        BenchError: the file holds other weights.
    """
    path = context.weights.path("s3fd")
    try:
        from syncnet_python.detectors.s3fd import S3FD
        from syncnet_python.detectors.s3fd.nets import S3FDNet
    except ImportError as error:
        raise Unavailable("package syncnet-python is not installed", install()) from error

    def build(state: dict[str, Any]) -> Any:
        net = S3FDNet(device=context.device)
        net.load_state_dict(state)
        return S3FD(net, device=context.device)

    finder = load_network(path, "S3FD", build)

    def detect(picture: Image) -> Boxes:
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        found: Boxes = finder.detect_faces(rgb, conf_th=CONFIDENCE, scales=[SCALE])
        return found[:, :4]

    return detect


def find_shots(video: Path, n_frames: int) -> list[range]:
    """The frames of every shot of a video file, by PySceneDetect's content detector."""
    from scenedetect import SceneManager, open_video  # type: ignore[import-untyped,unused-ignore]
    from scenedetect.detectors import ContentDetector  # type: ignore[import-untyped,unused-ignore]

    manager = SceneManager()
    manager.add_detector(ContentDetector(threshold=CUT_THRESHOLD, min_scene_len=MIN_SHOT))
    manager.detect_scenes(open_video(str(video), backend="opencv"))
    cuts = [scene[0].get_frames() for scene in manager.get_scene_list()[1:]]
    return [range(a, b) for a, b in zip([0, *cuts], [*cuts, n_frames], strict=True)]


def overlap(a: Boxes, b: Boxes) -> float:
    """Intersection over union of two boxes, x1 y1 x2 y2."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = max(0.0, width) * max(0.0, height)
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common))


def find_tracks(shot: range, faces: Sequence[Boxes]) -> list[Track]:
    """Combine the detections of a shot into tracks, as ``track_shot`` does.

    A track begins at the first unused detection. In each frame, detections that overlap its last detection by more than
    half are added. It ends after more than 25 frames without one. After a detection is added, the next one in the same
    frame is skipped.

    Args:
        shot: frame numbers.
        faces: (k, 4) boxes of every frame of the shot, in the detector's order.

    Returns:
        Tracks of more than 100 detections whose mean box is wider or higher than 100 pixels, in the order of their
        first detections.
    """
    left = [list(boxes) for boxes in faces]
    tracks = []
    while any(left):
        chain = _chain(shot, left)
        if len(chain) <= MIN_TRACK:
            continue
        frames = np.array([frame for frame, _ in chain])
        found = np.stack([box for _, box in chain]).astype(np.float64)
        every = np.arange(frames[0], frames[-1] + 1)
        boxes = np.stack([np.interp(every, frames, column) for column in found.T], axis=1)
        if (boxes[:, 2:] - boxes[:, :2]).mean(axis=0).max() > MIN_FACE:
            tracks.append(Track(int(frames[0]), boxes))
    return tracks


def _chain(shot: range, left: list[list[Boxes]]) -> list[tuple[int, Boxes]]:
    """Remove the detections of one track from ``left``."""
    chain: list[tuple[int, Boxes]] = []
    for frame, boxes in zip(shot, left, strict=True):
        if chain and frame - chain[-1][0] > MAX_GAP:
            break
        at = 0
        while at < len(boxes):
            if not chain or overlap(boxes[at], chain[-1][1]) > MIN_OVERLAP:
                chain.append((frame, boxes.pop(at)))
            at += 1
    return chain


def crops(track: Track, picture: Callable[[int], Image]) -> Iterator[Image]:
    """The face in every frame of a track, cropped as in ``crop_video``.

    Args:
        track: frames and boxes.
        picture: frame number → (H, W, 3) uint8.

    Yields:
        (224, 224, 3) uint8.

    Raises:
        Unscorable: a box lies outside the frame.
    """
    from scipy.ndimage import median_filter

    corners, ends = track.boxes[:, :2], track.boxes[:, 2:]
    # Beyond the ends of the track the filter uses zeros, as in the reference.
    sizes = median_filter((ends - corners).max(axis=1) / 2, MEDIAN_WINDOW, mode="constant")
    centres = median_filter((corners + ends) / 2, (MEDIAN_WINDOW, 1), mode="constant")
    for index, (half, (x, y)) in enumerate(zip(sizes, centres, strict=True)):
        pad = int(half * (1 + 2 * CROP_SCALE))
        border = (PAD_VALUE,) * 3
        padded = cv2.copyMakeBorder(
            picture(track.start + index), pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=border
        )
        x, y = x + pad, y + pad
        top, bottom = int(y - half), int(y + half * (1 + 2 * CROP_SCALE))
        left, right = int(x - half * (1 + CROP_SCALE)), int(x + half * (1 + CROP_SCALE))
        face = padded[max(0, top) : bottom, max(0, left) : right]
        if not face.size:
            raise Unscorable("a face box lies outside of the picture")
        yield cv2.resize(face, (SIZE, SIZE))


def score_tracks(
    video: Path,
    samples: npt.NDArray[np.int16],
    detect: Detector,
    net: SyncNetV2,
    folder: Path,
) -> list[tuple[Track, Sync]]:
    """Steps 2 to 4, and SyncNet: a score for every track.

    Args:
        video: the file written by step 1.
        samples: (m,) int16, 16 kHz, starting at the first frame.
        detect: face detector.
        net: SyncNet.
        folder: an empty folder for images and cropped tracks.

    Raises:
        Unscorable: there is no track, or one has too little sound.
    """
    faces: list[Boxes] = []
    encoder = JpegEncoder(fixed=True)
    for frame in avi_frames(video):
        data = encoder.encode(frame)
        _picture_path(folder, len(faces)).write_bytes(data)
        faces.append(detect(decode_jpeg(data)))
    shots = [shot for shot in find_shots(video, len(faces)) if len(shot) >= MIN_TRACK]
    tracks = [track for shot in shots for track in find_tracks(shot, faces[shot.start : shot.stop])]
    if not tracks:
        raise Unscorable(NO_TRACK)
    return [(track, _score(track, samples, net, folder)) for track in tracks]


def _picture_path(folder: Path, frame: int) -> Path:
    return folder / f"{frame:06d}.jpg"


def _score(track: Track, samples: npt.NDArray[np.int16], net: SyncNetV2, folder: Path) -> Sync:
    video = folder / "track.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"XVID"), FPS, (SIZE, SIZE))
    if not writer.isOpened():
        raise RuntimeError("OpenCV cannot write XVID in AVI here")
    try:
        for face in crops(track, lambda frame: decode_jpeg(_picture_path(folder, frame).read_bytes())):
            writer.write(face)
    finally:
        writer.release()
    start = track.start * SAMPLES_PER_FRAME
    reader = SyncReader(net, samples[start : start + len(track) * SAMPLES_PER_FRAME])
    encoder = JpegEncoder()
    reader.add(decode_jpeg(encoder.encode(frame)) for frame in avi_frames(video))
    video.unlink()
    return reader.finish()
