"""Training: configuration, the runner, checkpoints, the records of a run."""
