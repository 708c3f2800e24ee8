"""The systems that the papers compare with, in the same form as the methods."""

import os

# OpenMP reads it when torch is loaded: waiting threads sleep, instead of keeping a core from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Baselines by name: where their classes lie.
METHODS = {
    "wav2lip": "baselines.wav2lip.method:Wav2Lip",
    "synctalkface": "baselines.synctalkface.method:SyncTalkFace",
    "dinet": "baselines.dinet.method:DINet",
    "atvg": "baselines.atvg.method:Atvg",
    "sync-expert": "baselines.sync_expert.method:SyncExpert",
    "speech": "baselines.speech.method:Speech",
    "sync-cca": "baselines.sync_cca.method:SyncCca",
}
