"""The systems that the papers compare with, in the same form as the methods."""

#: Baselines by name: where their classes lie.
METHODS = {
    "wav2lip": "baselines.wav2lip.method:Wav2Lip",
    "sync-expert": "baselines.sync_expert.method:SyncExpert",
}
