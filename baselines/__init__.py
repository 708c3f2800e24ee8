"""The systems that the papers compare with, in the same form as the methods."""

from models.registry import Registry

#: Baselines by name.
METHODS = Registry(
    {
        "wav2lip": "baselines.wav2lip.method:Wav2Lip",
        "sync-expert": "baselines.sync_expert.method:SyncExpert",
    }
)
