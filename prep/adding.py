"""Adds views to a prepared data set, from the landmarks that it stores: no face is detected again.

Shards are replaced one by one, each atomically, so the data set can be read at any time. Until all are done its
manifest has the key ``adding``, and its options name the views that every shard has.

The result is that of preparing with all views at once, byte for byte, with two exceptions. Landmarks are stored as
float32: a box of whole pixels can be one pixel off in a frame where a landmark lies within that rounding of a whole
pixel. And a view whose crop has one size for a whole clip does not see the frames in which an earlier view has no crop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from prep import images, rates, stills, video_reading
from prep.crops import cut, place_views
from prep.detectors import recorded
from prep.errors import ClipError, PrepError
from prep.locks import exclusive
from prep.names import known
from prep.options import PrepOptions, distribution_versions
from prep.pipeline import add_command, finish, os_error, provenance, sweep
from prep.pixels import Pixels
from prep.schema import Clip, extend_schema, schema_views
from prep.shard_tasks import PrepProgress, ShardTask, compute, send_progress
from prep.shards import (
    MANIFEST,
    SHARDS,
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
from prep.sources import get_source
from prep.views import VIEWS

#: Mean difference in grey levels of a stored crop to the same crop of today's source from which on it is another video.
#: Two decoders, or two versions of one, differ by less than two.
OTHER_PICTURE = 12.0


def add_views(
    data: Path,
    views: Sequence[str],
    *,
    root: Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    report: Path | None = None,
    on_progress: Callable[[PrepProgress], None] | None = None,
) -> dict[str, Any]:
    """Add views to a complete data set; continues if it was interrupted. Views that are there already are left alone.

    A frame in which a new view has no crop counts as not detected from then on, in all views, as when all are prepared
    at once; a clip with too few frames left becomes a failure.

    Args:
        data: the data set.
        views: names of views.
        root: the corpus, if it is elsewhere now; None: where the manifest says.
        workers: local worker processes, one thread each; None: the number of cores.
        scheduler: address of a running Dask scheduler to use instead of a local cluster.
        report: path of Dask's performance report, HTML.
        on_progress: called in this process for every message.

    Returns:
        The manifest, as written.

    Raises:
        PrepError: a view is unknown; the data set is not complete, is in use, or gets other views; a source file is
            missing or is not the one that was prepared; or something cannot be written.
    """
    wanted = known("view", views, VIEWS)
    notify = on_progress or (lambda progress: None)
    read_manifest(data)
    try:
        with exclusive(data, "bench prep"):
            manifest = _complete(data)
            stored = tuple(manifest["options"]["views"])
            new = tuple(name for name in wanted if name not in stored)
            _check_started(data, manifest, new)
            if not new:
                return manifest
            root = (root or Path(manifest["root"])).resolve()
            options = _options(manifest, (*stored, *new))
            sweep(data)
            added = _Added(data, manifest, new)
            for info in added.done():
                notify(PrepProgress(info.clips, info.frames, info.failures, 1))
            aligned = _sources(root, data, added.pending(), options.source)
            added.begin()
            tasks = [
                ShardTask(
                    path.name,
                    open_shard(path).num_row_groups,
                    partial(extend_shard, path, root, new, options, aligned[path]),
                )
                for path in added.pending()
            ]
            if tasks:
                for extended in compute(tasks, workers, scheduler, report, notify):
                    added.replaced(extended)
            return added.end(root)
    except OSError as error:
        raise PrepError(os_error(error, data)) from error


@dataclass(frozen=True)
class ExtendedShard(ShardInfo):
    """A shard with new views; ``turned_off`` counts the frames in which a new view has no crop."""

    turned_off: int = 0


def extend_shard(
    path: Path, root: Path, views: Sequence[str], options: PrepOptions, aligned: frozenset[str]
) -> ExtendedShard:
    """Replace one shard by one with more views: the task of the workers.

    Args:
        path: the shard.
        root: the corpus.
        views: to add.
        options: of the data set, with all views.
        aligned: sources whose frames are aligned by FFHQ's rule.

    Raises:
        PrepError: a source file is missing, or is not the one that was prepared.
    """
    import cv2

    cv2.setNumThreads(1)
    file = open_shard(path)
    schema = extend_schema(file.schema_arrow, views, _provenance(file.schema_arrow, options))
    failures, split, turned_off = shard_failures(path), path.name.rpartition("-")[0], 0
    with ShardWriter(path, schema) as writer:
        for group in range(file.num_row_groups):
            clip = read_clip(file, group)
            before = int(clip.detected.sum())
            try:
                _extend(clip, root, views, options, clip.source in aligned)
            except ClipError as error:
                failures.append(Failure(clip.clip_id, clip.split, clip.source, error.step, error.reason))
                turned_off += before
                send_progress(path.name, PrepProgress(failures=1))
                continue
            turned_off += before - int(clip.detected.sum())
            writer.add(clip)
            send_progress(path.name, PrepProgress(clips=1, frames=clip.n_frames))
        for failure in failures:
            writer.fail(failure)
        return ExtendedShard(**asdict(writer.finish(split)), turned_off=turned_off)


def _provenance(schema: pa.Schema, options: PrepOptions) -> dict[str, str]:
    """The metadata of a shard that change with its views; the version that prepared its other columns stays."""
    found = {}
    now = {key: json.loads(value) for key, value in provenance(options).items() if key != "suite_version"}
    now["options"] = {"views": now["options"]["views"]}
    for key, value in now.items():
        stored = json.loads(schema.metadata.get(key.encode(), b"{}"))
        found[key] = json.dumps({**stored, **value}, sort_keys=True)
    return found


def _extend(clip: Clip, root: Path, views: Sequence[str], options: PrepOptions, aligned: bool) -> None:
    """Add views to a clip.

    Raises:
        ClipError: too few frames have a crop in every view.
        PrepError: the source is missing, or not the one that was prepared.
    """
    transforms, detected = place_views(
        views,
        clip.landmarks,
        clip.detected,
        clip.width,
        clip.height,
        aligned=aligned,
        min_detected=options.min_detected,
    )
    encoded: dict[str, list[bytes | None]] = {name: [None] * clip.n_frames for name in views}
    count = 0
    try:
        for i, frame in enumerate(_frames(clip, root, options)):
            if frame.shape[:2] != (clip.height, clip.width):
                raise _other(
                    root, clip, f"{frame.shape[1]}x{frame.shape[0]} pixels, not {clip.width}x{clip.height}"
                )
            if detected[i]:
                if not detected[:i].any():
                    _check_picture(root, clip, i, frame)
                for name, image in cut(frame, i, transforms, options).items():
                    encoded[name][i] = image
            count += 1
    except ClipError as error:
        raise _other(root, clip, error.reason) from None
    if count != clip.n_frames:
        raise _other(root, clip, f"{count} of {clip.n_frames} frames")
    clip.transforms |= transforms
    clip.images |= encoded
    off = ~detected
    clip.detected = detected
    clip.landmarks = np.where(off[:, None, None], np.float32(np.nan), clip.landmarks)
    if options.fan and clip.landmarks68 is not None:
        clip.landmarks68 = np.where(off[:, None, None], np.float32(np.nan), clip.landmarks68)
    for pictures in clip.images.values():
        for i in np.flatnonzero(off).tolist():
            pictures[i] = None


def _frames(clip: Clip, root: Path, options: PrepOptions) -> Iterator[np.ndarray]:
    """The frames of a clip as they were prepared."""
    path = root / clip.source
    if clip.fps == 0:
        yield stills.image(path)
        return
    start = round(clip.start * rates.FPS)
    # A corpus that resizes its crops makes them square, so the row shows by its size whether it did.
    resized = clip.crop is not None and clip.crop[2:] != (clip.width, clip.height)
    yield from video_reading.frames(
        path,
        start,
        start + clip.n_frames,
        crop=clip.crop,
        size=clip.width if resized else None,
        pixels=cast("Pixels", options.pixels),
    )


def _check_picture(root: Path, clip: Clip, index: int, frame: np.ndarray) -> None:
    """Compare a frame with the crop of it that is stored."""
    for name, pictures in clip.images.items():
        data = pictures[index]
        if data is not None and name in VIEWS:
            stored = images.decode(data).astype(np.int16)
            now = VIEWS[name].crop(frame, clip.transforms[name][index])
            difference = float(np.abs(stored - now).mean())
            if difference > OTHER_PICTURE:
                raise _other(root, clip, f"its pictures differ by {difference:.0f} grey levels")
            return


def _other(root: Path, clip: Clip, why: str) -> PrepError:
    return PrepError(
        f"{root / clip.source} does not give the frames that {clip.clip_id} was prepared from ({why}): restore that "
        "file and run the same command again, it continues from there; or prepare the corpus anew with another --out"
    )


class _Added:
    """The state of adding views to a data set; its manifest is written after every shard.

    Args:
        data: the data set.
        manifest: as it is now.
        views: that are added.
    """

    def __init__(self, data: Path, manifest: dict[str, Any], views: tuple[str, ...]) -> None:
        self._data = data
        self._manifest = manifest
        self._views = views
        self._infos = {entry["name"]: ShardInfo.from_entry(entry) for entry in manifest["shards"]}
        for name in self._infos:
            if not self._path(name).is_file():
                raise PrepError(f"{self._path(name)} is missing: run the `bench prep` that made {data} again")
        self._done = {
            name
            for name in self._infos
            if set(views) <= set(schema_views(open_shard(self._path(name)).schema_arrow))
        }

    def done(self) -> list[ShardInfo]:
        """The shards that have the views already."""
        found = [describe(self._path(name), self._infos[name].split) for name in sorted(self._done)]
        for info in found:
            # One that the manifest does not know was replaced just before a kill.
            if info.sha256 != self._infos[info.name].sha256:
                self._infos[info.name] = info
        return found

    def pending(self) -> list[Path]:
        """The shards that lack the views."""
        return [self._path(name) for name in self._infos if name not in self._done]

    def begin(self) -> None:
        """Record what is being added."""
        if "adding" not in self._manifest:
            self._manifest["before"] = sha256(self._data / MANIFEST)
        self._manifest["adding"] = list(self._views)
        self._save()

    def replaced(self, shard: ExtendedShard) -> None:
        """Record that a shard has the views."""
        info = ShardInfo.from_entry(shard.entry())
        if not shard.turned_off:
            before = self._infos[shard.name]
            info = replace(info, earlier=(*before.earlier, before.sha256))
        self._infos[shard.name] = info
        self._save()

    def end(self, root: Path) -> dict[str, Any]:
        """Record that every shard has the views; returns the manifest."""
        manifest = {
            key: value for key, value in self._manifest.items() if key not in ("adding", "before", "earlier")
        }
        options = manifest["options"]
        manifest |= {"root": str(root), "options": {**options, "views": [*options["views"], *self._views]}}
        if all(info.earlier for info in self._infos.values()):
            manifest["earlier"] = [*self._manifest.get("earlier", ()), self._manifest["before"]]
        versions = distribution_versions()
        # Those of the detector do not matter here.
        before = {name: found for name, found in options.get("versions", {}).items() if name in versions}
        if versions != before:
            manifest["added"] = {**manifest.get("added", {}), **dict.fromkeys(self._views, versions)}
        return finish(self._data, manifest, list(self._infos.values()))

    def _save(self) -> None:
        entries = [info.entry() for info in self._infos.values()]
        write_json(self._data / MANIFEST, {**self._manifest, "shards": entries})

    def _path(self, name: str) -> Path:
        return self._data / SHARDS / name


def _complete(data: Path) -> dict[str, Any]:
    manifest = read_manifest(data)
    if not manifest.get("complete"):
        raise PrepError(
            f"{data} is not complete: finish it with the {made_by(manifest)} that began it, then add views"
        )
    if not isinstance(manifest.get("options"), dict) or "root" not in manifest:
        raise PrepError(f"{data / MANIFEST} does not say how the data set was prepared: prepare it anew")
    return manifest


def _check_started(data: Path, manifest: Mapping[str, Any], new: tuple[str, ...]) -> None:
    started = manifest.get("adding", ())
    if started and set(started) != set(new):
        raise PrepError(
            f"the views {', '.join(started)} are being added to {data}: finish that first: {add_command(data, started)}"
        )


def _options(manifest: Mapping[str, Any], views: tuple[str, ...]) -> PrepOptions:
    stored = manifest["options"]
    known_now = {field.name: stored[field.name] for field in fields(PrepOptions) if field.name in stored}
    return PrepOptions(**{**known_now, "views": views, "detector": recorded(stored)["name"]})


def _sources(root: Path, data: Path, shards: Sequence[Path], source: str) -> dict[Path, frozenset[str]]:
    """Shard → those of its source files whose frames are aligned by FFHQ's rule.

    Raises:
        PrepError: a source file is missing.
    """
    stored: dict[Path, set[str]] = {}
    missing: list[str] = []
    stills = False
    for path in shards:
        table = open_shard(path).read(columns=["source", "fps"])
        stored[path] = set(table.column("source").to_pylist())
        stills = stills or 0.0 in table.column("fps").to_pylist()
        missing += sorted(name for name in stored[path] if not (root / name).is_file())
    if missing:
        raise PrepError(
            f"{root / missing[0]} is missing ({len(missing):,} source files of {data} are): put the corpus back, or "
            f"say where it is now: bench prep {source} FOLDER --out {data} --add-view …"
        )
    # Only stills are aligned (FFHQ). A corpus of videos is not listed, which would need its lists.
    listed = get_source(source).list_clips(root) if stills else ()
    aligned = {ref.source for ref in listed if ref.aligned}
    return {path: frozenset(names & aligned) for path, names in stored.items()}
