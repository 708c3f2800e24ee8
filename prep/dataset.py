"""Torch data sets over prepared shards: windows of video with their landmarks and sound, and still images.

A sample is a pure function of (data set, spec, seed, epoch, index). Data-loader workers and ranks determine which
process reads it (see :mod:`prep.order`), not its content. Incomplete samples are excluded and counted when the index is
built; reading never retries. No detector and no video library is needed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from prep.derived_reading import DerivedColumns
from prep.errors import NoSamples, PrepError
from prep.face_box import over_face_box
from prep.index import ClipIndex, build_index, identities
from prep.landmark_sets import LANDMARK_SETS
from prep.names import composed
from prep.pages import MappedShards, fixed_values, float_values, last_value
from prep.pictures import Pictures
from prep.rates import SAMPLES_PER_FRAME
from prep.sample_spec import SampleSpec, Sound, is_derived
from prep.sampling import (
    LANDMARKS68,
    Draw,
    Windows,
    check_spec,
    columns_of,
    derived_sounds,
    draw,
    epoch_numbers,
    find_windows,
)
from prep.schema import TENSORS
from prep.shards import open_shard, shard_paths
from prep.sound.features import FEATURES, first_column, time_last
from prep.spec_text import spec_text
from prep.views import map_points

Sample = dict[str, Any]

#: Why a clip with a window is left out.
NOT_LISTED = "not among the clips of this run"


class WindowDataset(Dataset[Sample]):
    """One window of every clip, a different one in each epoch.

    A sample is a dict. T and N are the window and references of ``spec``, P is the number of points of its landmark
    set:

    =======================  ====================  =========================================================
    ``clip``                 str                   ``clip_id``
    ``frames``               (T,) int64            frames of the window
    ``reference_frames``     (N,) int64            all outside the window; where N > 0
    ``images``               (T, 3, H, W) uint8    RGB, where ``spec.view``; of ``spec.view_frames`` only
    ``reference_images``     (N, 3, H, W) uint8    RGB, where ``spec.view`` and N > 0
    ``landmarks``            (T, P, 2) float32     as ``spec.normalise`` says, where ``spec.landmarks``; with
                                                   ``spec.depth`` (T, P, 3)
    ``reference_landmarks``  (N, P, 2) float32     the same, where N > 0
    ``boxes``                (T, 4) float32        x0, y0, x1, y1 in frame pixels, where ``box``
    ``reference_boxes``      (N, 4) float32        the same, where N > 0
    ``frame_<feature>``      (T, \\*S, C) float32   of each of ``spec.frame_sounds``: S is the shape of a column of
                                                   the feature, C the number of columns
    ``window_<feature>``     (\\*S, C) float32      of each of ``spec.window_sounds``
    ``negative_<feature>``   (\\*S, C) float32      of another window, where ``spec.negative_gap``
    ``clip_<feature>``       (\\*S, C) float32      of each of ``spec.clip_sounds``: the whole clip, then zeros
    ``columns_<feature>``    () int64              how many of these columns are the clip's
    ``text``                 str                   what is said in the clip, where ``spec.text``
    ``identity``             () int64              place of the clip's speaker in :attr:`identities`, -1 for
                                                   others, where ``spec.identity``
    a name of                (T, \\*S)              where it is derived per frame; and ``reference_<name>``
    ``spec.derived``                               (N, \\*S), where N > 0
    the same                 (\\*S)                 where it is derived per clip
    =======================  ====================  =========================================================

    Args:
        folder: a prepared data set, or several.
        split: ``train``, ``val``, ``test`` or ``pretrain``, or several.
        spec: the content of a sample.
        seed: of windows, references and order.
        clips: ids of the clips to use; None: all. Ids that are not in these splits are ignored.
        derivations: derivation → the required key, see :func:`prep.derived_reading.find`; other derivations may have
            any key.
        known: the speakers that ``identity`` refers to, such as :attr:`identities` of the training set; None: those of
            the clips to use.

    Attributes:
        excluded: reason → number of clips that have no window or are not used.
        identities: the speakers of the clips to use, sorted, as ``<corpus>/<speaker>``, or ``known``. If the corpus
            does not give the speaker, :func:`prep.speakers.speaker_of` is used. Empty without ``spec.identity``.

    Raises:
        PrepError: the data set is missing, lacks a column, or has no window at all; or derived columns are missing. If
            there are several data sets, some may lack the split.
        ValueError: a name in ``spec`` does not exist.
    """

    def __init__(
        self,
        folder: Path | str | Sequence[Path | str],
        split: str | Sequence[str],
        spec: SampleSpec,
        seed: int = 0,
        clips: Collection[str] | None = None,
        derivations: Mapping[str, str] | None = None,
        known: Sequence[str] | None = None,
    ) -> None:
        check_spec(spec)
        folders = [folder] if isinstance(folder, (Path, str)) else folder
        splits = [split] if isinstance(split, str) else split
        paths = split_shards([Path(f) for f in folders], splits)
        self.spec = spec
        self.seed = seed
        self._index = build_index(paths, columns_of(spec), spec.text)
        heard = {sound.feature for sound in spec.sounds if is_derived(sound.feature)}
        self._derived = DerivedColumns(self._index, sorted({*spec.derived, *heard}), derivations)
        sounds = derived_sounds(self._derived, spec)
        windows = find_windows(self._index, spec, self._derived.there, sounds)
        self._windows = _listed(windows, self._index, clips)
        self.identities: list[str] = []
        self._identity: np.ndarray | None = None
        if spec.identity:
            self.identities, self._identity = identities(self._index, clips, known)
        self.excluded = self._windows.excluded
        self._shards = MappedShards(paths)
        self._pictures = (
            None if spec.view is None else Pictures(self._index, self._shards, spec.view, spec.size)
        )
        # The random numbers of the last epoch that was read.
        self._drawn = -1
        self._numbers = np.empty(0, np.float32)
        # In shared memory, so that set_epoch() also works for running data-loader workers.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        if not len(self):
            raise NoSamples(
                f"nothing of {' or '.join(splits)} in {', '.join(map(str, folders))}: {self.report()}"
            )

    def __len__(self) -> int:
        """Number of clips that have a window and are used."""
        return len(self._windows.clips)

    def __getitem__(self, index: int) -> Sample:
        """The window of clip ``index`` in the current epoch."""
        return self.sample(int(self._epoch), index)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of ``dataset[index]``, also in running workers."""
        self._epoch.fill_(epoch)

    def report(self) -> str:
        """One line: clips used, and clips left out by reason."""
        left_out = [f"{count} × {reason}" for reason, count in sorted(self.excluded.items())]
        line = f"{len(self)} of {len(self._index)} clips"
        return f"{line}; left out: {', '.join(left_out)}" if left_out else line

    def sample(self, epoch: int, index: int) -> Sample:
        """The window of clip ``index`` in ``epoch``.

        Raises:
            IndexError: ``index`` is not in 0 … len - 1.
            PrepError: a shard was changed since the index was built.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{index} of {len(self)}")
        clip = int(self._windows.clips[index])
        starts = self._windows.starts[self._index.span(clip)]
        if epoch != self._drawn:
            self._numbers = epoch_numbers(len(self), self.spec, self.seed, epoch)
            self._drawn = epoch
        chosen = draw(self.spec, starts, self._index.detected_in(clip), self._numbers[index].tolist())
        try:
            return self._read(clip, chosen)
        except ValueError as error:
            path = self._index.paths[self._index.shard[clip]]
            raise PrepError(
                f"{path}, clip {self._index.clip_ids[clip]}: {error}; was the shard rewritten?"
            ) from None

    def picture_bytes(self, samples: int | None = None) -> int:
        """Bytes of memory that :meth:`keep_pictures` needs at most; 0 for samples without pictures.

        Args:
            samples: number of different samples that will be read, or None for all.
        """
        if self._pictures is None:
            return 0
        frames = int(self._index.pictures(self._windows.clips).sum())
        if samples is not None:
            shown = len(self.spec.view_frames or range(self.spec.window)) + self.spec.references
            frames = min(frames, samples * shown)
        return self._pictures.size_of(frames)

    def keep_pictures(self) -> None:
        """From now on, keep every picture once it is decoded, see :class:`prep.frame_cache.FrameCache`.

        Samples stay the same. Workers that are forked share the memory; those of other kinds decode again.

        Raises:
            OSError: the system has no room for it.
        """
        if self._pictures is not None:
            self._pictures.keep(self._index.pictures(self._windows.clips))

    def forget_pictures(self) -> None:
        """Give the memory of :meth:`keep_pictures` back."""
        if self._pictures is not None:
            self._pictures.forget()

    @property
    def keeps_no_more(self) -> bool:
        """Whether :meth:`keep_pictures` stopped keeping, because little memory is left. What is there stays."""
        return self._pictures is not None and self._pictures.stopped

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of everything that determines the samples and their order: clips, spec and seed."""
        clips = (self._index.clip_ids[clip] for clip in self._windows.clips)
        asked = " ".join([spec_text(self.spec), *sorted(self._derived.keys.values())])
        return hashlib.sha256("\n".join([asked, str(self.seed), *clips]).encode()).hexdigest()

    def _read(self, clip: int, chosen: Draw) -> Sample:
        spec = self.spec
        frames = np.concatenate([np.arange(chosen.start, chosen.start + spec.window), chosen.references])
        detected = self._index.detected_in(clip)
        count, places = len(detected), frames
        if not detected.all():
            # Undetected frames are stored as null, and nulls have no entry in a page's values.
            values = np.cumsum(detected)
            count, places = int(values[-1]), values[frames] - 1
        sample: Sample = {"clip": self._index.clip_ids[clip]}

        def add(name: str, values: np.ndarray) -> None:
            # References come last.
            of_window = len(values) - spec.references
            sample[name] = torch.from_numpy(values[:of_window])
            if spec.references:
                sample[f"reference_{name}"] = torch.from_numpy(values[of_window:])

        add("frames", frames)
        if self._pictures is not None:
            shown = places
            if spec.view_frames is not None:
                shown = np.concatenate([places[list(spec.view_frames)], places[spec.window :]])
            add("images", self._pictures.read(clip, shown, count))
        if spec.landmarks is not None:
            for name, values in self._landmarks(clip, spec.landmarks, frames, places, count).items():
                add(name, values)
        for name in spec.derived:
            if self._derived.columns[name].per == "frame":
                add(name, self._derived.rows(name, clip, frames))
            else:
                sample[name] = torch.from_numpy(self._derived.rows(name, clip, slice(None)).copy())
        if spec.text:
            sample["text"] = self._index.texts[clip]
        if self._identity is not None:
            sample["identity"] = torch.tensor(int(self._identity[clip]))
        self._add_sounds(sample, clip, chosen)
        return sample

    def _landmarks(
        self, clip: int, name: str, frames: np.ndarray, places: np.ndarray, count: int
    ) -> dict[str, np.ndarray]:
        """``landmarks`` and, for ``box``, ``boxes`` of ``frames``, the ``places`` among ``count`` stored ones."""
        normalise = self.spec.normalise
        n_frames = len(self._index.detected_in(clip))
        if name == LANDMARKS68:
            points = fixed_values(self._chunk(clip, name), n_frames, TENSORS[name][1])[frames]
        else:
            mesh = fixed_values(self._chunk(clip, "landmarks"), count, TENSORS["landmarks"][1])[places]
            if normalise == "box":
                return over_face_box(mesh, LANDMARK_SETS[name], self._index.sizes[clip])
            points = mesh.take(LANDMARK_SETS[name], axis=1)[..., : 3 if self.spec.depth else 2]
        if normalise == "view":
            stored = float_values(self._chunk(clip, f"{self.spec.view}_transform"), 6 * n_frames)
            points = map_points(points, stored.reshape(-1, 2, 3)[frames])
        return {"landmarks": np.ascontiguousarray(points, np.float32)}

    def _add_sounds(self, sample: Sample, clip: int, chosen: Draw) -> None:
        spec = self.spec
        for sound in spec.frame_sounds:
            window = range(chosen.start, chosen.start + spec.window)
            chunks = self._heard(clip, sound, window)
            sample[f"frame_{sound.feature}"] = torch.from_numpy(np.stack(chunks))
        for sound in spec.window_sounds:
            for name, start in (("window", chosen.start), ("negative", chosen.negative)):
                if start is not None:
                    at = start + spec.window_sound_frame
                    (chunk,) = self._heard(clip, sound, range(at, at + 1))
                    sample[f"{name}_{sound.feature}"] = torch.from_numpy(chunk)
        for sound in spec.clip_sounds:
            (heard,) = self._heard(clip, sound, range(1))
            count = heard.shape[-1]
            padded = np.zeros((*heard.shape[:-1], sound.columns), np.float32)
            padded[..., :count] = heard
            sample[f"clip_{sound.feature}"] = torch.from_numpy(padded)
            sample[f"columns_{sound.feature}"] = torch.tensor(count)

    def _heard(self, clip: int, sound: Sound, frames: range) -> list[np.ndarray]:
        """The sound of each of some consecutive frames; only the span of all of them is read or computed."""
        name = sound.feature
        rate = self._derived.columns[name].rate if is_derived(name) else FEATURES[name].rate
        assert rate is not None
        starts = [first_column(frame, sound, rate) for frame in frames]
        first, last = starts[0], starts[-1] + sound.columns
        if is_derived(name):
            span = self._derived.rows(name, clip, slice(first, last))
        elif (stored := FEATURES[name].stored) is not None:
            count = int(self._index.mel_columns[clip])
            span = fixed_values(self._chunk(clip, stored), count, TENSORS[stored][1])[first:last]
        else:
            size = 2 * SAMPLES_PER_FRAME * len(self._index.detected_in(clip))
            samples = np.frombuffer(last_value(self._chunk(clip, "audio"), size), "<i2")
            span = FEATURES[name].compute(samples, first, last)
        return [time_last(span[start - first : start - first + sound.columns]) for start in starts]

    def _chunk(self, clip: int, column: str) -> memoryview:
        start, size = self._index.chunks[column][clip].tolist()
        return self._shards.read(int(self._index.shard[clip]), start, size)


