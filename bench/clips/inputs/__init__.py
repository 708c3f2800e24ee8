"""What is named to `bench eval` becomes a list of jobs; no video is opened for it.

Three forms: predictions against a prepared data set, against a plain folder, or for a list of pairs as Wav2Lip
publishes them. :mod:`bench.clips.inputs.reading` reads what the jobs point at.
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
