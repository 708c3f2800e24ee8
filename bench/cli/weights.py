"""``bench weights``: lists, downloads, imports and verifies pretrained networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from bench.weights.download import OnProgress
    from bench.weights.store import WeightStore

_FOLDER = typer.Option(None, "--weights-dir", help="Folder of weights, searched first; new files go there.")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        name="weights", help="Pretrained networks: list, fetch, import, verify.", no_args_is_help=True
    )
    group.command("list")(list_)
    group.command("fetch")(fetch)
    group.command("import")(import_)
    group.command("verify")(verify)
    app.add_typer(group)


def list_(
    weights_dir: Path | None = _FOLDER,
    json_: bool = typer.Option(False, "--json", help="The whole content of the registry, as JSON."),
) -> None:
    """List all weights with their folder on this machine, their licence, and what needs them."""
    from bench.weights.store import WeightStore

    store = WeightStore.default(weights_dir)
    if json_:
        _print_json(store)
    else:
        _print_table(store)


def fetch(
    names: list[str] = typer.Argument(None, help="Names of the weights in `bench weights list`."),
    everything: bool = typer.Option(False, "--all", help="All that need no browser: about 3 GB."),
    weights_dir: Path | None = _FOLDER,
    offline: bool = typer.Option(False, "--offline", help="Do not use the network; same as BENCH_OFFLINE=1."),
) -> None:
    """Download weights, unless they exist; an interrupted download continues where it stopped."""
    from bench.common.errors import BenchError
    from bench.weights.download import fetch as run
    from bench.weights.store import WeightStore
    from prep.errors import PrepError
    from prep.names import known
    from prep.weight_folders import offline_asked

    store = WeightStore.default(weights_dir)
    wanted = [name for name, entry in store.entries.items() if entry.fetchable] if everything else names or []
    if not wanted:
        raise BenchError("name the weights to fetch, or give --all; see `bench weights list`")
    failed = False
    for name in known("weights", wanted, store.entries):
        try:
            with _progress(name) as notify:
                path = run(store, name, offline=offline or offline_asked(), on_progress=notify)
        except (BenchError, PrepError) as error:
            typer.echo(f"error: {error}", err=True)
            failed = True
        except KeyboardInterrupt:
            typer.echo("stopped: the unfinished file stays, the same command continues from there", err=True)
            raise typer.Exit(130) from None
        else:
            typer.echo(f"{name}: {path} ({store.entries[name].licence})")
    if failed:
        raise typer.Exit(1)


def import_(
    name: str = typer.Argument(..., help="Name of the weights in `bench weights list`; or a method."),
    files: list[Path] = typer.Argument(
        ...,
        help="The file, or the archive or folder that contains it; for a method, all its official checkpoints.",
    ),
    weights_dir: Path | None = _FOLDER,
    replace: bool = typer.Option(False, "--replace", help="Trust it instead of the file used before."),
    run: Path | None = typer.Option(
        None, help="NAME is a method: folder of the run to write; default: runs/NAME-official."
    ),
    preset: str = typer.Option("paper", help="For a method: the options of its networks."),
    overrides: list[str] | None = typer.Option(None, "--set", help="KEY=VALUE over the preset."),
) -> None:
    """Import a file that you already have, after verifying it; or a method's official weights, as a run."""
    from bench.common.errors import BenchError
    from bench.weights.store import WeightStore
    from prep.names import known

    store = WeightStore.default(weights_dir)
    # Some methods have the name of a file in the registry; with --run the name is that of a method.
    if run is None and name in store.entries:
        if len(files) != 1:
            raise BenchError(f"{name} is one file, and {len(files)} were given")
        _import_file(store, name, files[0], replace)
    else:
        from bench.common.methods import METHODS

        known("weights or method", [name], [*(() if run else store.entries), *METHODS])
        _import_method(name, files, run or Path("runs") / f"{name}-official", preset, overrides or [])


def _import_file(store: WeightStore, name: str, file: Path, replace: bool) -> None:
    from bench.weights.download import add

    path = add(store, name, file, replace=replace)
    entry = store.entry(name)
    trust = "" if entry.expected or entry.package else " (no digest is publicly known: trusted from now on)"
    typer.echo(f"{entry.name}: {path}{trust}")


def _import_method(name: str, files: list[Path], run: Path, preset: str, overrides: list[str]) -> None:
    from bench.train.official import import_official

    for network, file in import_official(name, files, run, preset, overrides).items():
        typer.echo(f"{name}: {network} from {file}")
    typer.echo(f"{run}: bench dub {name} --run {run} --video … --audio … --out …")


def verify(
    names: list[str] = typer.Argument(None, help="Only these; default: all that are found."),
    weights_dir: Path | None = _FOLDER,
) -> None:
    """Hash every file again; exit code 1 if one is not the right file."""
    from bench.weights.store import WeightStore
    from prep.names import known

    store = WeightStore.default(weights_dir)
    found = store.verify(known("weights", names, store.entries) if names else None)
    for one in found:
        typer.echo(f"wrong: {one.problem}" if one.problem else f"right: {one.name}: {one.path}")
    if not found:
        typer.echo(f"no weights in {', '.join(map(str, (*store.folders, *store.borrowed)))}")
    if any(one.problem for one in found):
        raise typer.Exit(1)


def _print_json(store: WeightStore) -> None:
    import json
    from dataclasses import asdict

    rows = [
        {**asdict(entry), "path": str(copies[0]) if (copies := store.copies(name)) else None}
        for name, entry in store.entries.items()
    ]
    typer.echo(json.dumps(rows, indent=1))


def _print_table(store: WeightStore) -> None:
    import re

    from rich.table import Table

    from bench.cli.console import console, human_bytes, say

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("name", "size", "here", "needed for", "licence"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for name, entry in store.entries.items():
        copies = store.copies(name)
        here = str(copies[0].parent) if copies else "missing" if entry.fetchable else "by hand"
        size = _size(copies[0]) if copies else entry.size
        licence = re.split(r" \(|;", entry.licence)[0]
        table.add_row(name, human_bytes(size) if size else "?", here, "\n".join(entry.enables), licence)
    console.print(table)
    say(f"searched: {', '.join(map(str, (*store.folders, *store.borrowed)))}")
    say("bench weights fetch NAME downloads; bench weights import NAME FILE imports your own file")


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else (path,)))


@contextmanager
def _progress(name: str) -> Iterator[OnProgress]:
    from bench.cli.bars import Bars
    from bench.cli.console import console

    with Bars(console, bytes_=True) as bars:
        task = bars.add(name, None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
