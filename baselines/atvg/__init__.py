"""ATVGnet: a portrait that speaks, by way of landmarks (Chen et al., CVPR 2019)."""
