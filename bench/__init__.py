"""The command, and everything that runs an experiment."""

import os

# OpenMP reads it when torch is loaded: waiting threads sleep, instead of keeping a core from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
