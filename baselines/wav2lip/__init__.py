"""Wav2Lip: the lower half of a face, painted anew from sound (Prajwal et al., ACM MM 2020)."""
