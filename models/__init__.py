"""The paper methods, one package each; pure torch."""

#: Paper methods by name: where their classes lie.
METHODS = {
    "ipl": "models.ipl.method:IPL",
    "lipformer": "models.lipformer.method:LipFormer",
}
