"""``bench demo``: the way through the house on the embedded corpus."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    out: Path = typer.Argument(Path("demo"), help="Folder to write."),
    clips: int = typer.Option(60, min=4, help="Clips of the embedded corpus."),
    method: list[str] = typer.Option(
        ["wav2lip", "ipl"], help="To train and score; repeat it for several, as lipformer."
    ),
) -> None:
    """Toy corpus, prepared; methods trained on it and scored beside the trivial rows: on two CPU cores in minutes."""
    from bench.cli.steps import step
    from bench.common.methods import get_method

    for name in method:
        get_method(name)  # an unknown one is said at once
    corpus, data, runs = str(out / "toy"), str(out / "data"), out / "runs"
    step("toy", corpus, "--clips", str(clips))
    step("prep", "lrs2", corpus, "--out", data, "--views", "box128,face96,aligned512", "--name", "toy")
    step("inspect", data, "--verify")
    expert = runs / "sync-expert"
    for name in ("sync-expert", *method):
        run = runs / name
        options = ("--set", f"wav2lip.expert={expert.absolute()}") if name == "wav2lip" else ()
        go_on = ["--resume"] if (run / "config.json").exists() else []
        step("train", name, "--data", data, "--preset", "tiny", "--run", str(run), *options, *go_on)
    rows = [word for name in method for word in ("--run", str(runs / name))]
    site = str(out / "site")
    step(
        "reproduce",
        "default",
        "--data",
        data,
        *rows,
        "--sync-expert",
        str(expert),
        "--out",
        str(out),
        "--site",
        site,
    )
