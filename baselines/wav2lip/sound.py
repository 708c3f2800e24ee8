"""What Wav2Lip hears with a frame (Prajwal et al., ACM MM 2020), by the names that presets and runs use."""

from __future__ import annotations

from prep.sample_spec import Sound

#: ``wav2lip``: in the training of its expert and at its inference: the 16 columns of mel that start with the frame.
#: ``wav2lip-generator``: in the training of its generator: those of the frame before.
SOUNDS = {"wav2lip": Sound("mel"), "wav2lip-generator": Sound("mel", offset=-1)}
