"""The lip-sync expert of Wav2Lip: do this mouth and this sound belong together?"""
