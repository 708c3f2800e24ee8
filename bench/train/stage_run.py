"""Training of one stage of a method: batches, steps, and the work between steps (validation, checkpoints)."""

from __future__ import annotations

import math
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from bench.common.errors import BenchError
from bench.train.averages import Averages
from bench.train.caching import keeping_pictures
from bench.train.checkpoint import Checkpoints, read_state
from bench.train.compiling import executed, is_compiled
from bench.train.finite import NotFinite, deferred_check
from bench.train.fused import fused
from bench.train.loading import open_part, reading, training_loader, workers_of
from bench.train.log import Reporter, Speed
from bench.train.parallel import any_of, exchange
from bench.train.precision import stage_precision
from bench.train.stage_state import Counters, StageState, generator_states, set_generators
from bench.train.stepping import Phases, Stepper, unmeasured
from bench.train.stopping import Stop, Stopped
from bench.train.validation import Validation
from models.base import Batch, Progress, Stage
from models.layers.precision import kept_full
from models.layers.side_by_side import sharing
from prep.order import WindowStream

if TYPE_CHECKING:
    from bench.train.config import RunConfig


#: Steps after which losses on a GPU are read at the latest.
_READ_EVERY = 20


@dataclass(frozen=True)
class _Before:
    """What a step began with, apart from weights and optimizers."""

    step: int
    stream: dict[str, Any]
    random: dict[str, Tensor]
    clips: list[str]
    logged: dict[str, tuple[Tensor | float, int]]


