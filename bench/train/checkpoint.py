"""Checkpoints of a run: folders that are written atomically, and reading networks from them.

A checkpoint is a folder ``<run>/<stage>/checkpoints/step-00001000``. It contains one ``<network>.safetensors`` for each
network (and ``<network>.ema.safetensors`` if an average is kept), ``training.safetensors`` (the optimizers' tensors and
the states of the random generators) and ``state.json`` (everything else). The files ``last`` and ``best`` beside these
folders hold the name of one of them. The same training gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from bench.common.errors import BenchError
from prep.shards import AtomicFile

if TYPE_CHECKING:
    from bench.train.config import RunConfig
    from models.base import Trainable

_STATE = "state.json"
_TRAINING = "training.safetensors"
_EMA = ".ema"
_ABOUT = "about"


class Untrained(BenchError):
    """A run has no checkpoint of a network that its method needs.

    Attributes:
        stage: that trains the network; ``""``: not known.
    """

    def __init__(self, message: str, stage: str) -> None:
        super().__init__(message)
        self.stage = stage


class Checkpoints:
    """The checkpoints of one stage of a run.

    Args:
        folder: ``<run>/<stage>/checkpoints``; created at the first save.
        keep_last: how many of the newest to keep, besides the best.
    """

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self.keep_last = keep_last

    def save(
        self,
        name: str,
        networks: Mapping[str, Mapping[str, Tensor]],
        training: Mapping[str, Tensor],
        state: Mapping[str, Any],
        *,
        best: bool = False,
        last: bool = True,
        about: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write a checkpoint, then update ``last`` and ``best``, then remove checkpoints that are no longer kept.

        Args:
            name: of its folder; an existing checkpoint of that name is replaced.
            networks: file stem → state dict.
            training: the optimizers' and generators' tensors.
            state: the rest, as JSON values.
            best: whether it is the best so far.
            last: whether to resume from it.
            about: JSON values to write into the header of each network's file, see :func:`read_about`.

        Returns:
            Its folder.

        Raises:
            BenchError: it cannot be written, for example because the disk is full; earlier checkpoints stay intact.
        """
        place = self.folder / name
        temporary = self.folder / f".{name}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            # In one entry: the order of several is not always the same.
            header = None if about is None else {_ABOUT: json.dumps(about, sort_keys=True)}
            for stem, tensors in networks.items():
                _write(temporary / f"{stem}.safetensors", save(_plain(tensors), header))
            _write(temporary / _TRAINING, save(_plain(training)))
            _write(temporary / _STATE, (json.dumps(state, indent=1, sort_keys=True) + "\n").encode())
            if place.exists():
                shutil.rmtree(place)
            temporary.replace(place)
            if best:
                _write(self.folder / "best", f"{name}\n".encode())
            if last:
                _write(self.folder / "last", f"{name}\n".encode())
            self._tidy()
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise BenchError(
                f"{place}: the checkpoint could not be written ({error.strerror or error}); earlier ones are intact: "
                "free some disk space, then continue with --resume"
            ) from error
        return place

    def last(self) -> Path | None:
        """The newest checkpoint, or None."""
        return self._pointed("last")

    def best(self) -> Path | None:
        """The best checkpoint, else the newest, or None."""
        return self._pointed("best") or self.last()

    def _pointed(self, pointer: str) -> Path | None:
        try:
            place = self.folder / (self.folder / pointer).read_text().strip()
        except FileNotFoundError:
            return None
        return place if place.is_dir() else None

    def _tidy(self) -> None:
        kept = {self._pointed("last"), self._pointed("best")}
        steps = sorted(self.folder.glob("step-*"))
        for old in steps[: -self.keep_last] if self.keep_last else steps:
            if old not in kept:
                shutil.rmtree(old)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The ``state`` that :meth:`Checkpoints.save` stored. Raises :class:`BenchError` if it is damaged."""
    path = checkpoint / _STATE
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: not readable ({error}); resume from another checkpoint") from error


def read_training(checkpoint: Path) -> dict[str, Tensor]:
    """The ``training`` tensors that :meth:`Checkpoints.save` stored. Raises :class:`BenchError` if damaged."""
    return read_tensors(checkpoint / _TRAINING)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU. Raises :class:`BenchError`: missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file; is this the folder of a run?") from None
    except (OSError, SafetensorError) as error:
        raise BenchError(f"{path}: not readable ({error}); use another checkpoint") from error


def read_about(path: Path) -> dict[str, Any]:
    """What a file of a network says of itself: the ``about`` of :meth:`Checkpoints.save`; empty without it.

    Raises:
        BenchError: it is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
    except FileNotFoundError:
        raise BenchError(f"{path}: no such file; is this the folder of a run?") from None
    except (OSError, ValueError, SafetensorError) as error:
        raise BenchError(f"{path}: not readable ({error}); use another checkpoint") from error


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Load a whole state dict.

    Raises:
        BenchError: a key is missing or unknown, or a tensor has another shape; names ``source`` and the first such
            key.
    """
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in tensors]
    unknown = [key for key in tensors if key not in wanted]
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which the network does not have"
        others = len(missing) + len(unknown) - 1
        more = f" ({others} more keys differ)" if others else ""
        raise BenchError(
            f"{source}: {what}{more}; use weights of this method, with the options that they were trained with"
        )
    for key, value in wanted.items():
        if tensors[key].shape != value.shape:
            raise BenchError(
                f"{source}: {key} has shape {tuple(tensors[key].shape)}, the network expects {tuple(value.shape)}; "
                "use the options that it was trained with"
            )
    module.load_state_dict(dict(tensors))


# Optimizers ---------------------------------------------------------------------------------------------------


def pack_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of optimizers, as named tensors and JSON values."""
    tensors, rest = {}, {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        numbers: dict[str, dict[str, Any]] = {}
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{index}/{key}"] = value
                else:
                    numbers.setdefault(str(index), {})[key] = value
        rest[name] = {"groups": state["param_groups"], "numbers": numbers}
    return tensors, rest


def unpack_optimizers(
    optimizers: Mapping[str, torch.optim.Optimizer], tensors: Mapping[str, Tensor], rest: Mapping[str, Any]
) -> None:
    """Load into optimizers the state that :func:`pack_optimizers` returned."""
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Any]] = {
            int(index): dict(entries) for index, entries in rest[name]["numbers"].items()
        }
        for path, value in tensors.items():
            if path.startswith(f"optimizer/{name}/"):
                index, key = path.split("/")[2:]
                state.setdefault(int(index), {})[key] = value
        groups = [
            {key: tuple(value) if key == "betas" else value for key, value in group.items()}
            # How a step is computed is not part of the state: earlier versions did not use the fused form.
            | {key: now[key] for key in ("fused", "foreach") if key in now}
            for group, now in zip(rest[name]["groups"], optimizer.param_groups, strict=True)
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


# Networks of a run --------------------------------------------------------------------------------------------


def load_run(run: Path, overrides: Sequence[str] = ()) -> tuple[RunConfig, Trainable]:
    """Build the method of a run with its best weights: those of the average, if one was kept.

    Args:
        run: its folder.
        overrides: values that replace those of the run's configuration, see :func:`bench.train.config.load_config`.

    Returns:
        The configuration, and the method on the CPU with its networks in evaluation mode; assets are not loaded.

    Raises:
        Untrained: a required network is not trained yet.
        BenchError: the folder is not a run, an override is not valid, the method cannot be built, or a file is
            damaged.
    """
    from bench.common.methods import get_method
    from bench.train.config import RunConfig, change_config
    from bench.train.data_info import load_info

    config = RunConfig.load(run)
    if overrides:
        config = change_config(config, overrides)
    try:
        method = get_method(config.method)(config.method_config, load_info(run))
    except ValueError as error:
        raise BenchError(f"{run}: {config.method} cannot be built from it: {error}") from error
    if missing := untrained(method, load_networks(run, method)):
        raise Untrained(
            f"{run}: the stage {missing} has no checkpoint; train it: bench train {config.method} --run {run} "
            f"--stage {missing} …",
            missing,
        )
    for network in method.networks.values():
        network.eval().requires_grad_(False)
    return config, method


def untrained(method: Trainable, found: Collection[str]) -> str:
    """The first stage that trains a required network which is not among those found; ``""`` if there is none."""
    for name in method.needed_networks:
        if name not in found:
            return next((s.name for s in method.stages.values() if name in s.networks), name)
    return ""


def load_networks(run: Path, method: Trainable) -> dict[str, Path]:
    """Load the best weights of every stage of ``run`` that has a checkpoint; returns network → file."""
    found = {}
    for stage in method.stages.values():
        for name, path in best_files(run, stage.name).items():
            if name in stage.networks:
                load_into(stage.networks[name], read_tensors(path), path)
                found[name] = path
    return found


def load_network(run: Path, network: str) -> dict[str, Tensor]:
    """The best weights of one network of a run.

    Raises:
        Untrained: no stage of the run has a checkpoint with it.
        BenchError: its file is damaged.
    """
    for folder in sorted(run.glob("*/checkpoints")):
        path = best_files(run, folder.parent.name).get(network)
        if path is not None:
            return read_tensors(path)
    raise Untrained(f"{run}: no checkpoint with a network {network}; train it first, or name another run", "")


def held_out_figures(run: Path, network: str) -> dict[str, float] | None:
    """What the validation said of the weights that :func:`load_network` gives; None: they come from elsewhere.

    Raises:
        BenchError: a file is damaged.
    """
    for folder in sorted(run.glob("*/checkpoints")):
        best = Checkpoints(folder).best()
        if best is not None and network in best_files(run, folder.parent.name):
            state = read_state(best)
            return None if "source" in state else dict(state.get("best") or {})
    return None


def best_files(run: Path, stage: str) -> dict[str, Path]:
    """Network → file of its best weights (the average's, if one was kept); empty if nothing was saved."""
    best = Checkpoints(run / stage / "checkpoints").best()
    if best is None:
        return {}
    files = {path.stem: path for path in sorted(best.glob("*.safetensors")) if path.name != _TRAINING}
    plain = {name: path for name, path in files.items() if not name.endswith(_EMA)}
    return {name: files.get(name + _EMA, path) for name, path in plain.items()}


def write_networks(
    run: Path, stage: str, networks: Mapping[str, Mapping[str, Tensor]], source: str, *, last: bool = True
) -> Path:
    """Store weights from elsewhere as the only checkpoint of a stage.

    Args:
        run: its folder.
        stage: name.
        networks: network → state dict.
        source: where they come from.
        last: the stage counts as begun.
    """
    return Checkpoints(run / stage / "checkpoints").save(
        "step-00000000", networks, {}, {"step": 0, "source": source}, best=True, last=last
    )


def ema_name(network: str) -> str:
    """File stem of a network's average."""
    return network + _EMA


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors needs them: on the CPU, contiguous, without shared memory."""
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, value in tensors.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage()
        shared = storage.data_ptr() in seen or storage.nbytes() != value.nbytes
        seen.add(storage.data_ptr())
        plain[key] = value.clone() if shared else value
    return plain


def _write(path: Path, data: bytes) -> None:
    with AtomicFile(path) as file:
        file.write(data)
        file.commit()
