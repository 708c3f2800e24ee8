"""How the modules of a stage are executed: compiled by ``torch.compile``, or with less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bench.common.errors import BenchError
from models.base import Stage
from models.layers.recompute import recomputed


@contextmanager
def executed(stage: Stage, compile_all: bool) -> Iterator[None]:
    """Compile or recompute modules of a stage while a block runs, if its configuration asks for it.

    Afterwards the modules are as before: a later stage that uses them decides for itself.

    Args:
        stage: with its networks on their device.
        compile_all: ``runner.compile``, which holds where the stage has no option of its own.

    Raises:
        BenchError: both are asked for; the stage names nothing to recompute; or, in the block, there is no compiler.
    """
    compiles = is_compiled(stage, compile_all)
    if compiles and stage.train.recompute:
        raise BenchError(
            f"{stage.name}: recompute and compile do not go together (compiled code decides by itself what to compute "
            f"again): set {stage.name}.train.recompute=false or {stage.name}.train.compile=false"
        )
    if stage.train.recompute and not stage.recomputed:
        raise BenchError(
            f"{stage.name}.train.recompute=true: this stage has no large blocks to compute again; set it to false"
        )
    if stage.train.recompute:
        with recomputed(map(stage.module, stage.recomputed)):
            yield
    elif compiles:
        with _compiled(stage):
            yield
    else:
        yield


def is_compiled(stage: Stage, compile_all: bool) -> bool:
    """Whether a stage is compiled: by its own option, else by that of the run."""
    return compile_all if stage.train.compile is None else stage.train.compile


@contextmanager
def _compiled(stage: Stage) -> Iterator[None]:
    import torch._functorch.config as functorch_config

    names = (*stage.networks, *stage.frozen) if stage.compiled is None else stage.compiled
    trained = next(iter(stage.networks.values()))
    undo: list[Callable[[], None]] = []
    try:
        # A loss of the generator and one of the discriminator may go back through the same graph.
        with functorch_config.patch(donated_buffer=False):
            undo += [_compile(stage.module(name), trained) for name in names]
            yield
    except RuntimeError as problem:
        remedy = _remedy(problem)
        if remedy is None:
            raise
        raise BenchError(
            f"{stage.name}: torch.compile cannot be used here: {remedy}, or set {stage.name}.train.compile=false"
        ) from problem
    finally:
        for each in undo:
            each()


def _compile(module: nn.Module, trained: nn.Module) -> Callable[[], None]:
    """Compile the ``forward`` of this object, for as long as a network is in training mode.

    Evaluation mode and batches of other sizes would be compiled anew, which takes longer than a validation.

    Returns:
        A function that undoes it.
    """
    plain = module.forward
    # Batches of training all have the same shape; the random numbers are those of uncompiled modules.
    fast = torch.compile(plain, dynamic=False, options={"fallback_random": True})

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (fast if trained.training else plain)(*args, **kwargs)

    forward.compiled = True  # type: ignore[attr-defined]
    module.forward = forward

    def undo() -> None:
        del module.forward

    return undo


def runs_compiled(module: nn.Module) -> bool:
    """Whether the ``forward`` of a module is compiled, inside :func:`executed`."""
    return getattr(module.forward, "compiled", False)


def _remedy(problem: BaseException) -> str | None:
    """What a person can do, where the tools are missing that ``torch.compile`` needs; None: it is another problem."""
    text = f"{type(problem).__name__} {problem}"
    if "InvalidCxxCompiler" in text or "No working C++ compiler" in text:
        return "install a C++ compiler (g++ or clang++), or name it in the environment variable CXX"
    if "TritonMissing" in text:
        return "install triton, which torch needs to compile for a GPU"
    if "not supported on Python" in text:
        return "use a version of Python that this torch supports"
    return None
