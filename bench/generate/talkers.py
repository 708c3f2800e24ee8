"""Trained talkers, ready to generate: that of a run, or those of a run set, one per person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import BenchError
from bench.common.methods import get_talker
from bench.train.run_set import RunSet
from bench.weights.store import WeightStore
from prep.shards import sha256

if TYPE_CHECKING:
    from bench.train.config import RunConfig
    from models.base import Talker


#: The table of a method's options that says how videos are generated.
GENERATE = "generate"


@dataclass(frozen=True)
class Loaded:
    """A trained talker on its device, in evaluation mode, with its assets.

    Attributes:
        run: folder of its run.
        config: of that run.
        talker: the method.
        weights: network → SHA-256 of its file in the run.
        assets: weights from elsewhere → SHA-256.
        changed: options of generation that differ from those of the run → their value.
    """

    run: Path
    config: RunConfig
    talker: Talker
    weights: Mapping[str, str]
    assets: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def padding(self) -> str:
        """Padding of the mel spectrogram in training."""
        return self.config.sound.mel_padding


def load_talker(
    run: Path,
    device: str,
    method: str | None = None,
    store: WeightStore | None = None,
    overrides: Sequence[str] = (),
) -> Loaded:
    """Load the talker of a run.

    Args:
        run: folder of a training run, or of imported weights.
        device: of torch.
        method: the expected method; None: any.
        store: finds the weights of assets; None: the default store.
        overrides: ``generate.<option>=<value>``, instead of the run's options.

    Raises:
        BenchError: there is no such method or run, it is a run of another method or of one that generates no videos,
            its weights do not fit, an override is not valid, or an asset is missing.
    """
    from bench.train.assets import load_assets
    from bench.train.checkpoint import load_run
    from bench.train.config import RunConfig, differences
    from models.base import Talker

    if method is not None:
        get_talker(method)
    stored = RunConfig.load(run)
    if method is not None and stored.method != method:
        raise BenchError(f"{run} is a run of {stored.method}, not of {method}: give another --run")
    check_options(stored, overrides)
    config, talker = load_run(run, overrides)
    if not isinstance(talker, Talker):
        raise BenchError(f"{run} is a run of {config.method}, which generates no videos: give another --run")
    for network in talker.networks.values():
        network.to(device)
    store = store or WeightStore.default(None)
    assets = load_assets(talker, {"generate", "derive"}, store, device=device)
    changed = {key: new for key, (_, new) in differences(stored, config).items()}
    return Loaded(run, config, talker, weight_hashes(run, talker), assets, changed)


def check_options(config: RunConfig, overrides: Sequence[str]) -> None:
    """Check that overrides change only how videos are generated, which is the table ``generate`` of a method's options.

    Raises:
        BenchError: an override is of another table; proposes the nearest option of generation.
    """
    from bench.train.config_checks import keys, unknown, within

    kind = type(config.method_config)
    mine = [key for key in keys(kind) if key.startswith(f"{GENERATE}.")]
    for word in overrides:
        key = word.partition("=")[0].strip()
        if not mine:
            raise BenchError(f"--set {word}: {config.method} has no options of generation")
        if any(within(key, one) for one in keys(kind)) and not within(key, GENERATE):
            raise BenchError(
                f"--set {word}: {key} is an option of training, which the run has fixed; when videos are made, only "
                f"{GENERATE}.* can be set, such as {mine[0]}"
            )
        if not within(key, GENERATE):
            raise BenchError(f"--set {unknown(key, kind, mine)}")


def weight_hashes(run: Path, talker: Talker) -> dict[str, str]:
    """Network → SHA-256 of the file from which :func:`bench.train.checkpoint.load_run` reads it."""
    from bench.train.checkpoint import best_files

    files: dict[str, Path] = {}
    for stage in talker.stages.values():
        files |= {n: path for n, path in best_files(run, stage.name).items() if n in stage.networks}
    return {name: sha256(path) for name, path in sorted(files.items())}


@dataclass(frozen=True)
class TalkerSource:
    """Everything needed to load talkers; small and picklable.

    Attributes:
        run: absolute folder of a run or of a run set.
        device: of torch.
        method: the expected method, or None.
        store: finds the weights of assets.
        overrides: ``generate.<option>=<value>``, instead of the run's options.
    """

    run: Path
    device: str
    method: str | None = None
    store: WeightStore | None = None
    overrides: tuple[str, ...] = ()

    def open(self) -> Talkers:
        """The talkers, in this process. Raises BenchError as in :func:`load_talker`."""
        return Talkers(self)


class Talkers:
    """The talker of a single run, or those of a run set; one is in memory at a time.

    Args:
        source: how to load them.

    Attributes:
        run_set: None for a single run.

    Raises:
        BenchError: as in :func:`load_talker`, or the run set holds no run yet.
    """

    def __init__(self, source: TalkerSource) -> None:
        self.source = source
        self.run_set = RunSet.load(source.run)
        self._speaker = ""
        self._loaded: Loaded | None = None
        if self.run_set is None:
            self._loaded = self._load(source.run)
        elif not self.run_set.held_out():
            raise BenchError(
                f"{source.run} holds no run yet: bench train {self.run_set.method} --per speaker --run {source.run} "
                "--resume"
            )

    def of(self, speaker: str) -> Loaded:
        """The talker of a person.

        Raises:
            BenchError: the run set has no run of that person, or it cannot be loaded.
        """
        if self._loaded is not None and (self.run_set is None or speaker == self._speaker):
            return self._loaded
        from bench.train.checkpoint import Untrained

        assert self.run_set is not None
        try:
            self._loaded = self._load(self.run_set.run_of(speaker))
        except Untrained as error:
            raise self._untrained(self.run_set, speaker, error.stage) from None
        self._speaker = speaker
        return self._loaded

    def any(self) -> Loaded:
        """The talker of a run. For a run set, that of the first person, since all have the same configuration."""
        if self.run_set is None or self._loaded is not None:
            return self.of(self._speaker)
        return self.of(min(self.run_set.held_out()))

    def weights(self) -> dict[str, str]:
        """Network → SHA-256 of its file; in a run set ``<person>/<network>``.

        Raises:
            BenchError: a person's run has no checkpoint yet; names the command that continues it.
        """
        if self.run_set is None:
            return dict(self.any().weights)
        from bench.train.checkpoint import untrained

        talker = self.any().talker
        found: dict[str, str] = {}
        for speaker in sorted(self.run_set.held_out()):
            digests = weight_hashes(self.run_set.run_of(speaker), talker)
            if missing := untrained(talker, digests):
                raise self._untrained(self.run_set, speaker, missing)
            found |= {f"{speaker}/{network}": digest for network, digest in digests.items()}
        return found

    def runs(self) -> list[Path]:
        """Folders of the runs."""
        if self.run_set is None:
            return [self.source.run]
        return [self.run_set.run_of(speaker) for speaker in sorted(self.run_set.held_out())]

    @staticmethod
    def _untrained(run_set: RunSet, speaker: str, stage: str) -> BenchError:
        return BenchError(
            f"{run_set.out}: the run of {speaker} has no checkpoint of the stage {stage} yet: "
            f"{run_set.resume_command(speaker)}"
        )

    def _load(self, run: Path) -> Loaded:
        source = self.source
        return load_talker(run, source.device, source.method, source.store, source.overrides)
