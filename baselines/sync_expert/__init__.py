"""The lip-sync expert of Wav2Lip: does this mouth say this sound?"""
