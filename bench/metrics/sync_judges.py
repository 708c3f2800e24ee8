"""Sync judges of one form: whatever says how well lips and sound belong together embeds both once a frame.

The dot product of ``lips[t]`` and ``sounds[t + d]`` is the score of sound that is shifted by d frames. What is judged
by that, and by which rules, is the same for every judge: :mod:`baselines.sync_judges`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from bench.common.errors import BenchError, Unavailable, Unscorable
from bench.metrics.base import Context, Float, Image
from bench.metrics.cca_file import METHOD as CCA_METHOD
from bench.metrics.cca_file import find_cca, load_cca
from bench.metrics.expert_file import METHOD as EXPERT
from bench.metrics.judge_file import JudgeFile, config_of, find_judge, load_judge
from bench.results import Missing
from prep.rates import SAMPLES_PER_FRAME

if TYPE_CHECKING:
    from baselines.sync_expert.landmark_stage import LandmarkConfig
    from baselines.sync_expert.stage import ExpertConfig
    from bench.metrics.syncnet import SyncNetV2
    from bench.weights.store import WeightStore

#: What a judge looks at: landmarks of the scored video; crops of the view ``face96``, by the truth's landmarks; or
#: whole frames as SyncNet gets them.
Sight = Literal["landmarks", "face96", "frames"]
#: Kinds of judge.
CCA, LANDMARKS, PICTURES, SYNCNET = "CCA", "landmark expert", "picture expert", "SyncNet"
_SYNCNET = "syncnet_v2"
# View of an expert → kind of judge.
_EXPERTS = {"landmarks": LANDMARKS, "face96": PICTURES}
# Kind → how to get one.
_REMEDIES = {
    CCA: f"bench train {CCA_METHOD} --data DATA, then --sync-cca RUN",
    LANDMARKS: f"bench train {EXPERT} --preset landmarks --data DATA, then --sync-expert RUN",
    PICTURES: f"bench train {EXPERT} --data DATA, then --sync-expert RUN",
}
# Number of sounds whose embeddings are kept: the rows of one clip mostly share one.
_SOUNDS = 8


@dataclass(frozen=True)
class TrainingData:
    """A data set that a judge was trained on.

    Attributes:
        name: of the data set.
        manifest_sha256: of its manifest; ``""``: not recorded.
    """

    name: str
    manifest_sha256: str = ""


@dataclass(frozen=True)
class JudgeFacts:
    """What is said of a judge beside its figures.

    Attributes:
        name: in tables; unique among the judges that are compared.
        kind: :data:`CCA`, :data:`LANDMARKS`, :data:`PICTURES` or :data:`SYNCNET`.
        file: of its weights.
        sha256: of that file.
        training: what it was trained on; empty: not recorded.
    """

    name: str
    kind: str
    file: Path
    sha256: str
    training: tuple[TrainingData, ...]


class SyncJudge(ABC):
    """Embeds lips and sound. Built once per process.

    Attributes:
        facts: what is said of it.
        sight: what :meth:`see` takes.
        frames: of one embedding of lips; it belongs to the middle one.
        moves: embeddings are compared :func:`without_mean`.
    """

    sight: ClassVar[Sight]
    frames: ClassVar[int] = 1
    moves: ClassVar[bool] = False

    def __init__(self, facts: JudgeFacts) -> None:
        self.facts = facts
        self._sounds: OrderedDict[Hashable, Float] = OrderedDict()

    @abstractmethod
    def see(self, seen: np.ndarray) -> Float:
        """Embed the lips of consecutive frames.

        Args:
            seen: by :attr:`sight`: (n, 478, 3) float32, pixels of the full frame, NaN rows where there is no face, of a
                whole clip; (n, 96, 96, 3) uint8, RGB; or (n, 224, 224, 3) uint8, BGR.

        Returns:
            (n - frames + 1, D) float32.
        """

    @abstractmethod
    def _hear(self, samples: npt.NDArray[np.int16], n_frames: int) -> Float:
        """See :meth:`hear`."""

    def hear(self, samples: npt.NDArray[np.int16]) -> Float:
        """Embed the sound of each frame.

        Args:
            samples: (m,) int16, mono, 16 kHz, from the first frame on.

        Returns:
            (m // 640, D) float32; NaN rows of frames around which there is not enough sound.
        """
        samples = np.ascontiguousarray(samples)
        key = hashlib.blake2b(samples.tobytes()).digest()
        return _kept(self._sounds, key, lambda: self._hear(samples, len(samples) // SAMPLES_PER_FRAME))


def _kept(store: OrderedDict[Hashable, Float], key: Hashable, compute: Callable[[], Float]) -> Float:
    if key not in store:
        store[key] = compute()
        while len(store) > _SOUNDS:
            store.popitem(last=False)
    return store[key]


@dataclass(frozen=True)
class FoundJudge:
    """A judge that is at hand, not loaded yet; picklable.

    Attributes:
        facts: what is said of it.
        weights: in a run; None: SyncNet's registered file.
    """

    facts: JudgeFacts
    weights: JudgeFile | None = None


def find_judges(
    sync_cca: Sequence[Path], sync_expert: Sequence[Path], weights: WeightStore
) -> tuple[list[FoundJudge], list[Missing]]:
    """The judges at hand, and the kinds of judge that are not, each with the way to get one.

    Args:
        sync_cca: runs of ``sync-cca``.
        sync_expert: runs of ``sync-expert``, of any view that can be judged by.
        weights: finds SyncNet.

    Raises:
        BenchError: a run is of another method, its expert uses another view, or it has no weights yet; or two runs of
            one kind have folders of the same name.
    """
    found = [_found(CCA, find_cca(run)) for run in sync_cca]
    for run in sync_expert:
        kind = _EXPERTS.get(view := _expert(run.absolute()).view)
        if kind is None:
            raise BenchError(f"{run}: this expert uses the view {view}, judges use {' or '.join(_EXPERTS)}")
        found.append(_found(kind, find_judge(run, EXPERT, "expert", "expert", "the expert")))
    missing = [
        Missing(metric=kind, reason="no run is named", remedy=remedy)
        for kind, remedy in _REMEDIES.items()
        if not any(judge.facts.kind == kind for judge in found)
    ]
    try:
        path, digest = weights.path(_SYNCNET), weights.sha256(_SYNCNET)
        found.append(FoundJudge(JudgeFacts(SYNCNET, SYNCNET, path, digest, ())))
    except Unavailable as error:
        missing.append(Missing(metric=SYNCNET, reason=error.reason, remedy=error.remedy))
    return _named(found), missing


def _expert(run: Path) -> ExpertConfig | LandmarkConfig:
    config: ExpertConfig | LandmarkConfig = config_of(run, EXPERT).method_config.expert  # type: ignore[attr-defined]
    return config


def _found(kind: str, file: JudgeFile) -> FoundJudge:
    from bench.train.inputs import recorded_data

    data = file.data or [(one["name"], one["manifest_sha256"]) for one in recorded_data(file.run)]
    training = tuple(TrainingData(name, digest) for name, digest in data)
    return FoundJudge(JudgeFacts(kind, kind, file.file, file.sha256, training), file)


def _named(judges: Sequence[FoundJudge]) -> list[FoundJudge]:
    """The same, each with a name of its own: the kind, and the run's folder where there are several of one."""
    kinds = Counter(judge.facts.kind for judge in judges)
    named = [
        replace(judge, facts=replace(judge.facts, name=f"{judge.facts.kind} {judge.weights.run.name}"))
        if judge.weights is not None and kinds[judge.facts.kind] > 1
        else judge
        for judge in judges
    ]
    for name, count in Counter(judge.facts.name for judge in named).items():
        if count > 1:
            raise BenchError(
                f"{count} runs would be called {name!r}: name each once, in folders of different names"
            )
    return named


def build_judge(found: FoundJudge, context: Context) -> SyncJudge:
    """A judge, ready to embed.

    Raises:
        BenchError: its weights were replaced meanwhile, or are damaged.
        Unavailable: a package that SyncNet needs is missing.
    """
    facts, file = found.facts, found.weights
    if file is None:
        from bench.metrics.syncnet import load_syncnet

        return SyncNetJudge(facts, load_syncnet(context))
    if facts.kind == CCA:
        return PointJudge(facts, load_cca(file), file.padding)
    from baselines.sync_expert.landmark_network import LandmarkJudge
    from baselines.sync_expert.landmark_stage import LandmarkConfig

    options = _expert(file.run)
    if isinstance(options, LandmarkConfig):
        judge = LandmarkJudge(load_judge(file, options.build(), context.device))
        return PointJudge(facts, judge, file.padding)
    return PictureExpert(facts, load_judge(file, options.build(), context.device), file.padding)


def centred(windows: Float, frames: int, n_frames: int) -> Float:
    """Embeddings of windows as embeddings of their middle frames.

    Args:
        windows: (n, D): of frames i … i + frames - 1.
        frames: of a window, an odd number.
        n_frames: of the clip, at least n + frames - 1.

    Returns:
        (n_frames, D); NaN rows where no window has its middle.
    """
    found = np.full((n_frames, windows.shape[1]), np.nan, windows.dtype)
    found[frames // 2 : frames // 2 + len(windows)] = windows
    return found


def without_mean(embeddings: Float) -> Float:
    """Embeddings of a clip less their mean over its frames, which holds the face or the voice.

    Args:
        embeddings: (T, D), NaN rows where there are none; one row at least is no such row.

    Returns:
        (T, D).
    """
    return embeddings - np.nanmean(embeddings, axis=0)


class PictureExpert(SyncJudge):
    """The expert that looks at crops of the view ``face96`` (``bench train sync-expert``)."""

    sight = "face96"
    frames = 5
    moves = True

    def __init__(self, facts: JudgeFacts, expert: Any, padding: str) -> None:
        super().__init__(facts)
        self.expert = expert
        self.padding = padding

    def see(self, seen: Image) -> Float:
        """(n, 96, 96, 3) uint8, RGB → (n - 4, D) float32, of length 1."""
        import torch

        from baselines.sync_expert.embedding import embed_lips

        return embed_lips(self.expert, torch.from_numpy(seen).permute(0, 3, 1, 2)).cpu().numpy()

    def _hear(self, samples: npt.NDArray[np.int16], n_frames: int) -> Float:
        import torch

        from baselines.sync_expert.embedding import embed_sounds
        from baselines.sync_expert.network import SOUND
        from prep.sound.features import chunk
        from prep.sound.mel import RATE, melspectrogram

        n = n_frames - self.frames + 1
        if n < 1:
            raise Unscorable(f"{n_frames} frames with sound, {self.frames} are needed")
        mel = melspectrogram(samples, self.padding)
        chunks = np.stack([chunk(mel, frame, SOUND, RATE) for frame in range(n)])
        heard = embed_sounds(self.expert, torch.from_numpy(chunks)).cpu().numpy()
        return centred(heard, self.frames, n_frames)


class PointJudge(SyncJudge):
    """A judge that looks at landmarks: CCA (``bench train sync-cca``), or the expert with ``view = "landmarks"``."""

    sight = "landmarks"

    def __init__(self, facts: JudgeFacts, judge: Any, padding: str) -> None:
        super().__init__(facts)
        self.judge = judge
        self.padding = padding

    def see(self, seen: np.ndarray) -> Float:
        """(T, 478, 3) float32 of a whole clip → (T, D) float32; NaN rows without a face."""
        return self.judge.see(seen)

    def _hear(self, samples: npt.NDArray[np.int16], n_frames: int) -> Float:
        from prep.sound.mel import melspectrogram

        return self.judge.hear(melspectrogram(samples, self.padding), n_frames)


class SyncNetJudge(SyncJudge):
    """SyncNet v2, over whole frames as ``lse.lrs``. Its score is the negative squared distance of the features, since
    that is a dot product; LSE-D is the mean distance."""

    sight = "frames"
    frames = 5

    def __init__(self, facts: JudgeFacts, net: SyncNetV2) -> None:
        super().__init__(facts)
        self.net = net

    def see(self, seen: Image) -> Float:
        """(n, 224, 224, 3) uint8, BGR → (n - 4, 1026) float64."""
        features = self.net.lip_features(seen).astype(np.float64)
        square = np.square(features).sum(axis=1, keepdims=True)
        return np.concatenate([2 * features, -square, np.ones_like(square)], axis=1)

    def _hear(self, samples: npt.NDArray[np.int16], n_frames: int) -> Float:
        n = n_frames - self.frames
        if n < 1:
            raise Unscorable(f"{n_frames} frames with sound, at least {self.frames + 1} are needed")
        features = self.net.sound_features(samples, n).astype(np.float64)
        square = np.square(features).sum(axis=1, keepdims=True)
        heard = np.concatenate([features, np.ones_like(square), -square], axis=1)
        return centred(heard, self.frames, n_frames)
