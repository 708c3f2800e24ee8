"""SyncTalkFace: Wav2Lip with a memory of lips that sound addresses (Park et al., AAAI 2022)."""
