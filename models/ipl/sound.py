"""What IP-LAP hears with a frame (Zhong et al., CVPR 2023), by the names that presets and runs use."""

from __future__ import annotations

from prep.sample_spec import Sound

#: ``iplap``: in its training: the 16 columns of mel that start two frames earlier.
#: ``iplap-inference``: at its inference: the same, but frames 0 and 1 hear what frame 2 hears.
SOUNDS = {"iplap": Sound("mel", offset=-2), "iplap-inference": Sound("mel", offset=-2, clamp=True)}
