"""The paper methods, one package each; pure torch."""

import os

# OpenMP reads it when torch is loaded: waiting threads sleep, instead of keeping a core from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Paper methods by name: where their classes lie.
METHODS = {
    "ipl": "models.ipl.method:IPL",
    "lipformer": "models.lipformer.method:LipFormer",
    "g4g": "models.g4g.method:G4G",
}
