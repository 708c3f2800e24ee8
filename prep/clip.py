"""Turns one listed clip into rows: decode, detect the face, crop the views, transform the sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import cast

import numpy as np

from prep import rates, sound_reading, stills, video_reading
from prep.crops import check_faces, cut, place_views
from prep.detectors import create
from prep.errors import ClipError
from prep.fan import Fan68
from prep.landmarks import ClipLandmarks, choose_face, detect_clip
from prep.options import PrepOptions
from prep.pixels import Pixels
from prep.schema import Clip
from prep.shards import Failure
from prep.sound.mel import melspectrogram
from prep.sources.base import ClipRef
from prep.sources.lrs_text import read_lrs_text
from prep.timeline import VideoInfo
from prep.video_reading import KeptFrame, pictures

#: The shortest clip usable for training or metrics: one window of five frames.
MIN_FRAMES = 5
#: Largest size in bytes of the frames kept between the two passes over a clip; a larger clip is decoded twice.
FRAME_BUDGET = 512 << 20
#: How far, in seconds, a listed span may extend beyond the end of its video; lists use whole seconds.
SPAN_TOLERANCE = 1.0

Frames = Iterable[np.ndarray]


@dataclass(frozen=True)
class _Track:
    """A source video opened for cutting: its sound, and the span of its frames at 25 fps."""

    path: Path
    ref: ClipRef
    start: int
    stop: int
    width: int
    height: int
    info: VideoInfo
    sound: sound_reading.SoundTrack
    av_difference: float
    pixels: Pixels

    def frames(self, start: int, stop: int) -> Iterator[KeptFrame]:
        return video_reading.kept_frames(
            self.path, start, stop, crop=self.ref.crop, size=self.ref.size, pixels=self.pixels
        )


class ClipProcessor:
    """Turns listed clips into rows. It contains the detectors, so a process creates them once."""

    def __init__(self, root: Path, options: PrepOptions) -> None:
        self.root = root
        self.options = options
        self.mesh = create(options.detector, tracking=options.tracking, device=options.device)
        self.fan = Fan68() if options.fan else None
        # Spans of one long video are consecutive; its sound is decoded once.
        self._sound: tuple[Path, sound_reading.SoundTrack] | None = None
        self._memory = np.empty(0, np.uint8)

    def process(self, ref: ClipRef) -> Iterator[Clip | Failure]:
        """Rows of one source span, each at most ``clip_seconds`` of one shot, or a :class:`Failure`."""
        try:
            if ref.problem:
                raise ClipError("source", ref.problem)
            if ref.still:
                yield self._still(ref)
            else:
                yield from self._video(ref)
        except ClipError as error:
            yield _failure(ref, error)

    def _still(self, ref: ClipRef) -> Clip:
        frame = stills.image(self.root / ref.source)
        height, width = frame.shape[:2]
        if ref.height is not None and height != ref.height:
            raise ClipError("source", f"the image is {height} pixels high, the corpus says {ref.height}")
        clip = self._row(ref, self._detect([frame], 1), width, height, lambda: [frame])
        clip.fps = 0.0
        if ref.landmarks68 is not None:
            clip.landmarks68 = np.array(ref.landmarks68, np.float32).reshape(1, 68, 2)
        return clip

    def _video(self, ref: ClipRef) -> Iterator[Clip | Failure]:
        track = self._open_track(self.root / ref.source, ref)
        longest = round(self.options.clip_seconds * rates.FPS)
        n_pieces = math.ceil((track.stop - track.start) / longest)
        bounds = [track.start + i * (track.stop - track.start) // n_pieces for i in range(n_pieces + 1)]
        stream = track.frames(track.start, track.stop)
        for i in range(n_pieces):
            start, stop = bounds[i], bounds[i + 1]
            piece = replace(
                ref,
                clip_id=ref.clip_id if n_pieces == 1 else f"{ref.clip_id}-{i:03d}",
                start=start / rates.FPS,
                stop=stop / rates.FPS,
            )
            try:
                yield from self._piece(track, piece, start, stop, islice(stream, stop - start))
            except ClipError as error:
                yield _failure(piece, error)

    def _open_track(self, path: Path, ref: ClipRef) -> _Track:
        info = video_reading.probe(path)
        if ref.height is not None and info.height != ref.height:
            raise ClipError(
                "source",
                f"the video is {info.height}p but the list's crop is for {ref.height}p: fetch it in {ref.height}p",
            )
        start = round(ref.start * rates.FPS)
        stop = info.n_frames if ref.stop is None else round(ref.stop * rates.FPS)
        if stop - info.n_frames > SPAN_TOLERANCE * rates.FPS:
            seconds = info.n_frames / rates.FPS
            raise ClipError(
                "source", f"the span {ref.start:g}-{ref.stop:g} s ends after the video ({seconds:g} s)"
            )
        sound = self._sound_of(ref)
        heard = math.ceil(len(sound.samples) / rates.SAMPLES_PER_FRAME)
        stop = min(stop, info.n_frames)
        if stop - start < MIN_FRAMES:
            raise ClipError("video", f"{_count(stop - start, 'frame')}, at least {MIN_FRAMES} are needed")
        stop = min(stop, heard)
        if stop - start < MIN_FRAMES:
            raise ClipError(
                "audio", f"{_count(stop - start, 'frame')} with sound, at least {MIN_FRAMES} are needed"
            )
        width, height = (info.width, info.height) if ref.crop is None else ref.crop[2:]
        if ref.size is not None:
            width = height = ref.size
        return _Track(
            path=path,
            ref=ref,
            start=start,
            stop=stop,
            width=width,
            height=height,
            info=info,
            sound=sound,
            av_difference=len(sound.samples) / rates.SAMPLE_RATE - info.n_frames / rates.FPS,
            pixels=cast("Pixels", self.options.pixels),
        )

    def _sound_of(self, ref: ClipRef) -> sound_reading.SoundTrack:
        path = self.root / (ref.sound or ref.source)
        if self._sound is None or self._sound[0] != path:
            try:
                self._sound = path, sound_reading.sound(path, self.options.audio_track)
            except ClipError as error:
                if not ref.sound:
                    raise
                raise ClipError(error.step, f"its sound {ref.sound}: {error.reason}") from error
        return self._sound[1]

    def _piece(
        self, track: _Track, piece: ClipRef, start: int, stop: int, stream: Iterator[KeptFrame]
    ) -> Iterator[Clip | Failure]:
        """A row for each shot."""
        seen, again = self._twice(stream, start, stop, track)
        found = self._detect(seen, stop - start)
        # What shows nobody, or is damaged, is one failure.
        cuts = found.cuts if found.confirmed else ()
        if cuts and piece.cuts == "refuse":
            times = ", ".join(f"{(start + cut) / rates.FPS:.2f} s" for cut in cuts)
            raise ClipError("video", f"the shot changes at {times}")
        for number, (first, last) in enumerate(pairwise([0, *cuts, stop - start])):
            shot = piece
            if cuts:
                shot = replace(
                    piece,
                    clip_id=f"{piece.clip_id}-{number:03d}",
                    start=(start + first) / rates.FPS,
                    stop=(start + last) / rates.FPS,
                )
            try:
                if last - first < MIN_FRAMES:
                    length = _count(last - first, "frame")
                    raise ClipError("video", f"a shot of {length}, at least {MIN_FRAMES} are needed")
                part = found.part(first, last)
                yield self._shot(track, shot, start + first, start + last, part, partial(again, first, last))
            except ClipError as error:
                yield _failure(shot, error)

    def _twice(
        self, stream: Iterator[KeptFrame], start: int, stop: int, track: _Track
    ) -> tuple[Frames, Callable[[int, int], Frames]]:
        """The pictures ``start`` to ``stop`` (exclusive) of a track, for the first pass, and a function for the second.

        They are kept as pictures, or else as decoded frames; what is too large even so is decoded again.

        Args:
            stream: yields these frames.
            start: first frame.
            stop: frame after the last one.
            track: of the frames.

        Returns:
            the pictures; and a function that returns some of them, by first and last (exclusive), counted from
            ``start``.
        """
        shape = stop - start, track.height, track.width, 3
        if math.prod(shape) <= FRAME_BUDGET:
            held = self._hold(shape, pictures(stream))
            return held, lambda first, last: held[first:last]
        first_frame = next(stream, None)
        if first_frame is None:
            return [], lambda first, last: []
        stream = chain([first_frame], stream)
        if (stop - start) * first_frame.nbytes <= FRAME_BUDGET:
            kept = list(stream)
            return pictures(kept), lambda first, last: pictures(kept[first:last])
        return pictures(stream), lambda first, last: pictures(track.frames(start + first, start + last))

    def _hold(self, shape: tuple[int, ...], frames: Frames) -> list[np.ndarray]:
        """Copies of frames, until the next call: copying costs less than fresh memory, whose pages must be cleared."""
        size = math.prod(shape)
        if self._memory.size < size:
            self._memory = np.empty(size, np.uint8)
        held = []
        for place, frame in zip(self._memory[:size].reshape(shape), frames, strict=False):
            place[...] = frame
            held.append(place)
        return held

    def _shot(
        self,
        track: _Track,
        shot: ClipRef,
        start: int,
        stop: int,
        found: ClipLandmarks,
        again: Callable[[], Frames],
    ) -> Clip:
        n_frames = stop - start
        clip = self._row(shot, found, track.width, track.height, again)
        samples = track.sound.samples[start * rates.SAMPLES_PER_FRAME : stop * rates.SAMPLES_PER_FRAME]
        # The last frame is kept if it has any sound; the rest of its sound is silence.
        clip.audio = np.pad(samples, (0, n_frames * rates.SAMPLES_PER_FRAME - len(samples)))
        clip.mel = melspectrogram(clip.audio, self.options.mel_padding)
        clip.source_fps = track.info.source_fps
        clip.audio_start = track.sound.starts
        clip.av_difference = track.av_difference
        clip.video_track = track.info.track
        clip.deinterlaced = track.info.interlaced
        clip.light = track.info.light
        clip.matrix = "bt601" if track.pixels == "opencv" else track.info.matrix
        clip.matrix_tagged = track.info.matrix_tagged
        clip.sample_aspect = track.info.sample_aspect
        clip.audio_track = track.sound.track
        clip.audio_mix = track.sound.mix
        return clip

    def _detect(self, frames: Frames, n_frames: int) -> ClipLandmarks:
        found = detect_clip(self.mesh, frames)
        if len(found.detected) < n_frames:
            raise ClipError("video", f"{len(found.detected)} of {n_frames} frames could be decoded")
        return found

    def _row(
        self,
        ref: ClipRef,
        found: ClipLandmarks,
        width: int,
        height: int,
        again: Callable[[], Frames],
    ) -> Clip:
        """The second pass over the frames: the views' geometry needs the landmarks of the whole clip."""
        n_frames = len(found.detected)
        if not found.confirmed and found.n_faces.any():
            raise ClipError(
                "landmarks", f"no human face in {_count(n_frames, 'frame')}, only something like one"
            )
        check_faces(found.detected, self.options.min_detected)
        transforms, detected = place_views(
            self.options.views,
            found.landmarks,
            found.detected,
            width,
            height,
            aligned=ref.aligned,
            min_detected=self.options.min_detected,
        )
        encoded: dict[str, list[bytes | None]] = {name: [None] * n_frames for name in transforms}
        landmarks68 = np.full((n_frames, 68, 2), np.nan, np.float32) if self.fan else None
        for i, frame in enumerate(again()):
            if not detected[i]:
                continue
            if landmarks68 is not None and self.fan is not None:
                faces = self.fan.detect(frame)
                if len(faces):
                    landmarks68[i] = faces[choose_face(faces, found.landmarks[i])]
            for name, image in cut(frame, i, transforms, self.options).items():
                encoded[name][i] = image
        landmarks = found.landmarks.astype(np.float32)
        landmarks[~detected] = np.nan
        return Clip(
            clip_id=ref.clip_id,
            dataset=self.options.name,
            split=ref.split,
            source=ref.source,
            speaker=ref.speaker,
            text=self._text(ref),
            start=ref.start,
            stop=ref.stop or 0.0,
            n_frames=n_frames,
            width=width,
            height=height,
            crop=ref.crop,
            landmarks=landmarks,
            detected=detected,
            n_faces=found.n_faces,
            small_faces=int((found.small & detected).sum()),
            landmarks68=landmarks68,
            transforms=transforms,
            images=encoded,
        )

    def _text(self, ref: ClipRef) -> str:
        if not ref.text_file:
            return ""
        try:
            return read_lrs_text(self.root / ref.text_file).text
        except OSError as error:
            raise ClipError("source", f"its text {ref.text_file} cannot be read: {error.strerror}") from None


def _count(n: int, what: str) -> str:
    n = max(n, 0)
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _failure(ref: ClipRef, error: ClipError) -> Failure:
    return Failure(ref.clip_id, ref.split, ref.source, error.step, error.reason)
