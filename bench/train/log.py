"""The output of a training run: a JSONL log, TensorBoard, grids of images.

The log of a stage is one continuous curve, even if the run was interrupted: a resumed run removes the lines after the
step from which it continues. A line is a JSON object with ``kind``, ``step`` and ``time`` (UTC, ISO 8601), and

==============  =================================================================================================
``begin``       ``total``: optimizer steps, or null
``step``        ``epoch``, ``logs`` (name → figure), ``samples_per_s``, ``data_wait`` (share of the time), ``model_s``
``validation``  ``figures`` (name → figure), ``best``
``note``        ``text``
``end``         ``reason``
==============  =================================================================================================

Figures that JSON cannot represent are the strings ``NaN``, ``Infinity`` and ``-Infinity``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np

from bench.common.errors import BenchError
from prep.installing import install

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"
SAMPLES = "samples"

_TITLE = 20
_GAP = 2


@dataclass(frozen=True)
class Speed:
    """The speed of training since the last report.

    Attributes:
        samples_per_s: samples per second, of all processes together.
        data_wait: share of the time, 0 to 1, in which the loop waited for a batch.
        model_s: seconds per step without that waiting time.
    """

    samples_per_s: float
    data_wait: float
    model_s: float


class Reporter(Protocol):
    """Receives the progress of training. ``step`` is the number of optimizer steps made so far in a stage."""

    def begin(self, stage: str, start_step: int, total_steps: int | None) -> None:
        """A stage begins, or is resumed from ``start_step``. ``total_steps`` is None if it is not known."""
        ...

    def advance(self, stage: str, step: int) -> None:
        """A step was made; called after every step."""
        ...

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        """Losses by their names in the paper, once every ``log_every`` steps."""
        ...

    def validation(self, stage: str, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Figures of the validation split. ``best``: the monitored figure is the best so far."""
        ...

    def pictures(self, stage: str, step: int, columns: Mapping[str, Tensor]) -> None:
        """Sample images: column → (B, 3, H, W) float in [0, 1], RGB."""
        ...

    def note(self, text: str) -> None:
        """A message about anything else."""
        ...

    def end(self, stage: str, reason: str) -> None:
        """The stage ended, and why."""
        ...


class Several:
    """Passes everything on to several reporters, or to none."""

    def __init__(self, reporters: Sequence[Reporter] = ()) -> None:
        self._reporters = tuple(reporters)

    def begin(self, stage: str, start_step: int, total_steps: int | None) -> None:
        """As :meth:`Reporter.begin`."""
        for reporter in self._reporters:
            reporter.begin(stage, start_step, total_steps)

    def advance(self, stage: str, step: int) -> None:
        """As :meth:`Reporter.advance`."""
        for reporter in self._reporters:
            reporter.advance(stage, step)

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        """As :meth:`Reporter.step`."""
        for reporter in self._reporters:
            reporter.step(stage, step, epoch, logs, speed)

    def validation(self, stage: str, step: int, figures: Mapping[str, float], best: bool) -> None:
        """As :meth:`Reporter.validation`."""
        for reporter in self._reporters:
            reporter.validation(stage, step, figures, best)

    def pictures(self, stage: str, step: int, columns: Mapping[str, Tensor]) -> None:
        """As :meth:`Reporter.pictures`."""
        for reporter in self._reporters:
            reporter.pictures(stage, step, columns)

    def note(self, text: str) -> None:
        """As :meth:`Reporter.note`."""
        for reporter in self._reporters:
            reporter.note(text)

    def end(self, stage: str, reason: str) -> None:
        """As :meth:`Reporter.end`."""
        for reporter in self._reporters:
            reporter.end(stage, reason)


