"""The view of Wav2Lip at the size of SyncTalkFace (Park et al., AAAI 2022): 128², with the box of ``face96``."""

from __future__ import annotations

from prep.views.face96 import face_boxes
from prep.views.geometry import BoxView

VIEW = BoxView("face128", 128, 128, "SyncTalkFace: the box of face96, stretched to 128²", face_boxes)
