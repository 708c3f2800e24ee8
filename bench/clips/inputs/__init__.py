"""Turns the arguments of `bench eval` into a list of jobs, without opening a video.

There are three forms of input: predictions and a prepared data set, predictions and a plain folder, or predictions and
a list of pairs in Wav2Lip's format. :mod:`bench.clips.inputs.reading` reads the files of the jobs.
"""

from __future__ import annotations

from bench.clips.inputs.base import Audio, Inputs, Protocol
from bench.clips.inputs.dataset import from_dataset
from bench.clips.inputs.find import find_inputs, find_methods
from bench.clips.inputs.folders import from_folders
from bench.clips.inputs.pairs import from_pairs
from bench.clips.inputs.rows import trivial_rows, with_trivial

__all__ = [
    "Audio",
    "Inputs",
    "Protocol",
    "find_inputs",
    "find_methods",
    "from_dataset",
    "from_folders",
    "from_pairs",
    "trivial_rows",
    "with_trivial",
]
