"""The shared training runner: it drives the stages of any method, on one processor or many.

A stage says which losses to take and in which order (:class:`models.base.Stage`); everything else is here: backward
passes, precision, gradients over several processes, clipping, schedules, averages, validation, early stopping,
checkpoints and going on from them.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from bench.clips.clip_lists import read_clips
from bench.common.errors import BenchError
from bench.train.averages import Averages
from bench.train.checkpoint import (
    Checkpoints,
    load_into,
    load_networks,
    pack_optimizers,
    read_state,
    read_tensors,
    read_training,
    unpack_optimizers,
)
from bench.train.loading import open_dataset, to_device, training_loader, validation_loader
from bench.train.log import Reporter, Speed
from bench.train.parallel import any_of, average_gradients, average_statistics
from models.base import Batch, Method, Progress, Stage, Update
from prep.order import WindowStream

if TYPE_CHECKING:
    from bench.train.config import RunConfig

#: Samples shown in a grid of pictures.
SHOWN = 6


@dataclass(frozen=True)
class TrainResult:
    """How training ended.

    Attributes:
        stopped: it was asked to stop (SIGTERM or Ctrl-C) and left a checkpoint to go on from.
        best: stage → figures of its best validation; empty where it had none.
    """

    stopped: bool
    best: dict[str, dict[str, float]] = field(default_factory=dict)


class Stopped(Exception):
    """Training was asked to stop and has saved where it stands."""


def train(
    config: RunConfig,
    method: Method,
    stages: Sequence[str],
    run: Path,
    resume: bool,
    reporter: Reporter,
    accelerator: Accelerator | None = None,
) -> TrainResult:
    """Train stages of a method, one after the other, each from the best weights of those before it.

    Args:
        config: the resolved configuration.
        method: built, its pretrained networks loaded.
        stages: names, in any order.
        run: folder for checkpoints; exists.
        resume: go on where the run stands; a finished stage is passed over.
        reporter: is told what happens; only that of the main process should show it.
        accelerator: made from the configuration by default.

    Raises:
        BenchError: a loss is not finite, a checkpoint cannot be written or does not fit.
        PrepError: the data set lacks what a stage needs.
    """
    accelerator = accelerator or make_accelerator(config)
    torch.use_deterministic_algorithms(config.runner.deterministic)
    load_networks(run, method)
    best = {}
    with _Stop() as stop:
        for name, stage in method.stages.items():
            if name not in stages:
                continue
            stage_run = _StageRun(config, stage, run, accelerator, reporter, stop)
            try:
                best[name] = stage_run.train(resume)
            except Stopped:
                return TrainResult(True, best)
            # The next stage and generation build on what was best, not on what was last.
            load_networks(run, method)
    return TrainResult(False, best)


def make_accelerator(config: RunConfig) -> Accelerator:
    """The processes, device and precision that the configuration and ``accelerate launch`` ask for.

    Raises:
        BenchError: CUDA, or a precision that only CUDA has, is asked for and not there.
    """
    device = config.runner.device
    if device == "cuda" and not torch.cuda.is_available():
        raise BenchError("runner.device=cuda: no CUDA device is visible; use runner.device=auto or cpu")
    if config.runner.precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise BenchError("runner.precision=fp16: only CUDA trains in float16; use bf16 or no")
    return Accelerator(mixed_precision=config.runner.precision, cpu=device == "cpu")


class _Stop:
    """Remembers SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C interrupts as ever."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