class StillDataset(WindowDataset):
    """One image of every clip or still; for clips, a different frame in each epoch.

    A sample is a dict: ``clip`` str, ``frame`` () int64, ``image`` (3, H, W) uint8 RGB and, if requested, ``landmarks``
    (P, 2) float32 in pixels of the view.

    Args:
        folder: a prepared data set, or several.
        split: ``train``, ``val``, ``test`` or ``pretrain``, or several.
        view: crop geometry.
        landmarks: a name of :data:`prep.landmark_sets.LANDMARK_SETS`, or ``landmarks68``, or None.
        seed: of frames and order.
        clips: ids of the clips to use; None: all.
        size: pixels of a side to which images are scaled; None: that of the view. Landmarks are not scaled.

    Raises:
        PrepError: as :class:`WindowDataset`.
    """

    def __init__(
        self,
        folder: Path | str | Sequence[Path | str],
        split: str | Sequence[str],
        view: str,
        landmarks: str | None = None,
        seed: int = 0,
        clips: Collection[str] | None = None,
        size: int | None = None,
    ) -> None:
        spec = SampleSpec(window=1, view=view, size=size, landmarks=landmarks, normalise="view")
        super().__init__(folder, split, spec, seed, clips)

    def sample(self, epoch: int, index: int) -> Sample:
        """The image of clip ``index`` in ``epoch``. Raises as :meth:`WindowDataset.sample`."""
        names = {"frames": "frame", "images": "image"}
        window = super().sample(epoch, index)
        return {names.get(key, key): value if key == "clip" else value[0] for key, value in window.items()}


