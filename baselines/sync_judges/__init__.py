"""What every sync judge has in common: scores of shifted sound, windows, the offset of a clip, frames with speech.

A judge embeds lips and sound once a frame. The dot product of ``lips[t]`` and ``sounds[t + d]`` says how well the lips
of frame t and the sound of frame t + d belong together. Offsets have SyncNet's sign everywhere: positive where the
*video* is late. Then the sound that fits is earlier, and the best d is minus the offset.
"""

from baselines.sync_judges.offset import Offset, clip_offset
from baselines.sync_judges.scores import shifted_scores
from baselines.sync_judges.speech import speech_frames
from baselines.sync_judges.windows import Ranked, Windows, right_above_wrong, window_offsets

__all__ = [
    "Offset",
    "Ranked",
    "Windows",
    "clip_offset",
    "right_above_wrong",
    "shifted_scores",
    "speech_frames",
    "window_offsets",
]
