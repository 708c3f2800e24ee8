"""The clips that all methods of a table generate: those that a run set held out, if one of the methods is a run set."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from bench.clips.generation_record import one_line
from bench.common.errors import BenchError
from bench.train.inputs import trained_with
from bench.train.run_set import RunSet
from prep.shards import AtomicFile, open_shard, shard_paths

#: The list, in the folder of a reproduction.
CLIPS = "clips.txt"


def common_clips(runs: Mapping[str, Path]) -> tuple[str, ...] | None:
    """Ids of the clips that the run sets among some runs held out, sorted; None if there is no run set.

    Args:
        runs: row of the table → folder of a run, or of a run set.

    Raises:
        BenchError: two run sets held out different clips, or a ``runset.json`` is damaged.
    """
    chosen, first = None, ""
    for name, folder in runs.items():
        run_set = RunSet.load(folder)
        if run_set is None:
            continue
        clips = tuple(sorted(clip for ids in run_set.held_out().values() for clip in ids))
        if chosen is None:
            chosen, first = clips, name
        elif other := set(chosen).symmetric_difference(clips):
            raise BenchError(
                f"{first} and {name} are run sets that held out different clips (one of them: {min(other)}), so no "
                "clips can be generated with both: make two tables"
            )
    return chosen


def trained_on_clips(runs: Mapping[str, Path], data: Path, clips: Collection[str]) -> Iterator[str]:
    """One line for every single run that may have been trained on some of the clips.

    These are runs whose record has the data set, if some of the clips are in its splits for training.

    Args:
        runs: row of the table → folder of a run, or of a run set.
        data: prepared data set.
        clips: ids of its clips.

    Raises:
        BenchError: a record of a run is damaged.
        PrepError: ``data`` is not a data set.
    """
    training = _training_clips(data).intersection(clips)
    for name, folder in runs.items():
        if training and RunSet.load(folder) is None and trained_with(folder, data):
            yield (
                f"{name} ({folder}) was trained on {data}, and {len(training)} of the {len(clips)} clips are in its "
                f"training split (one of them: {min(training)}): its figures are not those of unseen clips"
            )


def write_clips(out: Path, clips: Collection[str]) -> Path:
    """Write a list of clips into a folder, for ``--clips``. Raises BenchError if it cannot be written."""
    path = out / CLIPS
    with one_line(out):
        out.mkdir(parents=True, exist_ok=True)
        with AtomicFile(path) as sink:
            sink.write("".join(f"{clip}\n" for clip in clips).encode())
            sink.commit()
    return path


def _training_clips(data: Path) -> set[str]:
    found = set()
    for path in shard_paths(data):
        table = open_shard(path).read(columns=["clip_id", "split"], use_threads=False)
        found |= {row["clip_id"] for row in table.to_pylist() if row["split"] in ("train", "pretrain")}
    return found
