"""Corrects a constant offset between picture and sound: a new data set in which the sound of some clips is shifted.

Sound is shifted by whole frames. Frames that have no sound afterwards are cut off: the data set holds no sound for
them, and lips that move over silence would teach a method, and tell a metric, something wrong. So a clip becomes
shorter by its shift. ``start`` and ``stop`` follow, therefore its frames are still found in the source (``bench eval``,
``bench prep --add-view``). The mel spectrogram is computed anew from the shifted sound. Pictures, landmarks and
matrices of the frames that stay are those of before.

Shards without a shifted clip are copied byte for byte, after a comparison with their digest. In the others the rows of
the other clips stay as they are. Derived columns are not taken along, since they may depend on the sound: ``bench
derive`` computes them for the new set. The key ``corrected`` of its manifest says of which set and by which judge it
was made; :data:`RECORD` has the shift of every shifted clip.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from prep import rates
from prep.clip import MIN_FRAMES
from prep.crops import check_faces
from prep.errors import ClipError, PrepError
from prep.locks import exclusive
from prep.options import suite_version
from prep.pipeline import finish, os_error, sweep
from prep.schema import Clip
from prep.shard_tasks import PrepProgress, ShardTask, compute, send_progress
from prep.shards import (
    MANIFEST,
    SHARDS,
    AtomicFile,
    Failure,
    ShardInfo,
    ShardWriter,
    describe,
    made_by,
    open_shard,
    read_clip,
    read_manifest,
    sha256,
    shard_failures,
    write_json,
)
from prep.sound.mel import melspectrogram

#: The shifts, CSV with :data:`COLUMNS`, beside the manifest of a corrected set.
RECORD = "corrections.csv"
#: ``video_late``: by how many frames the picture was late. ``first``, ``frames``: the first of the former
#: ``frames_before`` frames that stays, and how many do. A set that was corrected twice has the lines of both times.
COLUMNS = ("clip", "split", "video_late", "first", "frames", "frames_before")
COMMAND = "bench offsets --correct"


def shifted(clip: Clip, video_late: int, mel_padding: str = "constant", min_detected: float = 0.0) -> Clip:
    """A clip whose sound is moved so that it fits its picture, without the frames that have no sound then.

    Args:
        clip: with sound.
        video_late: by how many frames its picture is late; negative: early. Frame t gets the sound of t - video_late.
        mel_padding: as in :func:`prep.sound.mel.melspectrogram`.
        min_detected: smallest share of the remaining frames, 0 to 1, that must show a face.

    Returns:
        A new clip with ``n_frames - abs(video_late)`` frames.

    Raises:
        ClipError: there is no sound, or too few frames, or too few faces remain.
    """
    if clip.audio is None:
        raise ClipError("audio", "no sound that could be shifted")
    left = clip.n_frames - abs(video_late)
    if left < MIN_FRAMES:
        raise ClipError(
            "audio",
            f"{max(left, 0)} of {clip.n_frames} frames have sound when it is shifted by {video_late:+d} frames, at "
            f"least {MIN_FRAMES} are needed",
        )
    first, heard = max(video_late, 0), max(-video_late, 0)
    frames = slice(first, first + left)
    check_faces(clip.detected[frames], min_detected)
    audio = clip.audio[heard * rates.SAMPLES_PER_FRAME : (heard + left) * rates.SAMPLES_PER_FRAME]
    start = round(clip.start * rates.FPS) + first
    return replace(
        clip,
        n_frames=left,
        start=start / rates.FPS,
        stop=(start + left) / rates.FPS,
        landmarks=clip.landmarks[frames],
        detected=clip.detected[frames],
        n_faces=clip.n_faces[frames],
        # Which frames these were is not stored.
        small_faces=min(clip.small_faces, int(clip.detected[frames].sum())),
        landmarks68=None if clip.landmarks68 is None else clip.landmarks68[frames],
        transforms={view: matrices[frames] for view, matrices in clip.transforms.items()},
        images={view: pictures[frames] for view, pictures in clip.images.items()},
        audio=audio,
        mel=melspectrogram(audio, mel_padding),
    )


def check_apart(data: Path, out: Path) -> None:
    """Check that a corrected set would lie neither in its source nor around it.

    Raises:
        PrepError: it would.
    """
    source, there = data.resolve(), out.resolve()
    if there == source or source in there.parents or there in source.parents:
        raise PrepError(
            f"{out} is not apart from {data}, which stays as it is: name another folder with --correct"
        )


def correct(
    data: Path,
    out: Path,
    shifts: Mapping[str, int],
    record: Mapping[str, Any],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    on_progress: Callable[[PrepProgress], None] | None = None,
) -> dict[str, Any]:
    """Write ``out``, the data set ``data`` with the sound of some clips shifted; continues if it was interrupted.

    A clip of which too little remains becomes a failure.

    Args:
        data: a complete data set; it is not changed.
        out: folder to write. Its shards have the size of those of ``data``, less the frames that are cut off.
        shifts: clip → by how many frames its picture is late; clips that are not named stay as they are.
        record: JSON values about how the shifts were found, for the manifest.
        workers: local worker processes, one thread each; None: the number of cores.
        scheduler: address of a running Dask scheduler to use instead of a local cluster.
        on_progress: called in this process for every message.

    Returns:
        The manifest, as written.

    Raises:
        PrepError: ``data`` is not complete, lacks a clip, or is damaged; ``out`` is not apart from ``data``, holds
            something else, is in use or cannot be written; or the disk is too small.
    """
    notify = on_progress or (lambda progress: None)
    check_apart(data, out)
    manifest = read_manifest(data)
    if not manifest.get("complete"):
        raise PrepError(f"{data} is not complete: finish it with the {made_by(manifest)} that began it")
    shifts = {clip: late for clip, late in shifts.items() if late}
    options = manifest.get("options", {})
    infos = [ShardInfo.from_entry(entry) for entry in manifest["shards"]]
    rows, moved = _plan(data, infos, shifts)
    corrected = {
        **record,
        "from": {"name": options.get("name", ""), "manifest_sha256": sha256(data / MANIFEST)},
        "before": manifest.get("corrected"),
        "suite": suite_version(),
        "clips": len(shifts),
        "record_sha256": hashlib.sha256(rows).hexdigest(),
    }
    kept = ("root", "suite", "options", "listing", "added")
    made = {key: manifest[key] for key in kept if key in manifest} | {"corrected": corrected}
    try:
        (out / SHARDS).mkdir(parents=True, exist_ok=True)
        with exclusive(out, COMMAND):
            pending = [info for info in infos if not (out / SHARDS / info.name).is_file()]
            if _there(out, made, pending):
                return read_manifest(out)
            sweep(out)
            with AtomicFile(out / RECORD) as sink:
                sink.write(rows)
                sink.commit()
            write_json(out / MANIFEST, {**made, "complete": False})
            _check_space(out, sum(info.bytes for info in pending))
            found = {}
            for info in infos:
                if info not in pending:
                    path = out / SHARDS / info.name
                    found[info.name] = describe(path, info.split) if moved[info.name] else info
                    notify(PrepProgress(info.clips, info.frames, info.failures, 1))
            tasks = [
                ShardTask(
                    info.name,
                    info.clips,
                    partial(
                        correct_shard,
                        data / SHARDS / info.name,
                        out / SHARDS / info.name,
                        info,
                        moved[info.name],
                        options.get("mel_padding", "constant"),
                        options.get("min_detected", 0.0),
                    ),
                )
                for info in pending
            ]
            if tasks:
                for written in compute(tasks, workers, scheduler, None, notify):
                    found[written.name] = written
            return finish(out, made, [found[info.name] for info in infos])
    except OSError as error:
        raise PrepError(os_error(error, out)) from error


def correct_shard(
    path: Path,
    out: Path,
    info: ShardInfo,
    shifts: Mapping[str, int],
    mel_padding: str,
    min_detected: float,
) -> ShardInfo:
    """Write one shard: the task of the workers.

    Args:
        path: the shard.
        out: the file to write.
        info: what the manifest says of the shard.
        shifts: clip → by how many frames its picture is late. Without any, the file is copied.
        mel_padding: as in :func:`prep.sound.mel.melspectrogram`.
        min_detected: smallest share of the frames of a shifted clip, 0 to 1, that must show a face.

    Raises:
        PrepError: the shard differs from the manifest.
    """
    if not shifts:
        _copy(path, out, info)
        return info
    if sha256(path) != info.sha256:
        raise _differs(path)
    file = open_shard(path)
    with ShardWriter(out, file.schema_arrow) as writer:
        for failure in shard_failures(path):
            writer.fail(failure)
        for group in range(file.num_row_groups):
            clip = read_clip(file, group)
            late = shifts.get(clip.clip_id)
            if late is not None:
                try:
                    clip = shifted(clip, late, mel_padding, min_detected)
                except ClipError as error:
                    writer.fail(Failure(clip.clip_id, clip.split, clip.source, error.step, error.reason))
                    send_progress(info.name, PrepProgress(failures=1))
                    continue
            writer.add(clip)
            send_progress(info.name, PrepProgress(clips=1, frames=clip.n_frames))
        return writer.finish(info.split)


def _copy(path: Path, out: Path, info: ShardInfo) -> None:
    with path.open("rb") as file, AtomicFile(out) as sink:
        while block := file.read(1 << 22):
            sink.write(block)
        if sink.sha256 != info.sha256:
            raise _differs(path)
        sink.commit()


def _differs(path: Path) -> PrepError:
    folder = path.parent.parent
    return PrepError(f"{path} differs from the manifest: `bench inspect {folder} --verify` says what to do")


def _plan(
    data: Path, infos: list[ShardInfo], shifts: Mapping[str, int]
) -> tuple[bytes, dict[str, dict[str, int]]]:
    """The content of :data:`RECORD`, and shard → the shifts of its clips."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    if (data / RECORD).is_file():
        text.write((data / RECORD).read_text("utf-8"))
    else:
        lines.writerow(COLUMNS)
    moved: dict[str, dict[str, int]] = {}
    for info in infos:
        path = data / SHARDS / info.name
        if not path.is_file():
            raise PrepError(f"{path} is missing: run the `bench prep` that made {data} again")
        table = open_shard(path).read(columns=["clip_id", "n_frames"])
        mine = moved[info.name] = {}
        for clip, frames in zip(*(table.column(i).to_pylist() for i in range(2)), strict=True):
            if late := shifts.get(clip, 0):
                mine[clip] = late
                left = max(frames - abs(late), 0)
                lines.writerow((clip, info.split, late, max(late, 0), left, frames))
    there = {clip for mine in moved.values() for clip in mine}
    if missing := sorted(shifts.keys() - there):
        raise PrepError(
            f"{data} has no clip {missing[0]} ({len(missing):,} of the clips to correct are missing)"
        )
    return text.getvalue().encode(), moved


def _there(out: Path, made: Mapping[str, Any], pending: Sequence[ShardInfo]) -> bool:
    """Whether ``out`` is finished; what was begun with other shifts, or is something else, is refused."""
    if not (out / MANIFEST).is_file():
        if any((out / SHARDS).iterdir()):
            raise PrepError(f"{out / SHARDS} has files without a {MANIFEST}: name another folder")
        return False
    manifest = read_manifest(out)
    if manifest.get("corrected") != made["corrected"]:
        raise PrepError(
            f"{out} holds another data set, or was corrected by other shifts: name another folder, or delete it"
        )
    if pending and manifest.get("options") != made.get("options"):
        raise PrepError(
            f"{out / SHARDS / pending[0].name} is missing, and views were added to the others: delete {out}, and run "
            "the same command again"
        )
    return bool(manifest.get("complete")) and not pending


def _check_space(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if needed > free:
        raise PrepError(
            f"the disk of {out} is too small: {needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free; "
            "name a folder on another disk"
        )
