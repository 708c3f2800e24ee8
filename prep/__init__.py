"""Preprocessing: licensed corpora in, Parquet shards of landmarks, mel spectrograms and crops out."""
