"""The paper methods, one package each; pure torch."""

from models.registry import Registry

#: Paper methods by name.
METHODS = Registry({"ipl": "models.ipl.method:IPL", "lipformer": "models.lipformer.method:LipFormer"})
