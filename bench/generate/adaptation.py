"""Adaptation: fine-tuning a talker on one person before it generates, with the optimizer steps of training.

The adapted weights of each person are stored in the run, ``adapted/<key>.safetensors``. The key is a hash of everything
that determines them. After generation the trained weights are restored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Tensor

from bench.common.errors import BenchError
from bench.generate.talkers import Loaded
from bench.train.checkpoint import load_into, read_tensors
from bench.train.finite import NotFinite
from bench.train.stepping import Stepper
from prep.shards import AtomicFile

if TYPE_CHECKING:
    from models.base import Drive, Talker

#: Folder in a run.
ADAPTED = "adapted"

log = logging.getLogger(__name__)


@contextmanager
def adapted(loaded: Loaded, person: str, clip: str, drive: Callable[[], Drive]) -> Iterator[None]:
    """Inside the block the talker is fine-tuned on a person. A talker without adaptation is not changed.

    Args:
        loaded: the talker.
        person: identifies the person and the clip for fine-tuning, such as the clip's id and data set.
        clip: what messages call that clip.
        drive: returns that clip with its own sound; called only if no adapted weights are stored.

    Raises:
        BenchError: a loss is not finite.
        ClipError: the clip cannot be read.
    """
    talker = loaded.talker
    if not talker.adapts:
        yield
        return
    trained = _state(talker)
    path = loaded.run / ADAPTED / f"{_key(loaded, person)}.safetensors"
    try:
        if not _restored(talker, path, trained):
            _adapt(loaded, path.stem, clip, drive())
            _keep(path, _state(talker))
        yield
    finally:
        _load(talker, trained, path)


def _restored(talker: Talker, path: Path, trained: dict[str, Tensor]) -> bool:
    """Load adapted weights that are stored; False if there are none, or damaged ones: then ``trained`` is loaded."""
    if not path.is_file():
        return False
    try:
        _load(talker, read_tensors(path), path)
    except BenchError as error:
        log.warning("%s; it is made again", error)
        # Some networks may have been loaded already.
        _load(talker, trained, path)
        return False
    return True


def _adapt(loaded: Loaded, key: str, clip: str, drive: Drive) -> None:
    """Make the optimizer steps of the talker's adaptation."""
    talker = loaded.talker
    device = next(p.device for network in talker.networks.values() for p in network.parameters())
    devices = [] if device.type == "cpu" else [device]
    parameters = [p for network in talker.networks.values() for p in network.parameters()]
    # Random numbers depend on the key only, and do not change those of generation.
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(int(key[:15], 16))
        for parameter in parameters:
            parameter.requires_grad_(True)
        try:
            optimizers = talker.adapt_optimizers()
            for _ in Stepper(optimizers).steps(talker.adapt(drive)):
                pass
        except NotFinite as error:
            raise BenchError(
                f"{loaded.run}: fine-tuning on {clip} failed: the loss of {error.optimizer} is {error.loss}; "
                "train with options that adapt less, or less fast"
            ) from None
        finally:
            for network in talker.networks.values():
                network.eval().requires_grad_(False)


def _key(loaded: Loaded, person: str) -> str:
    """Hash, 32 hex digits, of everything that determines the adapted weights."""
    said = [
        person,
        loaded.config.method_config.model_dump_json(),
        loaded.config.sound.model_dump_json(),
        *(f"{name} {digest}" for name, digest in sorted({**loaded.weights, **loaded.assets}.items())),
    ]
    return sha256("\n".join(said).encode()).hexdigest()[:32]


def _state(talker: Talker) -> dict[str, Tensor]:
    """All networks' tensors, copied to the CPU, as ``<network>/<key>``."""
    return {
        f"{name}/{key}": value.detach().cpu().clone().contiguous()
        for name, network in talker.networks.items()
        for key, value in network.state_dict().items()
    }


def _load(talker: Talker, state: dict[str, Tensor], source: Path) -> None:
    for name, network in talker.networks.items():
        mine = {key.removeprefix(f"{name}/"): v for key, v in state.items() if key.startswith(f"{name}/")}
        load_into(network, mine, source)


def _keep(path: Path, state: dict[str, Tensor]) -> None:
    try:
        path.parent.mkdir(exist_ok=True)
        with AtomicFile(path) as sink:
            sink.write(save(state))
            sink.commit()
    except OSError as error:
        # The run may be read-only, for example a shared one; then the talker is adapted again each time.
        log.warning("%s: the adapted weights are not stored: %s", path, error.strerror or error)