class RunLog:
    """Writes into the folder of a run: ``<stage>/log.jsonl``, ``<stage>/samples/`` and ``<stage>/tensorboard/``.

    Args:
        run: the folder.
        tensorboard: write TensorBoard files as well.

    Raises:
        BenchError: from any method, if a file cannot be written or an earlier log is damaged.
    """

    def __init__(self, run: Path, *, tensorboard: bool) -> None:
        self._run = run
        self._wants_tensorboard = tensorboard
        self._file: TextIO | None = None
        self._board: SummaryWriter | None = None
        self._step = 0
        # Notes that come before the log of their stage is open.
        self._notes: list[str] = []

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Another stage may begin afterwards."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._board is not None:
            self._board.close()
            self._board = None

    def begin(self, stage: str, start_step: int, total_steps: int | None) -> None:
        """Open the stage's log and remove the lines after ``start_step``."""
        self.close()
        path = self._run / stage / LOG
        self._step = start_step
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            truncate(path, start_step)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise BenchError(f"{path} cannot be written: {error.strerror}") from error
        if self._wants_tensorboard:
            self._board = _summary_writer(path.with_name(TENSORBOARD), start_step)
        self._write("begin", {"total": total_steps})
        while self._notes:
            self._write("note", {"text": self._notes.pop(0)})

    def advance(self, stage: str, step: int) -> None:
        """Nothing is written at every step."""

    def step(self, stage: str, step: int, epoch: float, logs: Mapping[str, float], speed: Speed) -> None:
        """A line of the log, and scalars ``train/…`` and ``speed/…``."""
        self._step = step
        timing = {
            "samples_per_s": round(speed.samples_per_s, 3),
            "data_wait": round(speed.data_wait, 4),
            "model_s": round(speed.model_s, 6),
        }
        self._write("step", {"epoch": epoch, "logs": _json_floats(logs), **timing})
        self._scalars("train", logs)
        self._scalars("speed", timing)

    def validation(self, stage: str, step: int, figures: Mapping[str, float], best: bool) -> None:
        """A line of the log, and scalars ``val/…``."""
        self._step = step
        self._write("validation", {"figures": _json_floats(figures), "best": best})
        self._scalars("val", figures)

    def pictures(self, stage: str, step: int, columns: Mapping[str, Tensor]) -> None:
        """Write ``samples/step-XXXXXXXX.jpg``: one column per name, one row per sample."""
        from io import BytesIO

        from prep.shards import AtomicFile

        if not columns:
            return
        path = self._run / stage / SAMPLES / f"step-{step:08d}.jpg"
        picture = grid(columns)
        encoded = BytesIO()
        picture.save(encoded, "JPEG", quality=92, subsampling=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with AtomicFile(path) as sink:
                sink.write(encoded.getbuffer())
                sink.commit()
        except OSError as error:
            raise BenchError(f"{path} cannot be written: {error.strerror}") from error
        if self._board is not None:
            self._board.add_image("samples", np.asarray(picture), step, dataformats="HWC")

    def note(self, text: str) -> None:
        """A line in the log of the current stage, or of the next one."""
        if self._file is None:
            self._notes.append(text)
        else:
            self._write("note", {"text": text})

    def end(self, stage: str, reason: str) -> None:
        """The last line of the log."""
        self._write("end", {"reason": reason})
        self.close()

    def _write(self, kind: str, values: Mapping[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError("no stage has begun")
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"kind": kind, "step": self._step, "time": now, **values}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise BenchError(f"{self._file.name} cannot be written: {error.strerror}") from error

    def _scalars(self, group: str, values: Mapping[str, float]) -> None:
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, self._step)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``log.jsonl``. An incomplete last line, left by a crash, is ignored.

    Raises:
        BenchError: the file cannot be read, or another line is damaged.
    """
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BenchError(f"{path} cannot be read: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            int(entry["step"])
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise BenchError(f"{path}, line {number} is damaged: move the file away") from None
        else:
            found.append(entry)
    return found


def truncate(path: Path, step: int) -> None:
    """Remove from a log all lines after ``step``, atomically; with step 0 all lines.

    Raises:
        BenchError: as :func:`read_log`.
        OSError: the file cannot be written.
    """
    from prep.shards import AtomicFile

    if not path.exists():
        return
    kept = [entry for entry in read_log(path) if entry["step"] <= step] if step else []
    with AtomicFile(path) as sink:
        for entry in kept:
            sink.write((json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode())
        sink.commit()


def grid(columns: Mapping[str, Tensor]) -> Image.Image:
    """A grid of images as a PIL image: one column per title, one row per sample.

    Args:
        columns: title → (B, 3, H, W) float, RGB, clipped to [0, 1], NaN is black. At least one column; H and W may
            differ between columns.

    Raises:
        ValueError: a column is not a batch of images.
    """
    from PIL import Image, ImageDraw, ImageFont

    arrays = {name: _to_uint8(name, pictures) for name, pictures in columns.items()}
    font = ImageFont.load_default(_TITLE - 6)
    rows = max(len(array) for array in arrays.values())
    height = max(array.shape[1] for array in arrays.values())
    # A title wider than its images makes the column wider.
    widths = [max(array.shape[2], math.ceil(font.getlength(name))) for name, array in arrays.items()]
    size = (sum(widths) + _GAP * (len(widths) - 1), _TITLE + rows * (height + _GAP) - _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for (name, array), width in zip(arrays.items(), widths, strict=True):
        draw.text((left, 0), name, fill="black", font=font)
        for row, picture in enumerate(array):
            sheet.paste(Image.fromarray(picture), (left, _TITLE + row * (height + _GAP)))
        left += width + _GAP
    return sheet


def _to_uint8(name: str, pictures: Tensor) -> np.ndarray:
    """(B, H, W, 3) uint8 of (B, 3, H, W) float."""
    if pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures {name!r} have shape {tuple(pictures.shape)}, expected (B, 3, H, W)")
    levels = pictures.detach().float().cpu().nan_to_num(0).clamp(0, 1).mul(255).round()
    return np.ascontiguousarray(levels.byte().permute(0, 2, 3, 1).numpy())


def _json_floats(values: Mapping[str, float]) -> dict[str, float | str]:
    return {name: _json_float(value) for name, value in values.items()}


def _json_float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _summary_writer(folder: Path, start_step: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BenchError(
            f"TensorBoard cannot be used ({error}): {install()}, or --set runner.tensorboard=false"
        ) from error
    # TensorBoard hides what an interrupted run wrote from this step on.
    return SummaryWriter(str(folder), purge_step=start_step + 1 if start_step else 0)
