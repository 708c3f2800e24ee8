"""All commands of ``bench``."""

from __future__ import annotations

import typer

from bench.cli import (
    check,
    demo,
    derive,
    doctor,
    dub,
    eval,
    explain,
    external,
    generate,
    inspect,
    ls,
    offsets,
    prep,
    report,
    reproduce,
    toy,
    train,
    weights,
)

app = typer.Typer(
    name="bench",
    help="Audio-driven talking faces, made comparable: prepare data, train, generate, score and report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    *(
        prep,
        toy,
        inspect,
        derive,
        train,
        offsets,
        generate,
        dub,
        external,
        eval,
        report,
        reproduce,
        explain,
        check,
    ),
    *(weights, doctor, ls, demo),
):
    command.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"talking-face-bench {version('talking-face-bench')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_version, is_eager=True
    ),
) -> None:
    pass
