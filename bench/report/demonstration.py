"""All steps from the embedded corpus to a table, in one call: ``bench demo`` without the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.common.errors import BenchError
from bench.common.methods import get_method
from bench.report.reproduction import Reproduction, reproduce
from bench.report.watching import Stopped, Watcher
from bench.train import train
from prep.inspect import contact_sheet, inspect_folder, verify_folder
from prep.options import PrepOptions
from prep.pipeline import plan_shards, prepare, select
from prep.sources import get_source
from prep.toy.corpus import write_corpus

EXPERT, CCA = "sync-expert", "sync-cca"
#: Methods that are trained with the expert.
WITH_EXPERT = ("wav2lip", "synctalkface")
#: Views that the methods of the suite are trained on.
VIEWS = ("box128", "face96", "aligned512")


def demo(
    out: Path = Path("demo"),
    *,
    clips: int = 60,
    methods: Sequence[str] = ("wav2lip", "ipl"),
    watcher: Watcher | None = None,
) -> Reproduction:
    """Make and prepare the toy corpus, train methods on it, and score them together with the trivial rows.

    Finished steps of the same call in ``out`` are kept, so an interrupted call continues. On two CPU cores it takes
    minutes. It uses one process per core, so a script calls it below ``if __name__ == "__main__":``.

    Args:
        out: folder to write: ``toy``, ``data``, ``runs``, ``videos``, ``result``, ``site``.
        clips: of the toy corpus, at least 4.
        methods: names of the methods to train with their preset ``tiny`` and to score; ``sync-expert`` and ``sync-cca``
            are also trained.
        watcher: receives the progress of every step.

    Raises:
        Stopped: SIGTERM or Ctrl-C ended a training.
        Incomplete: videos or figures are missing.
        BenchError: a method is unknown, ``out`` holds something else, no clip of the corpus can be used, or a step
            raises it.
        PrepError: the extra ``toy`` is not installed, or preparation failed.
    """
    for name in methods:
        get_method(name)  # An unknown method is reported at once.
    watcher = watcher or Watcher()
    corpus, data, runs = out / "toy", out / "data", out / "runs"
    watcher.begin(["bench", "toy", str(corpus), "--clips", str(clips)])
    with watcher.counting("toy corpus") as advance:
        report = write_corpus(corpus, clips=clips, progress=advance)
    watcher.done(report, corpus)
    _prepare(corpus, data, watcher)
    for name in (CCA, EXPERT, *methods):
        _train(name, data, runs, watcher)
    return reproduce(
        "default",
        data,
        out,
        runs={name: runs / name for name in methods},
        sync_expert=runs / EXPERT,
        sync_cca=runs / CCA,
        workers=None,
        site=out / "site",
        watcher=watcher,
    )


def _prepare(corpus: Path, data: Path, watcher: Watcher) -> None:
    """Prepare the corpus, and check every shard. Raises BenchError if no clip can be used."""
    words = ["bench", "prep", "lrs2", str(corpus), "--out", str(data)]
    watcher.begin([*words, "--views", ",".join(VIEWS), "--name", "toy"])
    refs = select(list(get_source("lrs2").list_clips(corpus, None)), None)
    with watcher.preparing(len(refs), len(plan_shards(refs))) as on_progress:
        options = PrepOptions(source="lrs2", name="toy", views=VIEWS)
        manifest = prepare(refs, corpus, data, options, on_progress=on_progress)
    watcher.done(manifest, data)
    if not any(counts["clips"] for counts in manifest["splits"].values()):
        raise BenchError(f"{data}: no clip can be used; `bench inspect {data}` counts the reasons")
    watcher.begin(["bench", "inspect", str(data), "--verify"])
    watcher.note(f"{verify_folder(data)} shards match the manifest")
    watcher.done(inspect_folder(data), contact_sheet(data, data / "contact-sheet.png"))


def _train(name: str, data: Path, runs: Path, watcher: Watcher) -> None:
    """Train a method, or resume its training. Raises Stopped if it was ended early."""
    run = runs / name
    overrides = [f"{name}.expert={(runs / EXPERT).absolute()}"] if name in WITH_EXPERT else []
    resume = (run / "config.json").exists()
    command = ["bench", "train", name, "--data", str(data), "--preset", "tiny", "--run", str(run)]
    command += [word for override in overrides for word in ("--set", override)]
    watcher.begin([*command, *(["--resume"] if resume else [])])
    with watcher.training() as reporter:
        result = train(
            name, [data], preset="tiny", overrides=overrides, run=run, resume=resume, reporter=reporter
        )
    watcher.done(result, run)
    if result.stopped:
        raise Stopped(f"training of {name} was stopped: the same command continues from its last checkpoint")
