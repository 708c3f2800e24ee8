"""Wav2Lip: the lower half of a face, generated from sound (Prajwal et al., ACM MM 2020)."""
