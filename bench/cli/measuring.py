"""What ``bench train --profile`` and ``--throughput`` print."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.common.errors import BenchError

if TYPE_CHECKING:
    from bench.train.profiling import StageProfile
    from bench.train.throughput import StageSpeed

_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


def measure(
    *,
    profile: bool,
    throughput: bool,
    traces: Path | None,
    as_json: bool,
    only_of_runs: Mapping[str, object],
    **settings: Any,
) -> bool:
    """Measure steps of a method and print the result.

    Args:
        profile: where their time goes.
        throughput: how fast they are, in place of that.
        traces: folder for traces of a profile; None: the current one.
        as_json: print JSON.
        only_of_runs: option → its value, of options that only a run has.
        settings: as for :func:`bench.train.train`.

    Returns:
        Whether all could be measured.

    Raises:
        BenchError: options do not go together, or as :func:`bench.train.train`.
    """
    if profile == throughput:
        raise BenchError(
            "--profile and --throughput measure apart: leave one of them out"
            if profile
            else f"{'--traces' if traces else '--json'} needs --profile{'' if traces else ' or --throughput'}"
        )
    flag = "--profile" if profile else "--throughput"
    if traces is not None and throughput:
        raise BenchError("--throughput writes no traces: leave --traces out, or take --profile")
    for option, value in only_of_runs.items():
        if value:
            raise BenchError(
                f"{flag} measures steps from random weights and writes no run: leave {option} out"
            )
    try:
        if profile:
            _profile(traces or Path(), as_json=as_json, **settings)
            return True
        return _throughput(as_json=as_json, **settings)
    except KeyboardInterrupt:
        typer.echo("stopped: no run was written", err=True)
        raise typer.Exit(130) from None


def _profile(traces: Path, *, method: str, as_json: bool, **settings: Any) -> None:
    """Print where the time of a step goes, a table for each stage."""
    # The library of torch's profiler reads it when torch is loaded; it reports its own start and end otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    from bench.train.profiling import profile

    found = []
    for one in profile(method, traces=traces, note=_note, **settings):
        found.append({**asdict(one), "trace": str(one.trace)})
        if not as_json:
            _show_profile(one)
    if as_json:
        typer.echo(json.dumps({"method": method, "stages": found}, indent=1))


def _throughput(*, method: str, as_json: bool, **settings: Any) -> bool:
    """Print how fast a method trains. Returns whether all could be measured."""
    from bench.cli.console import say
    from bench.train.throughput import throughput

    found: list[StageSpeed] = []
    for one in throughput(method, note=_note, **settings):
        found.append(one)
        if not as_json:
            _show_speed(one)
    days = [one.days for one in found]
    total = None if None in days else sum(day for day in days if day is not None)
    if as_json:
        stages = [{**asdict(one), "days": one.days} for one in found]
        typer.echo(json.dumps({"method": method, "stages": stages, "days": total}, indent=1))
    elif len(found) > 1:
        missing = [one.stage for one in found if one.days is None]
        say(
            f"{method}: {_days(total)} in all"
            if total is not None
            else f"{method}: no sum without {', '.join(missing)}"
        )
    _note("Measured on this machine now, without validations and checkpoints.")
    return not any(one.problem for one in found)


def _show_profile(one: StageProfile) -> None:
    from bench.cli.console import console, figures_table, human_bytes, say

    part = one.part
    say(
        f"\n{one.stage}: mean of {one.steps} steps of {one.samples} samples, {_machine(one)}, as in steps "
        f"{_steps(part.begin, part.end)}"
    )
    table = figures_table("part of a step", "seconds", "share", right=2)
    for name, seconds in one.parts.items():
        table.add_row(name, f"{seconds:.4f}", f"{seconds / one.seconds:.1%}")
    table.add_row("a step", f"{one.seconds:.4f}", "100.0%", style="bold")
    console.print(table)
    if one.long_step_every > 1:
        say(f"Every {one.long_step_every}th step computes more, which these do not.")
    if one.peak is not None:
        say(f"peak memory: {human_bytes(one.peak)}")
    say(f"trace of one more step, for https://ui.perfetto.dev: {one.trace}")


def _show_speed(one: StageSpeed) -> None:
    from bench.cli.console import console, figures_table, human_bytes, say

    say(f"\n{one.stage}: {one.samples} samples a step, {_machine(one)}")
    if one.parts:
        table = figures_table(
            "steps",
            "measured",
            "s a step",
            "fastest",
            "slowest",
            "steps/s",
            "samples/s",
            "waiting for data",
            right=7,
        )
        for speed in one.parts:
            mean = one.mean_seconds(speed)
            table.add_row(
                _steps(speed.part.begin, speed.part.end),
                str(speed.measured),
                f"{mean:.4g}",
                f"{speed.fastest:.4g}",
                f"{speed.slowest:.4g}",
                f"{1 / mean:.4g}",
                f"{one.samples / mean:.4g}",
                f"{speed.data_wait:.1%}",
            )
        console.print(table)
        if one.parts[-1].long_seconds is not None:
            say(
                f"Every {one.long_step_every}th step takes {one.parts[-1].long_seconds:.4g} s, which the mean "
                "includes; fastest and slowest are of the others."
            )
    if one.problem:
        say(one.problem)
        return
    if one.peak is not None:
        say(f"peak memory: {human_bytes(one.peak)}")
    if one.total is None or one.days is None:
        say("no end is set: steps and epochs are none")
        return
    epochs = one.total * one.samples / one.clips
    limit = "at most " if one.may_end_early else ""
    say(f"{one.total:,} steps, {epochs:,.1f} epochs of {one.clips:,} clips: {limit}{_days(one.days)}")


def _machine(one: StageProfile | StageSpeed) -> str:
    threads = f" with {one.threads} thread{'s' if one.threads > 1 else ''}" if one.device == "cpu" else ""
    return f"{_PRECISIONS.get(one.precision, one.precision)}, {one.device}{threads}"


def _steps(begin: int, end: int | None) -> str:
    return f"from {begin:,}" if end is None else f"{begin:,} to {end - 1:,}"


def _days(days: float) -> str:
    return (
        f"{days:,.1f} days"
        if days >= 2
        else f"{days * 24:.1f} hours"
        if days >= 1 / 12
        else f"{days * 1440:.1f} minutes"
    )


def _note(line: str) -> None:
    # On the other stream, so that --json stays JSON.
    typer.echo(line, err=True)
