"""Two plain folders of videos, two single videos, or the predictions alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.clips.inputs.base import (
    Audio,
    Inputs,
    Protocol,
    candidate,
    check_audio,
    counted,
    in_order,
    left_over,
    scan_all,
)
from bench.clips.inputs.declared import Declared, in_view, read_declared
from bench.clips.inputs.files import VideoFolder
from bench.clips.job import Job, Take, Voice
from bench.common.errors import BenchError


def from_folders(
    predictions: Mapping[str, Path],
    truth: Path | None,
    *,
    protocol: Protocol = "reconstruction",
    audio: Audio = "prediction",
) -> Inputs:
    """Pair the videos of two folders by name; two single videos are a pair whatever their names.

    A clip is a true video; its id is the path below ``truth`` without the suffix. Predictions have the same path, or
    the same file name if that is unique. Without ``truth`` the clips are all videos that any method has, and only
    metrics without a reference can be computed.

    Args:
        predictions: method → folder, or one video.
        truth: folder of the true videos, one true video, or None.
        protocol: what drove the faces.
        audio: which sound belongs to the predicted frames.

    Raises:
        BenchError: there is nothing to pair, the predictions show different views, a folder holds two videos of the
            same name, or ``audio`` is ``truth`` and there is no true sound.
        PrepError: a folder is missing or cannot be read.
    """
    check_audio(audio, protocol)
    declared = read_declared(predictions)
    videos = scan_all(predictions)
    sources = {method: str(folder) for method, folder in predictions.items()}
    if truth is None:
        return _alone(videos, sources, protocol, audio, declared)
    true = VideoFolder.scan(truth)
    if not true.files:
        raise BenchError(f"no video in {truth}: it should hold the true videos")
    found: dict[str, dict[str, str]] = {}
    for method, folder in videos.items():
        pair = true.single and folder.single
        found[method] = dict(zip(true.files, folder.files, strict=True)) if pair else folder.match(true.files)
        if not found[method]:
            raise BenchError(_no_pair(folder, true))
    jobs, voices = [], {}
    for clip in true.files:
        path = true.file(clip)
        voices[clip] = Voice(path)
        candidates = tuple(
            candidate(
                method,
                videos[method].file(found[method][clip]) if clip in found[method] else None,
                audio,
                voices[clip],
                "",
            )
            for method in videos
        )
        jobs.append(Job(clip, Take(path), candidates=candidates))
    inputs = Inputs(
        name=_name(true),
        kind="folders",
        split="",
        protocol=protocol,
        jobs=in_order(jobs),
        unmatched=left_over(videos, {method: names.values() for method, names in found.items()}),
        videos=counted(videos),
        sources=sources,
        voices=voices if protocol == "reconstruction" else {},
    )
    return in_view(inputs, declared)


def _no_pair(folder: VideoFolder, true: VideoFolder) -> str:
    if folder.single:
        lack = f"{folder.given} has the name of no video in {true.given} ({true.examples()})"
        return f"{lack}: give its true video itself"
    if true.single:
        return f"no video in {folder.given} ({folder.examples()}) has the name of {true.given}: give one video itself"
    return f"no video in {folder.given} ({folder.examples()}) has the name of one in {true.given} ({true.examples()})"


def _name(videos: VideoFolder) -> str:
    """What the evaluation is called: as the folder, or as the video without its suffix."""
    return next(iter(videos.files)) if videos.single else videos.path.resolve().name


def _alone(
    videos: Mapping[str, VideoFolder],
    sources: Mapping[str, str],
    protocol: Protocol,
    audio: Audio,
    declared: Mapping[str, Declared],
) -> Inputs:
    if not videos:
        raise BenchError("nothing to score: give predictions with --pred, or a data set with --data")
    if audio == "truth":
        raise BenchError("--audio truth needs the true videos: give --truth")
    for method, folder in videos.items():
        if not folder.files:
            raise BenchError(f"no video in {folder.given}: it should hold the predictions of {method}")
    clips = sorted({name for folder in videos.values() for name in folder.files})
    if len(videos) > 1 and not any(all(c in folder.files for folder in videos.values()) for c in clips):
        named = " and ".join(f"{folder.given} ({folder.examples()})" for folder in videos.values())
        raise BenchError(f"no video has the same name in all of {named}")
    jobs = [
        Job(
            clip,
            None,
            candidates=tuple(
                candidate(method, folder.file(clip) if clip in folder.files else None, audio, None, "")
                for method, folder in videos.items()
            ),
        )
        for clip in clips
    ]
    first = next(iter(videos.values()))
    inputs = Inputs(
        name=_name(first),
        videos=counted(videos),
        kind="folders",
        split="",
        protocol=protocol,
        jobs=in_order(jobs),
        sources=sources,
    )
    return in_view(inputs, declared)
