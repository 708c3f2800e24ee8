"""Turns weights published by the authors of a method into a run: `bench weights import METHOD FILE…`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor


def import_official(
    method: str,
    files: Sequence[Path],
    run: Path,
    preset: str = "paper",
    overrides: Sequence[str] = (),
) -> dict[str, Path]:
    """Write a run folder from official checkpoints; `bench generate` and `bench dub` use it like any other.

    Args:
        method: its name.
        files: official checkpoints, in any order; loaded without running code from them.
        run: folder to write.
        preset: options that the networks are built with.
        overrides: ``a.b=value`` over the preset.

    Returns:
        Network → the file that it came from.

    Raises:
        BenchError: the method is unknown, a file is not one of its checkpoints, a network has no file, keys do not fit,
            or ``run`` exists already.
    """
    from bench.common.methods import get_method
    from bench.train.checkpoint import load_into, write_networks
    from bench.train.config import load_config
    from bench.weights.digests import file_sha256
    from bench.weights.tensors import load_state_dict
    from models.base import DataInfo

    kind = get_method(method)
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise BenchError(f"{run} is there already: remove it, or name another folder with --run")
    states: dict[str, dict[str, Tensor]] = {}
    sources: dict[str, Path] = {}
    for file in files:
        if not file.is_file():
            raise BenchError(f"{file}: no such file")
        try:
            sorted_out = kind.from_official(load_state_dict(file))
        except ValueError as error:
            raise BenchError(f"{file}: {error}") from None
        for network, state in sorted_out.items():
            if network in sources:
                raise BenchError(
                    f"{file} holds the {network} network, and so does {sources[network]}: give one"
                )
            states[network], sources[network] = state, file
    config = load_config(method, preset, overrides, (), run)
    built = kind(config.method_config, DataInfo())
    for network in built.needed_networks:
        if network not in states:
            raise BenchError(f"{method} needs its {network} network too: name that file beside the others")
    for network, state in states.items():
        if network not in built.networks:
            raise BenchError(f"{sources[network]}: with these options {method} has no {network} network")
        load_into(built.networks[network], state, sources[network])
    run.mkdir(parents=True, exist_ok=True)
    for stage in built.stages.values():
        mine = {name: states[name] for name in stage.networks if name in states}
        if mine:
            words = [f"{sources[name].name}, sha256 {file_sha256(sources[name])}" for name in mine]
            write_networks(run, stage.name, mine, f"official: {'; '.join(words)}")
    # Written last, because this file marks the folder as a run.
    config.save(run)
    return sources
