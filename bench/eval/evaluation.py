"""An evaluation, from videos to a result: plan, score, summarise, write."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.clips.inputs import Audio, Inputs, find_inputs
from bench.common.device import pick_device
from bench.common.errors import BenchError
from bench.eval.decoding import MATRIX_RULES, PIXELS, MatrixRule
from bench.eval.plan import EvalOptions, plan_evaluation
from bench.eval.score import Step, default_workers, score_clips
from bench.eval.summarise import summarise
from bench.eval.write import PARTS, claimed, write_evaluation
from bench.metrics import DEFAULT, full_names
from bench.metrics.regions import REGIONS
from bench.results import Result
from bench.weights.store import WeightStore
from prep.detectors import DEFAULT as DETECTOR
from prep.detectors import DETECTORS
from prep.names import known
from prep.pixels import Pixels

log = logging.getLogger(__name__)


def evaluate(
    predictions: Mapping[str, Path] | None = None,
    *,
    out: Path,
    data: Path | None = None,
    truth: Path | None = None,
    pairs: Path | None = None,
    split: str | None = None,
    clips: Path | None = None,
    root: Path | None = None,
    metrics: Sequence[str] | None = None,
    regions: Sequence[str] = ("full", "face", "mouth"),
    audio: Audio = "prediction",
    pixels: Pixels | None = None,
    matrix: MatrixRule = "auto",
    detector: str = DETECTOR,
    with_trivial: bool = False,
    limit: int | None = None,
    training_data: str | Mapping[str, str] = "",
    sync_expert: Path | None = None,
    sync_cca: Path | None = None,
    weights_dir: Path | None = None,
    device: str = "auto",
    batch_size: int = 16,
    seed: int = 0,
    workers: int | None = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    command: str = "",
    on_inputs: Callable[[Inputs], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_progress: Callable[[Step], None] | None = None,
) -> Result:
    """Score videos against the truth, and write a result folder; an interrupted evaluation is continued.

    The truth comes from one of ``data``, ``truth`` and ``pairs``. Without any of these, only metrics without a
    reference are computed.

    Args:
        predictions: name of a method → folder of its videos, or one video; empty: only the trivial rows.
        out: folder to write; workers on other machines must have it, and everything else, at the same path.
        data: prepared data set that holds the truth.
        truth: folder of true videos, paired with predictions by file name without suffix; or one true video; with
            ``pairs`` the folder of the list's files.
        pairs: list of pairs in Wav2Lip's format; the protocol is dubbing.
        split: of the data set; None: the splits that contain ``clips``; without ``clips``, ``test`` or the only split.
        clips: list of the clips to score, one id per line or CSV with a column ``clip``; None: those that the
            ``generation.json`` of the predictions lists, if no split is named; else all clips of the split.
        root: folder of the data set's source videos; None: the folder recorded at preparation.
        metrics: names of variants, or short names; None: :data:`bench.metrics.DEFAULT`, and ``lse.expert`` with a
            ``sync_expert``.
        regions: of :data:`bench.metrics.regions.REGIONS`.
        audio: the sound for lip-sync metrics: that of the prediction's file, or the truth's.
        pixels: how colours are decoded: ``exact``, or ``opencv`` (BT.601 whatever the tags, as OpenCV before 4.13);
            None: as the data set's were, without a data set ``exact``.
        matrix: by which matrix predictions are decoded. ``auto``: by their tag; a method's untagged videos of tagged
            truths by the truth's matrix or by BT.601, whichever agrees better with the truth's colours.
            ``tagged``: untagged ones by BT.601. ``bt601``: predictions and truth by BT.601, whatever their tags.
        detector: what finds landmarks, one of :data:`prep.detectors.DETECTORS`. Those of a data set are used if the
            same one found them.
        with_trivial: add rows that are made from the truth: ground truth, re-encoded, shifted by one pixel and back
            (metrics of landmarks only), still frame, wrong audio.
        limit: score only this many clips, the first ones; None: all.
        training_data: what the methods were trained on, for notes below tables: a text for all, or method → text.
        sync_expert: run of ``sync-expert`` for ``lse.expert``.
        sync_cca: run of ``sync-cca`` for ``sync.cca``.
        weights_dir: folder of pretrained networks that is searched first.
        device: ``auto``, or a device of torch.
        batch_size: frames scored together; it changes no figure.
        seed: of the bootstrap and of the choice of wrong audio.
        workers: local processes; with 1 everything is done in this process; None: one per core on a CPU, one on a GPU.
            Several processes import the main module again, so a script that asks for them calls this function below
            ``if __name__ == "__main__":``.
        scheduler: address of a running Dask scheduler to use instead.
        overwrite: delete what another evaluation left in ``out``.
        command: as typed, for the provenance.
        on_inputs: called once with the inputs, before anything is scored.
        on_note: called with every warning about how videos are decoded, one line each, before anything is scored.
        on_progress: called for every finished clip.

    Returns:
        The result in ``out``, as :func:`bench.results.read_result` reads it.

    Raises:
        BenchError: there is nothing to score, the folder holds another evaluation or is in use, no metric can be
            computed, there is no such device, or the disk is full.
        PrepError: a name is unknown, the package that the detector is in is not installed, or a folder or data set
            cannot be read.
    """
    known("audio", [audio], ("prediction", "truth"))
    known("pixels", [pixels] if pixels else [], PIXELS)
    known("matrix", [matrix], MATRIX_RULES)
    for what, names in (("metric", metrics), ("region", regions)):
        if names is not None and not names:
            raise BenchError(f"no {what} is named: leave the option out for the usual ones, or name some")
    default = (*DEFAULT, "lse.expert") if sync_expert else DEFAULT
    folders = dict(predictions or {})
    told = training_data if isinstance(training_data, Mapping) else dict.fromkeys(folders, training_data)
    options = EvalOptions(
        metrics=full_names(default if metrics is None else metrics),
        regions=known("region", list(regions), REGIONS),
        audio=audio,
        seed=seed,
        device=pick_device(device),
        batch=batch_size,
        training_data=tuple((name, words) for name, words in told.items() if words),
        sync_expert=sync_expert,
        sync_cca=sync_cca,
        pixels=pixels,
        matrix=matrix,
        detector=known("detector", [detector], DETECTORS)[0],
    )
    inputs = find_inputs(
        folders,
        data=data,
        truth=truth,
        pairs=pairs,
        split=split,
        clips=clips,
        root=root,
        audio=audio,
        limit=limit,
        with_trivial=with_trivial,
        seed=seed,
    )
    if on_inputs is not None:
        on_inputs(inputs)
    return evaluate_inputs(
        inputs,
        out,
        options,
        WeightStore.default(weights_dir),
        workers=workers,
        scheduler=scheduler,
        overwrite=overwrite,
        command=command,
        on_note=on_note,
        on_progress=on_progress,
    )


def evaluate_inputs(
    inputs: Inputs,
    out: Path,
    options: EvalOptions,
    weights: WeightStore,
    *,
    workers: int | None = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    command: str = "",
    on_note: Callable[[str], None] | None = None,
    on_progress: Callable[[Step], None] | None = None,
) -> Result:
    """Score inputs that were already found; see :func:`evaluate`.

    Args:
        inputs: predictions and truth.
        out: folder to write.
        options: metrics, regions, seed, device.
        weights: finds networks.
        workers: local processes; with 1 everything is done in this process; None: one per core on a CPU, one on a GPU.
        scheduler: address of a running Dask scheduler to use instead.
        overwrite: delete what another evaluation left in ``out``.
        command: as typed, for the provenance.
        on_note: called with every warning about how videos are decoded, before anything is scored.
        on_progress: called for every finished clip.

    Raises:
        BenchError: as :func:`evaluate`.
    """
    started = time.monotonic()
    plan = plan_evaluation(inputs, options, weights)
    for method, choice in plan.untagged.items():
        (on_note or log.warning)(choice.words(method))
    with claimed(out, plan, overwrite) as complete:
        if complete is not None:
            return complete
        parts = score_clips(
            plan,
            out / PARTS,
            workers=workers or default_workers(options.device, len(inputs.jobs)),
            scheduler=scheduler,
            on_progress=on_progress,
        )
        methods = summarise(plan, parts)
        return write_evaluation(out, plan, parts, methods, time.monotonic() - started, command)