class StageRun:
    """Trains one stage.

    Args:
        config: of the run.
        stage: with its initial weights.
        run: folder of the run.
        accelerator: processes, device and precision.
        reporter: receives the progress.
        stop: says when to end early.
        derived: derivation → the key of the derived columns to use.
        phases: measures ``data``, the waiting for batches, and what :class:`Stepper` names.
    """

    def __init__(
        self,
        config: RunConfig,
        stage: Stage,
        run: Path,
        accelerator: Accelerator,
        reporter: Reporter,
        stop: Stop,
        derived: Mapping[str, str] | None = None,
        phases: Phases = unmeasured,
    ) -> None:
        self._config = config
        self._phase = phases
        self._derived = derived
        self._stage = stage
        self._train = stage.train
        self._accelerator = accelerator
        self._exchange = exchange(accelerator)
        self._reporter = reporter
        self._stop = stop
        self._checkpoints = Checkpoints(run / stage.name / "checkpoints", config.runner.keep_last)
        self._counters = Counters()
        self._hints: set[str] = set()
        self._precision = stage_precision(config, stage)
        # Of the steps whose losses were not read yet.
        self._unread: deque[_Before] = deque()

    def train(self, resume: bool) -> dict[str, float]:
        """Train to the end.

        Args:
            resume: continue from the last checkpoint, if there is one.

        Returns:
            The figures of the best validation.

        Raises:
            Stopped: training was asked to end, and left a checkpoint.
            BenchError: a loss is not finite, or a checkpoint cannot be written or does not fit.
            PrepError: the data set lacks what the stage needs.
        """
        last = self._checkpoints.last() if resume else None
        self._open_data()
        if last is not None and self._complete(read_state(last)):
            return read_state(last)["best"]
        self._seed()
        self._build()
        if last is not None:
            self._counters, same_numbers = self._state.restore(last)
            if not same_numbers:
                self._reporter.note("the number of processes changed: random numbers begin anew from here")
        self._reporter.begin(self._stage.name, self._counters.step, self._total)
        with self._reading() as batches:
            reason = self._loop(batches)
        self._reporter.end(self._stage.name, reason)
        return self._counters.best

    # Before the first step --------------------------------------------------------------------------------------

    def _open_data(self) -> None:
        accelerator = self._accelerator
        dataset = self._dataset = open_part(self._config, "train", self._stage, self._derived)
        size, world_size = self._train.batch_size, accelerator.num_processes
        self._stream = WindowStream(dataset, size, rank=accelerator.process_index, world_size=world_size)
        self._held_out = open_part(self._config, "val", self._stage, self._derived)
        self._reporter.note(f"{self._stage.name}: train {dataset.report()}; val {self._held_out.report()}")
        self._clips = len(dataset)
        self._batch = size * self._train.accumulate * world_size
        limits = [self._train.steps] if self._train.steps else []
        if self._train.epochs:
            limits.append(math.ceil(self._train.epochs * self._clips / self._batch))
        self._total = min(limits) if limits else None

    def _complete(self, state: dict[str, Any]) -> bool:
        # Limits may have been raised since.
        patience = self._train.patience
        out_of_patience = patience is not None and state["since_best"] >= patience
        return out_of_patience or (self._total is not None and state["step"] >= self._total)

    def _seed(self) -> None:
        # A stage does not depend on how many random numbers earlier stages drew, so each can be trained alone.
        seed = (
            self._config.runner.seed * 1_000_003
            + zlib.crc32(self._stage.name.encode())
            + self._accelerator.process_index
        )
        torch.manual_seed(seed % (1 << 63))

    def _build(self) -> None:
        stage, accelerator = self._stage, self._accelerator
        for network in (*stage.networks.values(), *stage.frozen.values()):
            network.to(accelerator.device)
        for network in stage.frozen.values():
            network.eval().requires_grad_(False)
        for network in stage.networks.values():
            network.requires_grad_(True)
        optimizers = {name: fused(optimizer) for name, optimizer in stage.optimizers().items()}
        self._deferred = deferred_check(optimizers, accelerator.device, self._precision, accelerator)
        self._stepper = Stepper(
            optimizers,
            stage.schedulers(optimizers),
            clip_norm=self._train.clip_norm,
            accelerator=accelerator,
            precision=self._precision,
            deferred=self._deferred,
            phases=self._phase,
        )
        self._averages = Averages(stage.networks, self._train.ema) if self._train.ema else None
        self._state = StageState(
            stage, self._stepper, self._averages, self._stream, self._checkpoints, accelerator
        )
        self._workers = workers_of(self._config.runner.workers, accelerator.num_processes)
        self._validation = Validation(
            stage, self._held_out, self._averages, accelerator, self._precision, self._workers
        )

    # Step after step --------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Iterator[Batch]]:
        """Batches, and networks as they are while the stage is trained."""
        device = self._accelerator.device
        loader = training_loader(
            self._stream,
            self._stage,
            workers=self._workers,
            pin_memory=device.type == "cuda",
        )
        config, processes = self._config.runner, self._accelerator.num_processes
        validated = self._train.validate_samples
        full = self._stage.float32 if self._precision != "no" else ()
        # Compiled and recomputed modules take a whole batch.
        apart = is_compiled(self._stage, config.compile) or self._train.recompute or device.type != "cpu"
        shared = () if apart else tuple(self._stage.networks.values())
        with (
            keeping_pictures(config.cache, self._dataset, self._held_out, validated, processes) as kept,
            sharing(shared, self._train.threads),
            executed(self._stage, config.compile),
            kept_full(map(self._stage.module, full)),
            reading(loader, device, self._train.accumulate) as batches,
        ):
            if kept:
                self._reporter.note(f"{self._stage.name}: {kept}")
            yield batches

    def _next(self, batches: Iterator[Batch]) -> list[Batch]:
        """The micro-batches of a step."""
        with self._phase("data"):
            return [next(batches) for _ in range(self._train.accumulate)]

    def _loop(self, batches: Iterator[Batch]) -> str:
        counters = self._counters
        waited = worked = 0.0
        samples = steps = 0
        while True:
            begun = time.perf_counter()
            micro = self._next(batches)
            loaded = time.perf_counter()
            for name, value in self._step(micro).items():
                total, count = counters.logged.get(name, (0.0, 0))
                counters.logged[name] = total + value, count + 1
            waited += loaded - begun
            worked += time.perf_counter() - loaded
            samples += self._batch
            steps += 1
            self._reporter.advance(self._stage.name, counters.step)
            if counters.step % self._config.runner.log_every == 0 or self._done():
                self._report(_speed(samples, waited, worked, steps))
                waited = worked = 0.0
                samples = steps = 0
            reason = self._after_step()
            if reason:
                return reason

    def _step(self, micro: list[Batch]) -> dict[str, Tensor]:
        """One step of every optimizer. Returns the means of the logged values."""
        for network in self._stage.networks.values():
            if not network.training:  # to visit all modules takes as long as a small convolution
                network.train()
        # If a loss is not finite, the step can be repeated from this state.
        self._unread.append(
            _Before(
                self._counters.step,
                self._stream.state_dict(),
                generator_states(self._accelerator.device),
                [clip for batch in micro for clip in batch["clip"]],
                dict(self._counters.logged),
            )
        )
        progress = self._progress()
        logs: dict[str, Tensor] = {}
        parts = len(micro)
        try:
            for i, batch in enumerate(micro):
                updates = self._stage.updates(batch, progress)
                for update in self._stepper.steps(updates, parts=parts, last=i == parts - 1):
                    for name, value in update.logs.items():
                        share = value.detach() / parts
                        logs[name] = logs[name] + share if name in logs else share
        except NotFinite as problem:
            raise self._failed(problem) from None
        self._counters.step += 1
        self._stream.advance(sum(len(batch["clip"]) for batch in micro))
        if self._averages is not None:
            self._averages.update()
        if self._deferred is None or len(self._unread) >= _READ_EVERY or self._due():
            self._read_losses()
        return logs

    def _read_losses(self) -> None:
        """Make sure that all losses so far were finite; on a GPU, wait for it."""
        if self._deferred is not None:
            try:
                self._deferred.read()
            except NotFinite as problem:
                raise self._failed(problem) from None
        self._unread.clear()

    def _due(self) -> bool:
        """Whether anything is read, written or validated after this step."""
        due, step = self._train, self._counters.step
        every = (self._config.runner.log_every, due.validate_every, due.sample_every, due.checkpoint_every)
        return bool(self._done()) or any(n and step % n == 0 for n in every)

    def _failed(self, problem: NotFinite) -> BenchError:
        while problem.steps_ago < len(self._unread) - 1:
            self._unread.popleft()
        before = self._unread[0]
        set_generators(before.random, self._accelerator.device)
        self._stream.load_state_dict(before.stream)
        self._counters.step, self._counters.logged = before.step, before.logged
        step, name = before.step, self._stage.name
        place = self._state.save(self._counters, name=f"failed-{step:08d}", last=False)
        clips = gather_object(before.clips)
        return BenchError(
            f"stage {name}, step {step}: {problem}; clips of the batch: {', '.join(clips)}; the state before it is "
            f"in {place}; set {name}.train.clip_norm and --resume, or start again with a lower learning rate"
        )

    def _progress(self) -> Progress:
        return Progress(self._counters.step, self._stream.epoch, **self._exchange)

    # Between steps ----------------------------------------------------------------------------------------------

    def _after_step(self) -> str:
        """Validation, images and checkpoints, if it is time for them. Returns why the stage ends, or ``""``."""
        counters, due = self._counters, self._train
        done = self._done()
        improved = False
        if counters.step % due.validate_every == 0 or done:
            improved = self._validate()
            if due.patience is not None and counters.since_best >= due.patience:
                done = done or f"{due.patience} validations without a better {due.monitor}"
        if due.sample_every and (counters.step % due.sample_every == 0 or done):
            pictures = self._validation.pictures()
            if pictures:
                self._reporter.pictures(self._stage.name, counters.step, pictures)
        if any_of(self._accelerator, self._stop.asked)[0] and not done:
            self._read_losses()
            self._state.save(counters, best=improved)
            self._reporter.note(f"stopped at step {counters.step}; go on with --resume")
            raise Stopped
        if done or improved or counters.step % due.checkpoint_every == 0:
            self._state.save(counters, best=improved)
        return done

    def _done(self) -> str:
        reached = self._total is not None and self._counters.step >= self._total
        return f"{self._total} steps" if reached else ""

    def _report(self, speed: Speed) -> None:
        counters, name = self._counters, self._stage.name
        logs: dict[str, float] = {}
        if counters.logged:
            means = torch.tensor(
                [float(total) / count for total, count in counters.logged.values()],
                device=self._accelerator.device,
            )
            logs = dict(zip(counters.logged, self._accelerator.reduce(means, "mean").tolist(), strict=True))
            counters.logged.clear()
        rates = {f"lr/{key}": o.param_groups[0]["lr"] for key, o in self._stepper.optimizers.items()}
        self._reporter.step(name, counters.step, self._stream.epoch, {**logs, **rates}, speed)
        hints = [self._stage.hint(logs, self._progress())]
        if self._dataset.keeps_no_more or self._held_out.keeps_no_more:
            hints.append(
                "memory is short: decoded pictures that are kept stay, all others are decoded each time"
            )
        for hint in hints:
            if hint and hint not in self._hints:
                self._hints.add(hint)
                self._reporter.note(f"{name}: {hint}")

    def _validate(self) -> bool:
        """Validate. Returns whether this is the best so far."""
        counters, monitor = self._counters, self._train.monitor
        figures = self._validation.figures()
        self._stage.validated(figures)
        if monitor not in figures:
            raise BenchError(
                f"{self._stage.name}.train.monitor={monitor}: no such figure; there are: {', '.join(sorted(figures))}"
            )
        value, before = figures[monitor], counters.best.get(monitor)
        improved = math.isfinite(value) and (
            before is None or (value < before if self._train.mode == "min" else value > before)
        )
        counters.since_best = 0 if improved else counters.since_best + 1
        if improved:
            counters.best = {**figures, "step": counters.step}
        self._reporter.validation(self._stage.name, counters.step, figures, improved)
        return improved


def _speed(samples: int, waited: float, worked: float, steps: int) -> Speed:
    seconds = max(waited + worked, 1e-9)
    return Speed(samples / seconds, waited / seconds, worked / steps)
