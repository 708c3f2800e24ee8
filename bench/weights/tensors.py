"""Reads the tensors of a weights file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.common.errors import BenchError
from prep.installing import install

if TYPE_CHECKING:
    import torch


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, on the CPU, loaded without running code from the file.

    A checkpoint of a training run is unwrapped: its ``state_dict`` is used, and the prefix ``module.`` (of PyTorch's
    DataParallel) is removed if all names have it. Where it holds the state dicts of several networks, the names of the
    tensors begin with those of the networks: ``<network>.<name>``.

    Args:
        path: a ``.safetensors`` file, or one written by ``torch.save``.

    Raises:
        BenchError: the file is damaged, or holds something other than tensors by name.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            loaded: Any = import_module("safetensors.torch").load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise BenchError(f"{path} needs the package safetensors: {install()}") from error
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch.load raises many kinds of exceptions for other file formats.
        # Its messages recommend loading without weights_only, which can run code from the file.
        raise BenchError(
            f"{path} is not a checkpoint that can be read safely: give a file that holds only tensors, by torch.save "
            "or safetensors"
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise BenchError(f"{path} holds no state dict")
    if all(isinstance(value, Mapping) for value in loaded.values()):
        loaded = {f"{name}.{key}": value for name, inner in loaded.items() for key, value in inner.items()}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise BenchError(f"{path} holds no state dict: {key} is not a tensor")
    parallel = all(key.startswith("module.") for key in loaded)
    return {key.removeprefix("module.") if parallel else key: value for key, value in loaded.items()}
