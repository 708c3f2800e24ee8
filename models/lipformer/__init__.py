"""LipFormer: lip codes from speech (Wang et al., CVPR 2023)."""
