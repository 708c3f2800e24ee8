"""The file of a sync judge that was trained or fitted with this suite: found in a run, and loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from torch.nn import Module

    from bench.train.config import RunConfig

N = TypeVar("N", bound="Module")


@dataclass(frozen=True)
class JudgeFile:
    """The weights of a judge; small and picklable.

    Attributes:
        run: its run, absolute.
        file: its best weights.
        sha256: of that file.
        padding: of the mel spectrogram that it was trained with.
        data: name and SHA-256 of the manifest of each data set that the file says it was made with.
    """

    run: Path
    file: Path
    sha256: str
    padding: str = "constant"
    data: tuple[tuple[str, str], ...] = ()


def config_of(run: Path, method: str) -> RunConfig:
    """The configuration of a run of ``method``.

    Raises:
        BenchError: it is not such a run.
    """
    from bench.train.config import RunConfig

    config = RunConfig.load(run)
    if config.method != method:
        raise BenchError(f"{run} is a run of {config.method}, not of {method}: name one of that")
    return config


def find_judge(run: Path, method: str, stage: str, network: str, what: str) -> JudgeFile:
    """The best weights of a run.

    Args:
        run: a run of ``method``.
        method: its name.
        stage: that trains it.
        network: that is the judge.
        what: what it is called in messages.

    Raises:
        BenchError: it is not such a run, has no checkpoint yet, or its file is damaged.
    """
    from bench.train.checkpoint import best_files, read_about
    from bench.weights.digests import file_sha256

    run = run.absolute()
    padding = config_of(run, method).sound.mel_padding
    file = best_files(run, stage).get(network)
    if file is None:
        raise BenchError(
            f"{run} has no checkpoint of {what}: finish it: bench train {method} --run {run} --resume …"
        )
    said = read_about(file).get("data", [])
    data = tuple((one["name"], one["manifest_sha256"]) for one in said)
    return JudgeFile(run, file, file_sha256(file), padding, data)


def load_judge(found: JudgeFile, network: N, device: str = "cpu") -> N:
    """The network with the weights found, in evaluation mode.

    Raises:
        BenchError: the file is missing, holds other weights because the run is still training, or is damaged.
    """
    from bench.train.checkpoint import load_into, read_tensors
    from bench.weights.digests import file_sha256

    if not found.file.is_file() or file_sha256(found.file) != found.sha256:
        raise BenchError(
            f"{found.file} was replaced meanwhile: wait until {found.run} is trained, then try again"
        )
    load_into(network, read_tensors(found.file), found.file)
    return network.to(device).eval().requires_grad_(False)


def digests(found: JudgeFile, method: str) -> dict[str, str]:
    """``method`` → SHA-256 of its weights; and the padding of the sound, where it is not the usual one."""
    named = {method: found.sha256}
    if found.padding != "constant":
        named["mel padding"] = found.padding
    return named