class _StageRun:
    """One stage while it is trained."""

    def __init__(
        self,
        config: RunConfig,
        stage: Stage,
        run: Path,
        accelerator: Accelerator,
        reporter: Reporter,
        stop: _Stop,
    ) -> None:
        self.config = config.runner
        self.data = config.data
        self.clips = None if config.clips is None else read_clips(config.clips)
        self.stage = stage
        self.train_config = stage.train
        self.accelerator = accelerator
        self.reporter = reporter
        self.stop = stop
        self.checkpoints = Checkpoints(run / stage.name / "checkpoints", self.config.keep_last)
        self.step = 0
        self.best: dict[str, float] = {}
        self.since_best = 0
        self.hints: set[str] = set()
        # Since the last line of the log: name → sum and number.
        self.logged: dict[str, tuple[Tensor | float, int]] = {}

    # From the first step to the last ---------------------------------------------------------------------------

    def train(self, resume: bool) -> dict[str, float]:
        """Train to the end; returns the figures of the best validation. Raises :class:`Stopped`."""
        last = self.checkpoints.last() if resume else None
        self._open_data()
        if last is not None and self._complete(read_state(last)):
            return read_state(last)["best"]
        self._seed()
        self._build()
        if last is not None:
            self._restore(last)
        self.reporter.begin(self.stage.name, self.step, self.total)
        reason = self._loop()
        self.reporter.end(self.stage.name, reason)
        return self.best

    def _complete(self, state: dict[str, Any]) -> bool:
        # Limits may have been raised since.
        patience = self.train_config.patience
        out_of_patience = patience is not None and state["since_best"] >= patience
        return out_of_patience or (self.total is not None and state["step"] >= self.total)

    def _seed(self) -> None:
        # Stages do not depend on how many numbers those before them drew, so that each can be trained alone.
        seed = (
            self.config.seed * 1_000_003
            + zlib.crc32(self.stage.name.encode())
            + self.accelerator.process_index
        )
        torch.manual_seed(seed % (1 << 63))

    def _open_data(self) -> None:
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        dataset = open_dataset(self.data, "train", self.stage, self.config.seed, self.clips)
        self.stream = WindowStream(dataset, self.train_config.batch_size, rank=rank, world_size=world_size)
        self.held_out = open_dataset(self.data, "val", self.stage, self.config.seed)
        self.reporter.note(f"{self.stage.name}: train {dataset.report()}; val {self.held_out.report()}")
        self.batch = self.train_config.batch_size * self.train_config.accumulate * world_size
        limits = [self.train_config.steps] if self.train_config.steps else []
        if self.train_config.epochs:
            limits.append(math.ceil(self.train_config.epochs * len(dataset) / self.batch))
        self.total = min(limits) if limits else None

    def _build(self) -> None:
        device = self.accelerator.device
        for network in (*self.stage.networks.values(), *self.stage.frozen.values()):
            network.to(device)
        for network in self.stage.frozen.values():
            network.eval().requires_grad_(False)
        for network in self.stage.networks.values():
            network.requires_grad_(True)
            if self.config.compile:
                network.compile()
        self.optimizers = self.stage.optimizers()
        self.schedulers = self.stage.schedulers(self.optimizers)
        self.parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in self.optimizers.items()
        }
        self.scaler = self.accelerator.scaler
        decay = self.train_config.ema
        self.averages = Averages(self.stage.networks, decay) if decay else None

    def _loop(self) -> str:
        waited = worked = 0.0
        samples = steps = 0
        batches = self._batches()
        while True:
            begun = time.perf_counter()
            micro = [next(batches) for _ in range(self.train_config.accumulate)]
            loaded = time.perf_counter()
            for name, value in self._step(micro).items():
                total, count = self.logged.get(name, (0.0, 0))
                self.logged[name] = total + value, count + 1
            waited += loaded - begun
            worked += time.perf_counter() - loaded
            samples += self.batch
            steps += 1
            if self.step % self.config.log_every == 0 or self._done():
                self._report(_speed(samples, waited, worked, steps))
                waited = worked = 0.0
                samples = steps = 0
            reason = self._after_step()
            if reason:
                return reason

    def _after_step(self) -> str:
        """Validation, pictures and checkpoints that are due; why the stage ends, or ``""``."""
        done = self._done()
        due = self.train_config
        improved = False
        if self.step % due.validate_every == 0 or done:
            improved = self._validate()
            if due.patience is not None and self.since_best >= due.patience:
                done = done or f"{due.patience} validations without a better {due.monitor}"
        if due.sample_every and (self.step % due.sample_every == 0 or done):
            self._show()
        if any_of(self.accelerator, self.stop.asked)[0] and not done:
            self._save(best=improved)
            self.reporter.note(f"stopped at step {self.step}; go on with --resume")
            raise Stopped
        if done or improved or self.step % due.checkpoint_every == 0:
            self._save(best=improved)
        return done

    def _done(self) -> str:
        return f"{self.total} steps" if self.total is not None and self.step >= self.total else ""

    def _batches(self) -> Iterator[Batch]:
        loader = training_loader(
            self.stream,
            self.stage,
            workers=self.config.workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        for batch in loader:
            yield to_device(batch, self.accelerator.device)

    # One step ---------------------------------------------------------------------------------------------------

    def _step(self, micro: list[Batch]) -> dict[str, Tensor]:
        for network in self.stage.networks.values():
            network.train()
        # Should a loss not be finite, the step can be repeated from what is saved.
        self.drawn_from = _generator_states(self.accelerator.device)
        progress = self._progress()
        logs: dict[str, Tensor] = {}
        for i, batch in enumerate(micro):
            last = i == len(micro) - 1
            updates = self.stage.updates(batch, progress)
            for update in self._computed(updates):
                self._check_finite(update, batch)
                self._backward(update, len(micro))
                if last:
                    self._apply(update.optimizer)
                for name, value in update.logs.items():
                    share = value.detach() / len(micro)
                    logs[name] = logs[name] + share if name in logs else share
        self.step += 1
        self.stream.advance(sum(len(batch["clip"]) for batch in micro))
        if self.averages is not None:
            self.averages.update()
        return logs

    def _computed(self, updates: Iterator[Update]) -> Iterator[Update]:
        while True:
            with self.accelerator.autocast():
                update = next(updates, None)
            if update is None:
                return
            yield update

    def _check_finite(self, update: Update, batch: Batch) -> None:
        (bad,) = any_of(self.accelerator, not bool(torch.isfinite(update.loss)))
        if not bad:
            return
        _set_generators(self.drawn_from, self.accelerator.device)
        place = self._save(name=f"failed-{self.step:08d}", last=False)
        clips = gather_object(list(batch["clip"]))
        loss = float(update.loss.detach())
        raise BenchError(
            f"stage {self.stage.name}, step {self.step}: the loss of {update.optimizer} is {loss}; "
            f"clips of the batch: {', '.join(clips)}; the state before it is in {place}; set "
            f"{self.stage.name}.train.clip_norm and --resume, or train anew with a lower learning rate"
        )

    def _backward(self, update: Update, parts: int) -> None:
        loss = update.loss / parts if parts > 1 else update.loss
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward(inputs=self.parameters[update.optimizer])

    def _apply(self, name: str) -> None:
        optimizer, parameters = self.optimizers[name], self.parameters[name]
        average_gradients(self.accelerator, parameters)
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        if self.train_config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, self.train_config.clip_norm)
        if self.scaler is not None:
            self.scaler.step(optimizer)
            self.scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if name in self.schedulers:
            self.schedulers[name].step()

    def _progress(self) -> Progress:
        return Progress(self.step, self.stream.epoch)

    # What is told and shown --------------------------------------------------------------------------------------

    def _report(self, speed: Speed) -> None:
        logs: dict[str, float] = {}
        if self.logged:
            means = torch.tensor(
                [float(total) / count for total, count in self.logged.values()],
                device=self.accelerator.device,
            )
            logs = dict(zip(self.logged, self.accelerator.reduce(means, "mean").tolist(), strict=True))
            self.logged = {}
        rates = {f"lr/{name}": optimizer.param_groups[0]["lr"] for name, optimizer in self.optimizers.items()}
        self.reporter.step(self.stage.name, self.step, self.stream.epoch, {**logs, **rates}, speed)
        hint = self.stage.hint(logs, self._progress())
        if hint and hint not in self.hints:
            self.hints.add(hint)
            self.reporter.note(f"{self.stage.name}: {hint}")

    @torch.no_grad()
    def _validate(self) -> bool:
        """Validate; whether this is the best so far."""
        sums: dict[str, float] = {}
        count = 0
        with self._evaluated():
            for batch in self._validation_batches():
                size = len(batch["clip"])
                with self.accelerator.autocast():
                    means = self.stage.validate(batch)
                for name, value in means.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * size
                count += size
        shares = gather_object([(sums, count)])
        total = sum(share for _, share in shares)
        figures = {name: sum(s.get(name, 0.0) for s, _ in shares) / total for s, _ in shares for name in s}
        self.stage.validated(figures)
        monitor, mode = self.train_config.monitor, self.train_config.mode
        if monitor not in figures:
            raise BenchError(
                f"{self.stage.name}.train.monitor={monitor}: no such figure; there are: {', '.join(sorted(figures))}"
            )
        value = figures[monitor]
        before = self.best.get(monitor)
        improved = math.isfinite(value) and (
            before is None or (value < before if mode == "min" else value > before)
        )
        self.since_best = 0 if improved else self.since_best + 1
        if improved:
            self.best = {**figures, "step": self.step}
        self.reporter.validation(self.stage.name, self.step, figures, improved)
        return improved

    def _validation_batches(self, limit: int | None = None) -> Iterator[Batch]:
        loader = validation_loader(
            self.held_out,
            self.stage,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            workers=0 if limit else self.config.workers,
            limit=limit or self.train_config.validate_samples,
        )
        for batch in loader:
            yield to_device(batch, self.accelerator.device)

    @torch.no_grad()
    def _show(self) -> None:
        with self._evaluated():
            shown = []
            for batch in islice(self._validation_batches(SHOWN * self.accelerator.num_processes), 1):
                with self.accelerator.autocast():
                    shown.append(self.stage.samples(batch))
        if shown and shown[0]:
            self.reporter.pictures(
                self.stage.name, self.step, {k: v[:SHOWN].float().cpu() for k, v in shown[0].items()}
            )

    def _evaluated(self) -> _Evaluated:
        return _Evaluated(self)

    # Checkpoints ------------------------------------------------------------------------------------------------

    def _save(self, *, best: bool = False, name: str | None = None, last: bool = True) -> Path:
        average_statistics(self.accelerator, self.stage.networks.values())
        generators = gather_object([_generator_states(self.accelerator.device)])
        name = name or f"step-{self.step:08d}"
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return self.checkpoints.folder / name
        networks = {stem: network.state_dict() for stem, network in self.stage.networks.items()}
        if self.averages is not None:
            networks |= self.averages.state_dicts()
        tensors, optimizers = pack_optimizers(self.optimizers)
        for rank, states in enumerate(generators):
            tensors |= {f"random/{rank}/{key}": value for key, value in states.items()}
        state = {
            "step": self.step,
            "epoch": self.stream.epoch,
            "best": self.best,
            "since_best": self.since_best,
            "stream": self.stream.state_dict(),
            "stage": self.stage.state_dict(),
            "optimizers": optimizers,
            "schedulers": {key: scheduler.state_dict() for key, scheduler in self.schedulers.items()},
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            "averaged_steps": self.averages.steps if self.averages is not None else 0,
            "logged": {key: [float(total), count] for key, (total, count) in self.logged.items()},
        }
        place = self.checkpoints.save(name, networks, tensors, state, best=best, last=last)
        self.accelerator.wait_for_everyone()
        return place

    def _restore(self, place: Path) -> None:
        state, tensors = read_state(place), read_training(place)
        for stem, network in self.stage.networks.items():
            path = place / f"{stem}.safetensors"
            load_into(network, read_tensors(path), path)
        if self.averages is not None:
            self.averages.load(place, state["averaged_steps"])
        unpack_optimizers(self.optimizers, tensors, state["optimizers"])
        for key, scheduler in self.schedulers.items():
            scheduler.load_state_dict(state["schedulers"][key])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.stage.load_state_dict(state["stage"])
        self.stream.load_state_dict(state["stream"])
        self.step, self.best, self.since_best = state["step"], state["best"], state["since_best"]
        self.logged = {key: (total, count) for key, (total, count) in state["logged"].items()}
        if not _restore_generators(tensors, self.accelerator):
            self.reporter.note("the number of processes changed: random numbers begin anew from here")


class _Evaluated:
    """Within it, a stage's networks are in evaluation mode and hold their averages, where those are kept."""

    def __init__(self, stage_run: _StageRun) -> None:
        self._run = stage_run

    def __enter__(self) -> None:
        run = self._run
        average_statistics(run.accelerator, run.stage.networks.values())
        if run.averages is not None:
            run.averages.swap()
        for network in run.stage.networks.values():
            network.eval()

    def __exit__(self, *_: object) -> None:
        if self._run.averages is not None:
            self._run.averages.swap()


def _speed(samples: int, waited: float, worked: float, steps: int) -> Speed:
    seconds = max(waited + worked, 1e-9)
    return Speed(samples / seconds, waited / seconds, worked / steps)


def _generator_states(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _restore_generators(tensors: dict[str, Tensor], accelerator: Accelerator) -> bool:
    """Whether the states of as many processes as there are now were saved, and are restored."""
    saved = {key.split("/")[1] for key in tensors if key.startswith("random/")}
    if len(saved) != accelerator.num_processes:
        return False
    prefix = f"random/{accelerator.process_index}/"
    states = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    _set_generators(states, accelerator.device)
    return True
