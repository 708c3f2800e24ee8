"""The trained expert of ``lse.expert``: finds its weights in a run and loads them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from baselines.sync_expert.network import SyncNet
    from baselines.sync_expert.stage import ExpertConfig

METHOD, NETWORK, VIEW = "sync-expert", "expert", "face96"


@dataclass(frozen=True)
class ExpertFile:
    """The weights of a trained expert; small and picklable.

    Attributes:
        run: the run of ``sync-expert``, absolute.
        file: its best weights.
        sha256: of that file.
        padding: of the mel spectrogram that it was trained with.
    """

    run: Path
    file: Path
    sha256: str
    padding: str = "constant"


def find_expert(run: Path) -> ExpertFile:
    """The best weights of a run of ``sync-expert``.

    Raises:
        BenchError: it is not such a run, its expert uses another view than ``face96``, or it has no checkpoint yet.
    """
    from bench.train.checkpoint import best_files
    from bench.weights.digests import file_sha256

    run = run.absolute()
    config, padding = _config(run)
    if config.view != VIEW:
        raise BenchError(
            f"{run}: this expert uses the view {config.view}, lse.expert uses {VIEW}: name another run"
        )
    file = best_files(run, NETWORK).get(NETWORK)
    if file is None:
        raise BenchError(
            f"{run} has no checkpoint of the expert: train it: bench train {METHOD} --run {run} --resume …"
        )
    return ExpertFile(run, file, file_sha256(file), padding)


def load_expert(found: ExpertFile, device: str = "cpu") -> SyncNet:
    """The network with the weights found, in evaluation mode.

    Raises:
        BenchError: the file is missing, holds other weights because the run is still training, or is damaged.
    """
    from bench.train.checkpoint import load_into, read_tensors
    from bench.weights.digests import file_sha256

    network = _config(found.run)[0].build()
    if not found.file.is_file() or file_sha256(found.file) != found.sha256:
        raise BenchError(
            f"{found.file} was replaced meanwhile: wait until {found.run} is trained, then try again"
        )
    load_into(network, read_tensors(found.file), found.file)
    return network.to(device).eval().requires_grad_(False)


def _config(run: Path) -> tuple[ExpertConfig, str]:
    from baselines.sync_expert.method import SyncExpertConfig
    from bench.train.config import RunConfig

    config = RunConfig.load(run)
    if not isinstance(config.method_config, SyncExpertConfig):
        raise BenchError(f"{run} is a run of {config.method}, not of {METHOD}: name one of that")
    return config.method_config.expert, config.sound.mel_padding
