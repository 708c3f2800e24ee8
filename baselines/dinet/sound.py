"""What DINet hears with a frame, by the names of its option ``sound``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from torch import Tensor

from baselines.dinet.network import LOGITS, MEL
from prep.sample_spec import Sound

#: ``speech``: logits of speech, as in paper and code; ``mel``: Wav2Lip's spectrogram, which needs no speech encoder.
Hearing = Literal["speech", "mel"]
_Chunk = TypeVar("_Chunk", Tensor, np.ndarray)


@dataclass(frozen=True)
class Heard:
    """The sound of five frames, the one that is painted in their middle.

    Attributes:
        sound: of a frame, as samples and :class:`models.base.Speech` give it.
        window: what DINet's own expert hears with five painted frames, from the first: of nine frames, from two before
            it on, or their mel.
        every: of its columns, one in so many is heard.
        shape: channels and columns that are heard, as :class:`baselines.dinet.network.Generator` takes them.
    """

    sound: Sound
    window: Sound
    every: int
    shape: tuple[int, int]

    def of(self, chunks: _Chunk) -> _Chunk:
        """(..., channels, columns) of ``sound`` or ``window`` → (..., channels, columns) that are heard."""
        return chunks[..., :: self.every]


#: The official code hears frames f - 2 to f + 2 as logits of 25 columns a second; so the mel is centred too.
HEARD: dict[Hearing, Heard] = {
    "speech": Heard(
        Sound("speech.logits", columns=9, lead=4), Sound("speech.logits", columns=17, lead=4), 2, LOGITS
    ),
    "mel": Heard(Sound("mel", offset=-2), Sound("mel"), 1, MEL),
}