def clip_ids(folder: Path) -> frozenset[str]:
    """Ids of all clips of a data set. Raises :class:`PrepError` if the folder is not a data set."""
    tables = (open_shard(path).read(columns=["clip_id"], use_threads=False) for path in shard_paths(folder))
    return frozenset(name for table in tables for name in table.column("clip_id").to_pylist())


def split_shards(folders: Sequence[Path], splits: Sequence[str]) -> list[Path]:
    """All shards of some splits of several data sets; some data sets may lack a split.

    Raises:
        PrepError: there are none, or a folder is not a data set.
    """
    found, problem = [], None
    for folder in folders:
        shard_paths(folder)
        for split in splits:
            try:
                found += shard_paths(folder, split)
            except PrepError as error:
                problem = problem or error
    if not found and problem is not None:
        raise problem
    return found


def _listed(windows: Windows, index: ClipIndex, clips: Collection[str] | None) -> Windows:
    """``windows`` of the clips to use."""
    if clips is None:
        return windows
    wanted = frozenset(map(composed, clips))
    kept = np.array([composed(index.clip_ids[clip]) in wanted for clip in windows.clips.tolist()], bool)
    if kept.all():
        return windows
    excluded = {**windows.excluded, NOT_LISTED: int((~kept).sum())}
    return replace(windows, clips=windows.clips[kept], excluded=excluded)
