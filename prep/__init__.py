"""Preprocessing: licensed corpora in, Parquet shards of landmarks, mel spectrograms and crops out."""

import os

# OpenMP reads it when torch is loaded: waiting threads sleep, instead of keeping a core from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
