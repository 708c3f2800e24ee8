"""Loads a method's assets (networks trained elsewhere) in the same way for training, generating and dubbing."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from bench.common.errors import BenchError, Unavailable
from bench.train.checkpoint import Untrained, held_out_figures, load_into, load_network
from bench.train.config import CONFIG, RunConfig
from bench.train.config_checks import leaves
from bench.weights.store import WeightStore
from bench.weights.tensors import load_state_dict
from models.base import AnyStage, Asset, Trainable, When


def load_assets(
    method: Trainable,
    when: Collection[When],
    store: WeightStore,
    *,
    stages: Sequence[AnyStage] | None = None,
    device: str = "cpu",
) -> dict[str, str]:
    """Load the weights of a method's assets. Each is then in evaluation mode, without gradients, on ``device``.

    Args:
        method: a built method.
        when: the purpose; only assets needed for it are loaded.
        store: finds files of weights.
        stages: in training, the stages to train; only assets that they use are loaded. None: all are loaded.
        device: of torch.

    Returns:
        Name of the weights, or of run and network → SHA-256.

    Raises:
        BenchError: an asset is missing or does not fit; names the command that gets it, or the option that avoids it.
    """
    used = None
    if stages is not None:
        used = {
            id(module)
            for stage in stages
            for network in (*stage.networks.values(), *stage.frozen.values())
            for module in network.modules()
        }
    digests = {}
    for asset in method.assets.values():
        if asset.when.isdisjoint(when) or (used is not None and id(asset.module) not in used):
            continue
        state, digest = _state(method.name, asset, store)
        load_into(asset.module, state, asset_label(asset))
        asset.module.to(device).eval().requires_grad_(False)
        digests[asset_label(asset)] = digest
    return digests


def asset_label(asset: Asset) -> str:
    """The name of an asset's weights in records: that in the registry, or the folder of a run and the network."""
    return f"{asset.weights} ({asset.network})" if "/" in asset.weights else asset.weights


def _state(method: str, asset: Asset, store: WeightStore) -> tuple[dict[str, Tensor], str]:
    """State dict and digest of an asset's weights."""
    needs = f"{method} needs {asset.weights}" + (f" for {asset.purpose}" if asset.purpose else "")
    way_out = f"; or do without: --set {asset.without}" if asset.without else ""
    if "/" in asset.weights:
        _check_run(needs, asset)
        try:
            state = load_network(Path(asset.weights), asset.network)
        except Untrained as error:
            if not asset.remedy:
                raise
            there = "has no checkpoint" if Path(asset.weights).is_dir() else "does not exist"
            raise BenchError(f"{needs}, which {there}: {asset.remedy}{way_out}") from error
        _check_held_out(needs, asset)
        digest = sha256()
        for key in sorted(state):
            digest.update(key.encode())
            digest.update(state[key].contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return state, digest.hexdigest()
    try:
        path, digest_of_file = store.path(asset.weights), store.sha256(asset.weights)
    except Unavailable as error:
        raise BenchError(f"{needs}: {error}{way_out}") from error
    return load_state_dict(path), digest_of_file


def _check_run(needs: str, asset: Asset) -> None:
    """Check that a run is one of the right method and options, where the asset says which."""
    run = Path(asset.weights)
    if not asset.run_of or not (run / CONFIG).is_file():
        return
    config = RunConfig.load(run)
    if config.method != asset.run_of:
        raise BenchError(f"{needs}, which is a run of {config.method}: name one of {asset.run_of}")
    said = dict(leaves(config.method_config.model_dump()))
    for key, value in asset.options.items():
        if said.get(key, value) != value:
            raise BenchError(f"{needs}, whose {key} is {said[key]}: name a run with {key}={value}")


def _check_held_out(needs: str, asset: Asset) -> None:
    """Check what a run was found to know of held-out clips; ``needs``: what needs it, for the error."""
    figures = held_out_figures(Path(asset.weights), asset.network) if asset.least else None
    if figures is None:
        return
    for name, least in asset.least.items():
        if not least or figures.get(name, -math.inf) >= least:
            continue
        found = (
            f"is {figures[name]:.3f} on held-out clips"
            if name in figures
            else "was not measured on held-out clips"
        )
        raise BenchError(
            f"{needs}, whose {name} {found}; at least {least:g} is asked for: train a better one, or go on with this: "
            f"--set {asset.anyway}"
        )
